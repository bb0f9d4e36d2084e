"""Schema: opens SQLite as this product needs it, and brings the database to the current schema.

Source:
    design §3; SQLite before 3.51.3 can corrupt a database when its WAL is reset, and is refused.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import Path
from typing import Any

import apsw

from handshake.kernel.errors import IntegrityBroken, StateConflict, StoreFailed
from handshake.kernel.settings import BUSY_TIMEOUT_MS, PAGE_BYTES, PAGE_CACHE_KIB, WAL_AUTOCHECKPOINT_PAGES

OLDEST_ENGINE = (3, 51, 3)
APPLICATION_ID = 0x48534B31
"""Marks a database file as Handshake's ("HSK1")."""

_MIGRATIONS = "CREATE TABLE IF NOT EXISTS migration (number INTEGER PRIMARY KEY, sha256 TEXT NOT NULL) STRICT"


def engine_version() -> str:
    """Return the version of the SQLite library in use."""
    return apsw.sqlite_lib_version()


def require_engine(version: str) -> None:
    """Refuse a SQLite library that is too old to be safe.

    Raises:
        StoreFailed: older than `OLDEST_ENGINE`.
    """
    if tuple(int(part) for part in version.split(".")[:3]) < OLDEST_ENGINE:
        raise StoreFailed(reason="engine_too_old", engine=version)


def open_writer(path: Path, *, vfs: str | None = None, new: bool = False) -> apsw.Connection:
    """Return the one connection that writes: WAL, synchronous=FULL, foreign keys on.

    A file that is refused is left as it is, to the last byte.

    Args:
        path: the database file, or `:memory:`.
        vfs: the SQLite VFS to open it by; None for the operating system's.
        new: there must be nothing yet; otherwise there must be a database of this program's.

    Raises:
        IntegrityBroken: the file is another program's, or newer than this program.
        StateConflict: it is to be new, and is not.
        StoreFailed: the disk cannot have a write-ahead log.
        apsw.Error: it cannot be opened, or is no database.
    """
    require_engine(engine_version())
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOMUTEX | (apsw.SQLITE_OPEN_CREATE if new else 0)
    db = apsw.Connection(str(path), flags=flags, vfs=vfs)
    try:
        db.set_busy_timeout(BUSY_TIMEOUT_MS)
        db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        if new:
            _require_empty(db)
        else:
            _require_ours(db)
        db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
        _configure(db)
    except BaseException:
        db.close()
        raise
    return db


def _require_empty(db: apsw.Connection) -> None:
    if db.pragma("application_id") or db.pragma("schema_version"):
        raise StateConflict(subject="database", reason="exists")


def _require_ours(db: apsw.Connection) -> None:
    if db.pragma("application_id") != APPLICATION_ID:  # 0 as well: a database that nobody marked is not ours
        raise IntegrityBroken(subject="database", reason="foreign_application")
    _require_known(_applied(db))


def _configure(db: apsw.Connection) -> None:
    """Make commits durable and the log a WAL: the other journals can lose a commit that was acknowledged."""
    _keep_plans(db)
    db.execute(f"PRAGMA page_size={PAGE_BYTES}").fetchall()
    mode: Any = db.execute("PRAGMA journal_mode=WAL").fetchone()
    if mode[0] not in ("wal", "memory"):
        raise StoreFailed(reason="no_write_ahead_log", journal_mode=str(mode[0]))
    for pragma in (
        "synchronous=FULL",
        "foreign_keys=ON",
        "trusted_schema=OFF",
        "temp_store=MEMORY",
        f"cache_size=-{PAGE_CACHE_KIB}",
        f"wal_autocheckpoint={WAL_AUTOCHECKPOINT_PAGES}",
    ):
        db.execute(f"PRAGMA {pragma}").fetchall()


def _keep_plans(db: apsw.Connection) -> None:
    """Plan each statement once: without this, a join is planned anew at every use, which costs more than to run it."""
    db.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)


def open_reader(path: Path, *, vfs: str | None = None) -> apsw.Connection:
    """Return a connection that can only read; it sees every commit and never stops the writer."""
    require_engine(engine_version())
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, vfs=vfs)
    db.set_busy_timeout(BUSY_TIMEOUT_MS)
    _keep_plans(db)
    db.execute("PRAGMA query_only=ON").fetchall()
    db.execute("PRAGMA trusted_schema=OFF").fetchall()
    return db


def migrations() -> list[tuple[int, str, str]]:
    """Return all migrations as (number, sha256 of the text, text), in order."""
    folder = files("handshake.storage") / "sql" / "migrations"
    found = []
    for file in folder.iterdir():
        if file.name.endswith(".sql"):
            text = file.read_text(encoding="utf-8")
            found.append((int(file.name[:4]), hashlib.sha256(text.encode()).hexdigest(), text))
    return sorted(found)


def migrate(db: apsw.Connection) -> int:
    """Bring the database to the current schema, in one transaction; return how many steps were taken.

    Raises:
        IntegrityBroken: the database is newer than this program, or a step it took has another text here.
    """
    with db:
        db.execute(_MIGRATIONS)
        applied = _applied(db)
        _require_known(applied)
        pending = [step for step in migrations() if step[0] not in applied]
        if pending:
            db.execute(f"PRAGMA application_id={APPLICATION_ID}")
        for number, digest, text in pending:
            db.execute(text)
            db.execute("INSERT INTO migration (number, sha256) VALUES (?, ?)", (number, digest))
    return len(pending)


def _require_known(applied: dict[int, str]) -> None:
    """Refuse a schema that this program does not come from.

    Raises:
        IntegrityBroken: it is newer, or a step it took has another text here.
    """
    known = {number: digest for number, digest, _ in migrations()}
    if set(applied) - set(known):
        raise IntegrityBroken(subject="database", reason="newer_schema", schema=max(applied))
    if any(known[number] != digest for number, digest in applied.items()):
        raise IntegrityBroken(subject="database", reason="migration_text_differs")


def require_schema(db: apsw.Connection, *, any_age: bool = False) -> None:
    """Refuse to read a database whose schema is not this program's, or with `any_age` one that does not lead to it.

    Raises:
        IntegrityBroken: never set up, newer, or older.
    """
    try:
        applied = _applied(db)
    except apsw.SQLError as missing:
        raise IntegrityBroken(subject="database", reason="no_schema") from missing
    _require_known(applied)
    if not any_age and applied != {number: digest for number, digest, _ in migrations()}:
        raise IntegrityBroken(
            hint="Open it once for work, as `handshake queue run` does; that brings it up to date.",
            subject="database",
            reason="older_schema",
            schema=max(applied, default=0),
        )


def _applied(db: apsw.Connection) -> dict[int, str]:
    rows: list[tuple[Any, ...]] = db.execute("SELECT number, sha256 FROM migration").fetchall()
    return {number: digest for number, digest in rows}  # noqa: C416  (the rows are typed as any tuple)
