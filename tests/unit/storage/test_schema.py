"""Schema: a database is ours and current, or it is refused and left as it is to the last byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from handshake.kernel.errors import HandshakeError, IntegrityBroken, StateConflict, StoreFailed
from handshake.kernel.settings import RecorderSettings
from handshake.kernel.units import Microseconds
from handshake.storage.files import OsFiles
from handshake.storage.queries import ADDED_TOGETHER, touching_added
from handshake.storage.readonly_store import ReadOnlyStore
from handshake.storage.schema import (
    APPLICATION_ID,
    migrate,
    migrations,
    open_reader,
    open_writer,
    require_engine,
    require_schema,
)
from handshake.storage.signing import SEED_BYTES, SigningKey
from handshake.storage.sqlite_store import Place, SqliteStore, create
from handshake.testing.seeded_chance import SeededChance
from handshake.testing.virtual_clock import VirtualClock

NAME = "state.db"


def place(folder: Path) -> Place:
    return Place(folder / NAME, folder / "artifacts")


def new(folder: Path) -> Place:
    create(place(folder), "schema", Microseconds(0))
    return place(folder)


def changed(folder: Path, *statements: str) -> None:
    """Change a database behind the program's back, and leave it as one file."""
    db = apsw.Connection(str(folder / NAME))
    for statement in statements:
        db.execute(statement).fetchall()
    db.close()


