"""SQLite store: the Store port on one file, with a writer thread, group commit and read-only connections."""

from __future__ import annotations

import asyncio
import queue
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import apsw
import msgspec

from handshake.kernel.errors import HandshakeError, StoreFailed
from handshake.kernel.event import FIRST_PREV_HASH
from handshake.kernel.ids import CHANCE_BITS, uuid7
from handshake.kernel.merkle import Frontier
from handshake.kernel.redaction import KnownValues
from handshake.kernel.settings import (
    MAX_BATCH_UNITS,
    MAX_INLINE_ARTIFACT_BYTES,
    MAX_READ_CONNECTIONS,
    MAX_WAITING_UNITS,
    MIN_FREE_BYTES,
    RecorderSettings,
)
from handshake.kernel.units import Microseconds
from handshake.ports.chance import Chance
from handshake.ports.clock import Clock
from handshake.ports.files import Files
from handshake.ports.store import Content, Follower, Reader, Unit
from handshake.storage.artifacts import ArtifactFiles
from handshake.storage.ballast import Ballast
from handshake.storage.committer import Committer, Outcome
from handshake.storage.event_log import EventLog
from handshake.storage.failures import coded
from handshake.storage.queries import load
from handshake.storage.schema import migrate, open_reader, open_writer
from handshake.storage.signing import SigningKey
from handshake.storage.transaction import SqliteReader, SqliteTx

T = TypeVar("T")
_FREE_SPACE_CHECK_US = 1_000_000
"""How often free space is looked up: once a second costs nothing and a reserve of 64 MiB is not gone in one."""


class Place(msgspec.Struct, frozen=True):
    """Where a workspace keeps its state, and the VFS under it (None for the operating system's)."""

    database: Path
    artifacts: Path
    vfs: str | None = None


def free_bytes_of(folder: Path) -> int:
    """Return how many bytes the file system of `folder` has left."""
    return shutil.disk_usage(folder).free


class Opened(msgspec.Struct, frozen=True, gc=False):
    """A database that is open for writing, and what writes to it."""

    db: apsw.Connection
    committer: Committer
    artifacts: ArtifactFiles


def open_committer(
    db: apsw.Connection,
    artifacts: Path,
    *,
    files: Files,
    clock: Clock,
    chance: Chance,
    key: SigningKey,
    recorder: RecorderSettings,
    known: KnownValues | None = None,
) -> Opened:
    """Bring an open database to the current schema, and return what writes to it; it redacts `known` values.

    Raises:
        IntegrityBroken: it is newer than this program, or holds no workspace.
        apsw.Error: it cannot be read or written.
    """

    def new_id() -> str:
        return uuid7(clock.now_us(), chance.bits(CHANCE_BITS))

    migrate(db)
    kept = ArtifactFiles(files, artifacts, new_id)
    log = EventLog(key, recorder, new_id)
    log.open(db)
    return Opened(db, Committer(db, SqliteTx(db, kept, new_id, known or KnownValues()), log, clock), kept)


class _Work(msgspec.Struct, gc=False):
    unit: Unit[Any]
    outcome: bool
    then: Callable[[Any], None] | None
    answer: asyncio.Future[Any]


