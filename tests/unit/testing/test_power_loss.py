"""Databases on the simulated disk: it must lose what SQLite does not promise, and nothing that it does."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

from handshake.kernel.units import Bytes
from handshake.testing.power_loss import Disk

COMMITS = 6
ROWS = 3
"""Rows of one commit, each on an overflow page of its own."""
SEEDS = 60
CUT_SEEDS = 3

WAL_FULL = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=12"
WAL_NORMAL = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=20"
DELETE_EXTRA = "PRAGMA journal_mode=DELETE; PRAGMA synchronous=EXTRA"
DELETE_FULL = "PRAGMA journal_mode=DELETE; PRAGMA synchronous=FULL"
DELETE_OFF = "PRAGMA journal_mode=DELETE; PRAGMA synchronous=OFF"


@contextmanager
def connected(disk: Disk, settings: str = "") -> Iterator[apsw.Connection]:
    db = apsw.Connection(str(disk.root / "state.db"), vfs=disk.vfs)
    try:
        db.execute(settings).fetchall()
        yield db
    finally:
        db.close()


def insert(db: apsw.Connection, number: int) -> None:
    """Commit the rows of one number, or raise and leave no transaction open."""
    try:
        db.execute("BEGIN IMMEDIATE").close()
        for row in range(ROWS):
            db.execute("INSERT INTO kept VALUES (?, ?, ?)", (number, row, bytes([number]) * 5000)).close()
        db.execute("COMMIT").close()
    except apsw.Error:
        if db.in_transaction:
            db.execute("ROLLBACK").close()
        raise


def commit_all(db: apsw.Connection) -> Iterator[int]:
    """Commit one after the other, and yield the number of each once SQLite has acknowledged it."""
    db.execute("CREATE TABLE kept (number INT, row INT, body BLOB)").close()
    for number in range(COMMITS):
        insert(db, number)
        yield number


def found(disk: Disk) -> list[int]:
    """Return the numbers of the commits in a database that is sound and holds each commit whole."""
    with connected(disk) as db:
        assert db.execute("PRAGMA integrity_check").get == "ok"
        if not db.execute("SELECT count(*) FROM sqlite_schema").get:
            return []
        rows: list[tuple[Any, ...]] = db.execute(
            "SELECT number, count(*), min(body), max(body) FROM kept GROUP BY 1 ORDER BY 1"
        ).fetchall()
        for number, count, least, most in rows:
            assert (count, least, most) == (ROWS, bytes([number]) * 5000, bytes([number]) * 5000)
        return [row[0] for row in rows]


def lost(settings: str, tmp_path: Path) -> list[set[int]]:
    """Return what a power loss right after the last commit took, for each seed."""
    disk = Disk(tmp_path / "before")
    with connected(disk, settings) as db:
        acknowledged = set(commit_all(db))
        after = [disk.power_loss(tmp_path / f"after-{seed}", seed=seed) for seed in range(SEEDS)]
    return [acknowledged - set(found(one)) for one in after]


def operations(settings: str, path: Path) -> int:
    """Return how many operations the whole workload takes, closing included."""
    disk = Disk(path)
    with connected(disk, settings) as db:
        assert list(commit_all(db)) == list(range(COMMITS))
    return disk.operations


def test_wal_with_normal_loses_acknowledged_commits(tmp_path: Path) -> None:
    fates = lost(WAL_NORMAL, tmp_path)
    assert any(fates)
    assert not all(fates)


def test_wal_with_full_loses_nothing(tmp_path: Path) -> None:
    assert not any(lost(WAL_FULL, tmp_path))


def test_deleted_journal_can_come_back_unless_its_folder_is_synced(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "extra").mkdir()
    assert any(lost(DELETE_FULL, tmp_path / "full"))
    assert not any(lost(DELETE_EXTRA, tmp_path / "extra"))


def is_sound(disk: Disk) -> bool:
    try:
        return found(disk) is not None
    except (apsw.CorruptError, apsw.NotADBError, AssertionError):
        return False


def test_pages_are_torn(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "before")
    with connected(disk) as db:
        db.execute("CREATE TABLE kept (number INT, row INT, body BLOB)").close()
        db.execute("INSERT INTO kept VALUES (0, 0, ?)", (b"o" * 3500,)).close()
        db.execute("PRAGMA synchronous=OFF").close()
        db.execute("UPDATE kept SET body = ?", (b"n" * 3500,)).close()
        after = [disk.power_loss(tmp_path / f"after-{seed}", seed=seed) for seed in range(SEEDS)]
    contents = [(one.root / "state.db").read_bytes() for one in after]
    assert any(b"o" * 512 in one and b"n" * 512 in one for one in contents)


def test_database_without_syncs_is_broken(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "before")
    with connected(disk, DELETE_OFF) as db:
        assert list(commit_all(db)) == list(range(COMMITS))
        after = [disk.power_loss(tmp_path / f"after-{seed}", seed=seed) for seed in range(SEEDS)]
    assert not all(is_sound(one) for one in after)


@pytest.mark.parametrize("settings", [WAL_FULL, DELETE_EXTRA])
def test_no_cut_takes_what_was_acknowledged(settings: str, tmp_path: Path) -> None:
    total = operations(settings, tmp_path / "whole")
    for operation in range(1, total + 1):
        disk = Disk(tmp_path / f"{operation}")
        disk.cut_at(operation)
        acknowledged: list[int] = []
        try:
            with connected(disk, settings) as db:
                acknowledged.extend(commit_all(db))
        except (apsw.IOError, apsw.CantOpenError):
            assert disk.is_dead
        assert disk.is_dead
        for seed in range(CUT_SEEDS):
            numbers = found(disk.power_loss(tmp_path / f"{operation}-{seed}", seed=seed))
            assert numbers in (acknowledged, [*acknowledged, len(acknowledged)])


def numbers_in(db: apsw.Connection) -> list[int]:
    return [row[0] for row in db.execute("SELECT number FROM kept GROUP BY 1 ORDER BY 1")]


def insert_in_trouble(db: apsw.Connection) -> list[int]:
    """Try every commit; return those that SQLite acknowledged."""
    acknowledged = []
    for number in range(COMMITS):
        try:
            insert(db, number)
        except (apsw.FullError, apsw.IOError, apsw.CantOpenError):
            assert not db.in_transaction
        else:
            acknowledged.append(number)
    return acknowledged


# A rollback journal is no match for I/O errors: the commit stands once it is removed, even if what follows fails.
@pytest.mark.parametrize(
    ("trouble", "settings"), [("fill_at", WAL_FULL), ("break_at", WAL_FULL), ("fill_at", DELETE_EXTRA)]
)
def test_refused_commit_is_whole_at_every_operation(trouble: str, settings: str, tmp_path: Path) -> None:
    total = operations(settings, tmp_path / "whole")
    refusals = 0
    for operation in range(1, total):
        disk = Disk(tmp_path / f"{operation}")
        with connected(disk, settings) as db:
            db.execute("CREATE TABLE kept (number INT, row INT, body BLOB)").close()
            getattr(disk, trouble)(disk.operations + operation)
            acknowledged = insert_in_trouble(db)
            disk.lift()
            assert numbers_in(db) == acknowledged
            insert(db, COMMITS)
        refusals += COMMITS - len(acknowledged)
        assert found(disk) == [*acknowledged, COMMITS]
    assert refusals > total


def test_space_that_ends_inside_a_write_refuses_it_whole(tmp_path: Path) -> None:
    seen = set()
    for quota in range(30_000, 160_000, 1_700):
        disk = Disk(tmp_path / f"{quota}")
        with connected(disk, WAL_FULL) as db:
            db.execute("CREATE TABLE kept (number INT, row INT, body BLOB)").close()
            disk.limit(Bytes(quota))
            acknowledged = insert_in_trouble(db)
            assert numbers_in(db) == acknowledged
            assert sum(path.stat().st_size for path in disk.root.glob("state.db*") if path.suffix != ".db-shm") <= quota
            disk.lift()
        assert found(disk) == acknowledged
        seen.add(len(acknowledged))
    assert {0, COMMITS} < seen


def test_what_a_failed_sync_dropped_is_not_acknowledged_later(tmp_path: Path) -> None:
    total = operations(WAL_FULL, tmp_path / "whole")
    for operation in range(1, total):
        disk = Disk(tmp_path / f"{operation}", seed=operation)
        with connected(disk, WAL_FULL) as db:
            db.execute("CREATE TABLE kept (number INT, row INT, body BLOB)").close()
            disk.break_at(disk.operations + operation)
            acknowledged = set(insert_in_trouble(db))
            disk.lift()
            insert(db, COMMITS)
            after = disk.power_loss(tmp_path / f"{operation}-after")
        assert acknowledged | {COMMITS} <= set(found(after))


def test_readers_see_commits_while_one_writes(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    with connected(disk, WAL_FULL) as db:
        db.execute("CREATE TABLE kept (number INT, row INT, body BLOB)").close()
        name = str(disk.root / "state.db")
        readers = [apsw.Connection(name, apsw.SQLITE_OPEN_READONLY, vfs=disk.vfs) for _ in range(3)]
        readers[0].execute("BEGIN").close()
        assert numbers_in(readers[0]) == []
        insert(db, 0)
        assert [numbers_in(one) for one in readers] == [[], [0], [0]]
        with pytest.raises(apsw.ReadOnlyError):
            readers[1].execute("DELETE FROM kept")
        readers[0].execute("COMMIT").close()
        assert numbers_in(readers[0]) == [0]
        for one in readers:
            one.close()


def test_threads_share_a_disk(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "before")
    with connected(disk, WAL_FULL) as db:
        db.execute("CREATE TABLE kept (number INT, row INT, body BLOB)").close()

    def write(numbers: range) -> list[int]:
        with connected(disk, WAL_FULL) as own:
            own.set_busy_timeout(60_000)
            for number in numbers:
                insert(own, number)
                disk.files.write_new(disk.root / f"{number}", b"x")
        return list(numbers)

    with ThreadPoolExecutor(4) as threads:
        written = list(threads.map(write, [range(start, 40, 4) for start in range(4)]))
    disk.files.sync_folder(disk.root)
    after = disk.power_loss(tmp_path / "after")
    assert sorted(number for part in written for number in part) == list(range(40)) == found(after)
    assert all((after.root / f"{number}").read_bytes() == b"x" for number in range(40))


def test_failing_checkpoint_does_not_fail_the_commit_before_it(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    with connected(disk, "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0") as db:
        db.execute("CREATE TABLE kept (number INT, row INT, body BLOB)").close()
        insert(db, 0)
        before = disk.operations
        insert(db, 1)
        one_commit = disk.operations - before
        db.wal_autocheckpoint(1)
        disk.break_at(disk.operations + one_commit + 1)
        insert(db, 2)
        assert disk.operations > before + 2 * one_commit
        assert numbers_in(db) == [0, 1, 2]
        disk.lift()


def test_same_seed_means_the_same_fate(tmp_path: Path) -> None:
    def fates(path: Path) -> tuple[int, list[list[int]]]:
        disk = Disk(path / "before")
        with connected(disk, WAL_NORMAL) as db:
            assert list(commit_all(db)) == list(range(COMMITS))
            after = [disk.power_loss(path / f"{seed}", seed=seed) for seed in range(SEEDS)]
        return disk.operations, [found(one) for one in after]

    assert fates(tmp_path / "a") == fates(tmp_path / "b")


def test_database_outside_every_disk_is_refused(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "disk")
    with pytest.raises(apsw.CantOpenError):
        apsw.Connection(str(tmp_path / "state.db"), vfs=disk.vfs)
    apsw.Connection(str(disk.root / "past.db")).execute("CREATE TABLE t (a)").connection.close()
    with pytest.raises(apsw.CantOpenError):
        apsw.Connection(str(disk.root / "past.db"), vfs=disk.vfs)


def test_dead_disk_cannot_be_opened_or_read(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "before")
    with connected(disk, WAL_FULL) as db:
        list(commit_all(db))
        after = disk.power_loss(tmp_path / "after")
        with pytest.raises(apsw.IOError):
            insert(db, COMMITS)
        with pytest.raises(apsw.CantOpenError):
            apsw.Connection(str(disk.root / "state.db"), vfs=disk.vfs)
    assert found(after) == list(range(COMMITS))
    with connected(after) as db:
        insert(db, COMMITS)
    assert found(after.power_loss(tmp_path / "later")) == list(range(COMMITS + 1))