def open_store(folder: Path) -> None:
    """Open the store and never come to use it."""
    SqliteStore(
        place(folder),
        files=OsFiles(),
        clock=VirtualClock(),
        chance=SeededChance(0),
        key=SigningKey("schema", bytes(SEED_BYTES)),
        recorder=RecorderSettings(),
    )


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Return what files hold, without an empty write-ahead log and its index: they say nothing."""
    held = {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")}
    return {name: data for name, data in held.items() if data or not name.endswith("-wal")}


@pytest.mark.parametrize("version", ["3.51.2", "3.7.17", "2.8.17", "3.50.4"])
def test_engine_that_can_lose_data_is_refused(version: str) -> None:
    with pytest.raises(StoreFailed) as refused:
        require_engine(version)
    assert refused.value.context == {"reason": "engine_too_old", "engine": version}


@pytest.mark.parametrize("version", ["3.51.3", "3.51.3.1", "3.52", "4.0.0", apsw.sqlite_lib_version()])
def test_engine_that_is_safe_is_taken(version: str) -> None:
    try:
        require_engine(version)
    except StoreFailed:
        pytest.fail("refused")


def test_new_database_is_marked_current_and_durable(tmp_path: Path) -> None:
    found = new(tmp_path)
    assert list(bytes_of(tmp_path)) == [NAME], "no log is left beside it"
    assert bytes_of(tmp_path)[NAME][68:72] == APPLICATION_ID.to_bytes(4, "big")
    db = open_writer(found.database)
    values = {name: db.pragma(name) for name in ("journal_mode", "synchronous", "foreign_keys", "trusted_schema")}
    assert values == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "trusted_schema": 0}
    assert migrate(db) == 0
    require_schema(db)
    db.close()


def test_opening_changes_nothing(tmp_path: Path) -> None:
    found = new(tmp_path)
    before = bytes_of(tmp_path)
    db = open_writer(found.database)
    assert migrate(db) == 0
    db.close()
    assert bytes_of(tmp_path) == before


def test_database_is_made_once(tmp_path: Path) -> None:
    new(tmp_path)
    before = bytes_of(tmp_path)
    with pytest.raises(StateConflict):
        new(tmp_path)
    assert bytes_of(tmp_path) == before


def test_missing_database_is_not_made_in_silence(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed):
        open_store(tmp_path)
    assert bytes_of(tmp_path) == {}


def test_disk_without_write_ahead_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed) as refused:
        open_writer(tmp_path / NAME, vfs="unix-none", new=True)
    assert refused.value.context["reason"] == "no_write_ahead_log"


def test_reader_cannot_write(tmp_path: Path) -> None:
    db = open_reader(new(tmp_path).database)
    with pytest.raises(apsw.ReadOnlyError):
        db.execute("DELETE FROM workspace")
    db.close()


def test_migrations_are_numbered_without_a_gap() -> None:
    assert [number for number, _, _ in migrations()] == list(range(1, len(migrations()) + 1))


# ── what is refused ────────────────────────────────────────────────────────────────────────────────────────


def garbage(folder: Path) -> None:
    (folder / NAME).write_bytes(bytes(range(256)) * 64)


def text(folder: Path) -> None:
    (folder / NAME).write_bytes(b"not a database")


def nothing(folder: Path) -> None:
    (folder / NAME).write_bytes(b"")


def half(folder: Path) -> None:
    new(folder)
    whole = (folder / NAME).read_bytes()
    (folder / NAME).write_bytes(whole[: len(whole) // 2])


def first_page_only(folder: Path) -> None:
    new(folder)
    (folder / NAME).write_bytes((folder / NAME).read_bytes()[:8192])


def broken_header(folder: Path) -> None:
    new(folder)
    (folder / NAME).write_bytes(b"SQLite format 4\0" + (folder / NAME).read_bytes()[16:])


def other_application(folder: Path) -> None:
    changed(folder, "CREATE TABLE t (a)", "PRAGMA application_id=252006674")


def unmarked(folder: Path) -> None:
    changed(folder, "CREATE TABLE t (a)", "INSERT INTO t VALUES (1)")


def unmarked_with_log(folder: Path) -> None:
    """As `unmarked`, killed before its write-ahead log was copied into it."""
    other = folder / "other"
    other.mkdir()
    db = apsw.Connection(str(other / NAME))
    db.execute("PRAGMA journal_mode=WAL; CREATE TABLE t (a); INSERT INTO t VALUES (1)").fetchall()
    for name in (NAME, f"{NAME}-wal"):
        (folder / name).write_bytes((other / name).read_bytes())
    db.close()
    (other / NAME).unlink()
    other.rmdir()


def marked_without_schema(folder: Path) -> None:
    changed(folder, "CREATE TABLE t (a)", f"PRAGMA application_id={APPLICATION_ID}")


def newer(folder: Path) -> None:
    new(folder)
    changed(folder, "INSERT INTO migration VALUES (9999, 'of the future')")


def other_text(folder: Path) -> None:
    new(folder)
    changed(folder, "UPDATE migration SET sha256 = 'of another text' WHERE number = 1")


def without_log(folder: Path) -> None:
    new(folder)
    changed(folder, "DELETE FROM log_state")


def damaged_log_end(folder: Path) -> None:
    new(folder)
    changed(folder, "UPDATE log_state SET frontier = x'00'")


Make = Callable[[Path], None]
INTEGRITY: dict[Make, dict[str, Any]] = {
    garbage: {"subject": "database", "reason": "NotADBError"},
    text: {"subject": "database", "reason": "NotADBError"},
    broken_header: {"subject": "database", "reason": "NotADBError"},
    half: {"subject": "database", "reason": "CorruptError"},
    first_page_only: {"subject": "database", "reason": "CorruptError"},
    nothing: {"subject": "database", "reason": "foreign_application"},
    other_application: {"subject": "database", "reason": "foreign_application"},
    unmarked: {"subject": "database", "reason": "foreign_application"},
    unmarked_with_log: {"subject": "database", "reason": "foreign_application"},
    newer: {"subject": "database", "reason": "newer_schema", "schema": 9999},
    other_text: {"subject": "database", "reason": "migration_text_differs"},
    without_log: {"subject": "log", "reason": "missing"},
    damaged_log_end: {"subject": "frontier", "reason": "length", "size_bytes": 1},
}


@pytest.mark.parametrize(("make", "context"), INTEGRITY.items(), ids=lambda one: getattr(one, "__name__", ""))
def test_what_is_not_ours_or_not_current_is_refused_untouched(
    make: Make, context: dict[str, Any], tmp_path: Path
) -> None:
    make(tmp_path)
    before = bytes_of(tmp_path)
    with pytest.raises(IntegrityBroken) as refused:
        open_store(tmp_path)
    assert refused.value.context == context
    assert bytes_of(tmp_path) == before


@pytest.mark.parametrize("make", [*INTEGRITY, marked_without_schema], ids=lambda make: make.__name__)
def test_reader_refuses_it_too(make: Make, tmp_path: Path) -> None:
    make(tmp_path)
    before = bytes_of(tmp_path)
    if make in (without_log, damaged_log_end):  # a reader shows what there is; verification says what is wrong
        ReadOnlyStore(place(tmp_path), files=OsFiles()).shut()
    else:
        with pytest.raises(IntegrityBroken):
            ReadOnlyStore(place(tmp_path), files=OsFiles())
    assert bytes_of(tmp_path) == before


def test_mark_without_a_schema_is_refused_untouched(tmp_path: Path) -> None:
    marked_without_schema(tmp_path)
    before = bytes_of(tmp_path)
    with pytest.raises(HandshakeError):
        open_store(tmp_path)
    assert bytes_of(tmp_path) == before


def test_what_refers_to_rows_that_wait_for_the_end_of_a_batch_waits_with_them_or_is_known(tmp_path: Path) -> None:
    """A row that refers to an artifact or a message of its own batch must not come before it."""
    db = open_writer(new(tmp_path).database)
    tables = [row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    waiting = {"artifact", "message"}
    referring = {one for one in tables for key in db.execute(f"PRAGMA foreign_key_list({one})") if key[2] in waiting}
    at_commit = {
        row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE sql LIKE '%artifact (sha256) DEFERRABLE%'")
    }
    db.close()
    assert (referring, at_commit) == ({"message", "job_artifact", "tool_call"}, {"tool_call"})
    assert ADDED_TOGETHER == ("artifact_put", "message_insert")
    assert "job_artifact_put" in touching_added()
    assert not touching_added() & {*ADDED_TOGETHER}