class SqliteStore:
    """Durable state in one SQLite file (design §3).

    `write` collects the units of one turn of the event loop and hands them to the writer thread together, which
    commits as many as are waiting, up to `MAX_BATCH_UNITS`, and answers after COMMIT.
    """

    def __init__(
        self,
        place: Place,
        *,
        files: Files,
        clock: Clock,
        chance: Chance,
        key: SigningKey,
        recorder: RecorderSettings,
        known: KnownValues | None = None,
        free_bytes: Callable[[Path], int] = free_bytes_of,
        ballast: Ballast | None = None,
    ) -> None:
        self._place = place
        self._ballast = ballast
        self._free_bytes = free_bytes
        self._clock = clock
        self._idle_readers: list[apsw.Connection] = []
        self._readers = ThreadPoolExecutor(MAX_READ_CONNECTIONS, "handshake-reader")
        try:
            db = open_writer(place.database, vfs=place.vfs)
            try:
                opened = open_committer(
                    db,
                    place.artifacts,
                    files=files,
                    clock=clock,
                    chance=chance,
                    key=key,
                    recorder=recorder,
                    known=known,
                )
                self._near: apsw.Connection = open_reader(place.database, vfs=place.vfs)
            except BaseException:
                db.close()
                raise
        except (apsw.Error, OSError) as failure:
            raise coded(failure) from failure
        self._db = db
        self._committer = opened.committer
        self._artifacts = opened.artifacts
        self._pending: list[_Work] = []
        self._in_flight = 0
        self._closed = False
        self._room: asyncio.Condition | None = None
        self._inbox: queue.SimpleQueue[list[_Work] | None] = queue.SimpleQueue()
        self._free_checked_us = -_FREE_SPACE_CHECK_US
        self._low_on_space = False
        self._thread = threading.Thread(target=self._serve, name="handshake-writer", daemon=True)
        self._thread.start()

    @property
    def batches(self) -> int:
        """Commits so far."""
        return self._committer.batches

    def follow(self, follower: Follower) -> None:
        """Let `follower` take part in every batch from the next on."""
        self._committer.follow(follower)

    async def write(self, unit: Unit[T], *, outcome: bool = False, then: Callable[[T], None] | None = None) -> T:
        """Run `unit` and return its result once it is durable; see `ports.store.Store.write`."""
        loop = asyncio.get_running_loop()
        while self._in_flight >= MAX_WAITING_UNITS and not self._closed:
            await self._wait_for_room()
        self._require_open()
        if not self._pending:
            loop.call_soon(self._hand_over)
        answer: asyncio.Future[T] = loop.create_future()
        self._pending.append(_Work(unit, outcome, then, answer))
        self._in_flight += 1
        return await answer

    async def read(self, query: Callable[[Reader], T]) -> T:
        """Run `query` over one consistent state on another thread."""
        self._require_open()
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read_apart, query)

    def read_now(self, query: Callable[[Reader], T]) -> T:
        """Run a small `query` on the calling thread, which must be the event loop's."""
        self._require_open()
        return self._snapshot(self._near, query)

    async def prepare(self, data: bytes, media_type: str) -> Content:
        """Hash `data`, and make it durable as a file if it is large."""
        if len(data) <= MAX_INLINE_ARTIFACT_BYTES:
            return self._artifacts.keep(data, media_type)
        try:
            return await asyncio.to_thread(self._artifacts.keep, data, media_type)
        except OSError as failure:
            raise coded(failure) from failure

    @property
    def has_room(self) -> bool:
        """Whether new intents are accepted, as it was found for the last batch."""
        return not self._low_on_space

    async def make_room(self) -> bool:
        """Give up the ballast, if there is one."""
        return self._ballast is not None and await asyncio.to_thread(self._ballast.give_up)

    async def close(self) -> None:
        """Commit what was handed in, sign a last checkpoint and close; a second call does nothing."""
        if self._closed:
            return
        self._hand_over()
        self._closed = True
        self._inbox.put(None)
        await asyncio.to_thread(self._shut)

    def _shut(self) -> None:
        """Close readers before the writer, so that the last connection leaves one file and no write-ahead log."""
        self._thread.join()
        self._readers.shutdown()
        for db in (*self._idle_readers, self._near, self._db):
            with suppress(apsw.Error):  # whatever a broken disk answers, the connection is gone
                db.close()

    # -- event loop side ------------------------------------------------------------------------------------

    def _require_open(self) -> None:
        if self._closed:
            raise StoreFailed(reason="closed")

    def _hand_over(self) -> None:
        if self._pending:
            works, self._pending = self._pending, []
            self._inbox.put(works)

    async def _wait_for_room(self) -> None:
        if self._room is None:
            self._room = asyncio.Condition()
        async with self._room:
            await self._room.wait_for(lambda: self._in_flight < MAX_WAITING_UNITS or self._closed)

    def _answer(self, works: list[_Work], outcomes: list[Outcome], told: list[Callable[[], None]]) -> None:
        """Tell of a commit. A callback that raises, which none may, keeps nobody else from an answer."""
        self._in_flight -= len(works)
        bugs: list[Exception] = []
        for tell in told:
            try:
                tell()
            except Exception as bug:  # noqa: BLE001  (it is raised when all are answered)
                bugs.append(bug)
        for work, outcome in zip(works, outcomes, strict=True):
            if work.then is not None and outcome.failure is None:
                try:
                    work.then(outcome.value)
                except Exception as bug:  # noqa: BLE001  (as above)
                    bugs.append(bug)
            if work.answer.done():
                continue
            if outcome.failure is None:
                work.answer.set_result(outcome.value)
            else:
                work.answer.set_exception(outcome.failure)
        if self._room is not None:
            self._telling = asyncio.get_running_loop().create_task(self._tell_room())
        if bugs:
            raise ExceptionGroup("callbacks of a commit", bugs)

    async def _tell_room(self) -> None:
        assert self._room is not None, "someone waited"
        async with self._room:
            self._room.notify_all()

    # -- writer thread --------------------------------------------------------------------------------------

    def _serve(self) -> None:
        stopping = False
        while not stopping:
            first = self._inbox.get()
            works = first or []
            stopping = first is None
            with suppress(queue.Empty):
                while not stopping and len(works) < MAX_BATCH_UNITS:
                    more = self._inbox.get_nowait()
                    stopping = more is None
                    works += more or []
            for start in range(0, len(works), MAX_BATCH_UNITS):
                self._commit(works[start : start + MAX_BATCH_UNITS])
        with suppress(Exception):  # a checkpoint that cannot be signed now is signed at the next start
            self._committer.sign_checkpoint()

    def _commit(self, works: list[_Work]) -> None:
        refused = self._space_is_low()
        taken = [work for work in works if work.outcome or not refused]
        try:
            found = self._committer.commit([work.unit for work in taken]) if taken else []
        except Exception as failure:  # noqa: BLE001  (a bug must not leave callers waiting for ever)
            found = [Outcome(failure=coded(failure)) for _ in taken]
        outcomes = iter(found)
        results = [next(outcomes) if work.outcome or not refused else _no_room() for work in works]
        loop = works[0].answer.get_loop()
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(self._answer, works, results, self._committer.drain_told())

    def _space_is_low(self) -> bool:
        now_us = self._clock.monotonic_us()
        if now_us - self._free_checked_us >= _FREE_SPACE_CHECK_US:
            self._free_checked_us = now_us
            try:
                free_bytes = self._free_bytes(self._place.database.parent)
            except OSError:  # a disk that does not say how much room it has may have none
                free_bytes = 0
            self._low_on_space = free_bytes < MIN_FREE_BYTES
            if self._ballast is not None and free_bytes - self._ballast.size_bytes >= MIN_FREE_BYTES:
                self._ballast.make()
        return self._low_on_space

    # -- reading --------------------------------------------------------------------------------------------

    def _read_apart(self, query: Callable[[Reader], T]) -> T:
        db = self._reader()
        try:
            return self._snapshot(db, query)
        finally:
            self._idle_readers.append(db)

    def _reader(self) -> apsw.Connection:
        with suppress(IndexError):
            return self._idle_readers.pop()
        try:
            return open_reader(self._place.database, vfs=self._place.vfs)
        except apsw.Error as failure:
            raise coded(failure) from failure

    def _snapshot(self, db: apsw.Connection, query: Callable[[Reader], T]) -> T:
        try:
            db.execute("BEGIN").close()
            try:
                return query(SqliteReader(db, self._artifacts))
            finally:
                db.execute("COMMIT").close()
        except HandshakeError:
            raise
        except (apsw.Error, OSError) as failure:
            raise coded(failure) from failure


def _no_room() -> Outcome:
    return Outcome(failure=StoreFailed(reason="disk_nearly_full", min_free_bytes=MIN_FREE_BYTES))


def create(place: Place, workspace_id: str, now_us: Microseconds) -> None:
    """Make the database of a new workspace.

    Raises:
        StateConflict: there is one.
        StoreFailed: it cannot be written.
    """
    try:
        db = open_writer(place.database, vfs=place.vfs, new=True)
        try:
            start(db, workspace_id, now_us)
        finally:
            db.close()
    except (apsw.Error, OSError) as failure:
        raise coded(failure) from failure


def start(db: apsw.Connection, workspace_id: str, now_us: Microseconds) -> None:
    """Lay out an empty database: schema, workspace and an empty log, in one transaction.

    Raises:
        apsw.Error: it cannot be written.
    """
    queries = load()
    with db:
        migrate(db)
        db.execute(queries["workspace_start"], {"workspace_id": workspace_id, "created_at_us": now_us})
        empty = {"size": 0, "last_hash": FIRST_PREV_HASH, "frontier": Frontier().to_bytes()}
        db.execute(queries["log_state_start"], empty)
