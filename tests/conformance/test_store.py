"""The store port: on a disk, on a simulated disk and in memory it keeps one contract."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from handshake.kernel.errors import IntegrityBroken
from handshake.kernel.ids import ArtifactId
from handshake.kernel.settings import MAX_INLINE_ARTIFACT_BYTES, RecorderSettings
from handshake.ports.store import Store
from handshake.storage.files import OsFiles
from handshake.storage.signing import SEED_BYTES, SigningKey
from handshake.storage.sqlite_store import Place, SqliteStore, create
from handshake.testing import store_conformance
from handshake.testing.memory_store import MemoryStore
from handshake.testing.power_loss import Disk
from handshake.testing.seeded_chance import SeededChance
from handshake.testing.serial_store import SerialStore
from handshake.testing.virtual_clock import VirtualClock
from tests.requirement import requirement

KEY = SigningKey("handshake.log/conformance", bytes(SEED_BYTES))


def on_files(folder: Path) -> SqliteStore:
    place = Place(folder / "state.db", folder / "artifacts")
    clock = VirtualClock()
    create(place, "conformance", clock.now_us())
    return SqliteStore(
        place, files=OsFiles(), clock=clock, chance=SeededChance(1), key=KEY, recorder=RecorderSettings()
    )


def on_simulated_disk(folder: Path) -> SerialStore:
    disk = Disk(folder)
    place = Place(disk.root / "state.db", disk.root / "artifacts", disk.vfs)
    clock = VirtualClock()
    create(place, "conformance", clock.now_us())
    return SerialStore.open(
        place, files=disk.files, clock=clock, chance=SeededChance(1), key=KEY, recorder=RecorderSettings()
    )


STORES: dict[str, Callable[[Path], Store]] = {
    "files": on_files,
    "simulated": on_simulated_disk,
    "memory": lambda _: MemoryStore(),
}


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    opened = STORES[request.param](tmp_path)
    yield opened
    await opened.close()


@requirement("recorder.atomic")
@pytest.mark.parametrize("check_contract", store_conformance.CHECKS, ids=lambda check: check.__name__)
async def test_store_keeps_its_contract(check_contract: Callable[[Store], Awaitable[None]], store: Store) -> None:
    await check_contract(store)


LARGE = bytes(range(256)) * (MAX_INLINE_ARTIFACT_BYTES // 256) + b"one more"


async def stored(store: Store, data: bytes) -> ArtifactId:
    content = await store.prepare(data, "application/octet-stream")
    await store.write(lambda tx: tx.put(content))
    return content.artifact_id


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "artifacts").rglob("*") if path.is_file())


async def test_large_artifact_is_a_file_and_a_small_one_is_not(tmp_path: Path) -> None:
    store = on_files(tmp_path)
    await stored(store, LARGE[::-1][:MAX_INLINE_ARTIFACT_BYTES])
    assert files_below(tmp_path) == []
    artifact_id = await stored(store, LARGE)
    assert files_below(tmp_path) == [tmp_path / "artifacts" / artifact_id[:2] / artifact_id[2:]]
    assert files_below(tmp_path)[0].read_bytes() == LARGE
    assert LARGE[:1000] not in (tmp_path / "state.db").read_bytes() + (tmp_path / "state.db-wal").read_bytes()
    await store.close()


def overwrite(path: Path) -> None:
    path.write_bytes(b"x" + LARGE[1:])


def cut(path: Path) -> None:
    path.write_bytes(LARGE[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def remove(path: Path) -> None:
    path.unlink()


def link(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


REPLACEABLE = (overwrite, cut, empty, remove, link, make_pipe)


@pytest.mark.parametrize("alter", [*REPLACEABLE, make_folder], ids=lambda alter: alter.__name__)
async def test_artifact_that_was_altered_on_disk_is_not_given_out(
    alter: Callable[[Path], object], tmp_path: Path
) -> None:
    store = on_files(tmp_path)
    artifact_id = await stored(store, LARGE)
    alter(files_below(tmp_path)[0])
    with pytest.raises(IntegrityBroken) as broken:
        await store.read(lambda reader: reader.artifact(artifact_id))
    assert broken.value.context["artifact_id"] == artifact_id
    with pytest.raises(IntegrityBroken):
        await store.write(lambda tx: tx.artifact(artifact_id))
    await store.close()


@pytest.mark.parametrize("alter", REPLACEABLE, ids=lambda alter: alter.__name__)
async def test_content_that_is_kept_again_can_be_read_again(alter: Callable[[Path], None], tmp_path: Path) -> None:
    store = on_files(tmp_path)
    artifact_id = await stored(store, LARGE)
    alter(files_below(tmp_path)[0])
    assert await stored(store, LARGE) == artifact_id
    assert await store.read(lambda reader: reader.artifact(artifact_id)) == LARGE
    await store.close()


async def test_row_of_an_artifact_that_was_altered_is_not_given_out(tmp_path: Path) -> None:
    store = MemoryStore()
    artifact_id = await stored(store, b"small")
    store.opened.db.execute("UPDATE artifact SET data = ?", (b"other",))
    with pytest.raises(IntegrityBroken):
        await store.read(lambda reader: reader.artifact(artifact_id))
