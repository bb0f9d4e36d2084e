"""Read-only store: it sees every commit of a runtime beside it, one state per query, and changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from handshake.kernel.errors import NotFound, StateConflict, StoreFailed
from handshake.kernel.settings import MAX_INLINE_ARTIFACT_BYTES, RecorderSettings
from handshake.ports.store import Reader
from handshake.storage.files import OsFiles
from handshake.storage.readonly_store import ReadOnlyStore
from handshake.storage.signing import SEED_BYTES, SigningKey
from handshake.storage.sqlite_store import Place, SqliteStore, create
from handshake.testing.seeded_chance import SeededChance
from handshake.testing.store_conformance import number, numbers_told, state_and_evidence
from handshake.testing.virtual_clock import VirtualClock
from tests.requirement import requirement

LARGE = b"x" * (MAX_INLINE_ARTIFACT_BYTES + 1)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = Place(tmp_path / "state.db", tmp_path / "artifacts")
    create(found, "read-only", VirtualClock().now_us())
    return found


@pytest.fixture
async def writer(place: Place) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(
        place,
        files=OsFiles(),
        clock=VirtualClock(),
        chance=SeededChance(0),
        key=SigningKey("read-only", bytes(SEED_BYTES)),
        recorder=RecorderSettings(),
    )
    yield store
    await store.close()


def reader_of(place: Place) -> ReadOnlyStore:
    return ReadOnlyStore(place, files=OsFiles())


@requirement("recorder.read.while_writing")
async def test_reader_sees_every_commit_of_a_runtime_beside_it(place: Place, writer: SqliteStore) -> None:
    reader = reader_of(place)
    for value in range(1, 30):
        await writer.write(state_and_evidence(value))
        assert reader.read_now(numbers_told) == list(range(1, value + 1))
    reader.shut()


@requirement("recorder.read.while_writing")
async def test_query_sees_one_state(place: Place, writer: SqliteStore) -> None:
    reader = reader_of(place)
    await writer.write(state_and_evidence(1))
    between = asyncio.Event()
    loop = asyncio.get_running_loop()

    def query(one: Reader) -> tuple[int, int]:
        before = number(one, "2")
        asyncio.run_coroutine_threadsafe(writer.write(state_and_evidence(2)), loop).result(20)
        loop.call_soon_threadsafe(between.set)
        return before, number(one, "2")

    assert await reader.read(query) == (0, 0)
    assert between.is_set()
    assert reader.read_now(lambda one: number(one, "2")) == 2
    reader.shut()


async def test_many_queries_at_once_take_turns(place: Place, writer: SqliteStore) -> None:
    await writer.write(state_and_evidence(1))
    reader = reader_of(place)
    assert await asyncio.gather(*(reader.read(numbers_told) for _ in range(50))) == [[1]] * 50
    reader.shut()


async def test_reader_does_not_write_and_does_not_stop_the_writer(place: Place, writer: SqliteStore) -> None:
    reader = reader_of(place)
    parameters = {"subject": "a", "sha256": "b", "at_us": 0}
    with pytest.raises(StoreFailed):
        reader.read_now(lambda one: one.row("declaration_put", parameters))

    def failing(one: Reader) -> None:
        raise StateConflict(reason="query")

    with pytest.raises(StateConflict):
        await reader.read(failing)
    assert await writer.write(state_and_evidence(1)) == 1
    assert reader.read_now(lambda one: number(one, "a")) == 0
    reader.shut()


async def test_artifacts_are_read_from_rows_and_files(place: Place, writer: SqliteStore) -> None:
    reader = reader_of(place)
    for data in (b"small", LARGE):
        content = await writer.prepare(data, "text/plain")
        assert reader.artifact(content.artifact_id) is None
        await writer.write(lambda tx, one=content: tx.put(one))  # type: ignore[misc]
        assert reader.artifact(content.artifact_id) == data
    reader.shut()


async def test_workspace_that_was_killed_is_read_from_its_log(
    place: Place, writer: SqliteStore, tmp_path: Path
) -> None:
    await writer.write(state_and_evidence(1))
    killed = Place(tmp_path / "killed" / "state.db", tmp_path / "artifacts")
    copy_as_killed(place, killed)
    reader = reader_of(killed)
    assert reader.read_now(numbers_told) == [1]
    reader.shut()


def copy_as_killed(place: Place, killed: Place) -> None:
    """Copy what a process that is killed now would leave: the file and its log, not the index in memory."""
    killed.database.parent.mkdir()
    for suffix in ("", "-wal"):
        source = place.database.with_name(place.database.name + suffix)
        killed.database.with_name(source.name).write_bytes(source.read_bytes())


def test_missing_database_is_not_found_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        reader_of(Place(tmp_path / "state.db", tmp_path / "artifacts"))
    assert list(tmp_path.iterdir()) == []


def test_shut_reader_refuses(place: Place) -> None:
    reader = reader_of(place)
    reader.shut()
    reader.shut()
    with pytest.raises(StoreFailed):
        reader.read_now(numbers_told)
