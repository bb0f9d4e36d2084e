"""Serial store: the Store port on the calling thread, over any disk; the same calls give the same commits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

import apsw
import msgspec

from handshake.kernel.errors import HandshakeError, StoreFailed
from handshake.kernel.settings import MAX_BATCH_UNITS, MIN_FREE_BYTES, RecorderSettings
from handshake.ports.chance import Chance
from handshake.ports.clock import Clock
from handshake.ports.files import Files
from handshake.ports.store import Content, Follower, Reader, Unit
from handshake.storage.ballast import Ballast
from handshake.storage.committer import Outcome
from handshake.storage.failures import coded
from handshake.storage.schema import open_writer
from handshake.storage.signing import SigningKey
from handshake.storage.sqlite_store import Opened, Place, open_committer
from handshake.storage.transaction import SqliteReader

T = TypeVar("T")
_ENDLESS_BYTES = 1 << 60


class _Work(msgspec.Struct, gc=False):
    unit: Unit[Any]
    outcome: bool
    then: Callable[[Any], None] | None
    answer: asyncio.Future[Any]


class SerialStore:
    """Durable state without a thread: the units of one turn of the event loop share a commit, in their order.

    It runs the same SQL in the same transactions as `storage.sqlite_store`; what it leaves out is the thread,
    and with it every order of things that nobody can repeat.
    """

    def __init__(
        self,
        opened: Opened,
        *,
        database: Path = Path(),
        free_bytes: Callable[[Path], int] | None = None,
        batch_units: int = MAX_BATCH_UNITS,
        ballast: Ballast | None = None,
    ) -> None:
        """Take over an open database.

        Args:
            opened: the database and its committer, as `open_committer` gives them.
            database: where it lies, for `free_bytes`.
            free_bytes: how much room its disk has, asked before each batch; None for endless room.
            batch_units: most units of one commit.
            ballast: what is given up when the disk is full.
        """
        self.opened = opened
        self._database = database
        self._free_bytes = free_bytes
        self._batch_units = batch_units
        self._ballast = ballast
        self._pending: list[_Work] = []
        self._closed = False

    @classmethod
    def open(
        cls,
        place: Place,
        *,
        files: Files,
        clock: Clock,
        chance: Chance,
        key: SigningKey,
        recorder: RecorderSettings,
        free_bytes: Callable[[Path], int] | None = None,
        checkpoint_pages: int | None = None,
        ballast: Ballast | None = None,
    ) -> Self:
        """Open a workspace's database as `storage.sqlite_store.SqliteStore` does.

        `checkpoint_pages` is the length at which the write-ahead log is copied into the database, if it is not to
        be as shipped.

        Raises:
            IntegrityBroken, StoreFailed: it cannot be opened.
        """
        try:
            db = open_writer(place.database, vfs=place.vfs)
            try:
                if checkpoint_pages is not None:
                    db.wal_autocheckpoint(checkpoint_pages)
                opened = open_committer(
                    db, place.artifacts, files=files, clock=clock, chance=chance, key=key, recorder=recorder
                )
            except BaseException:
                db.close()
                raise
        except (apsw.Error, OSError) as failure:
            raise coded(failure) from failure
        return cls(opened, database=place.database, free_bytes=free_bytes, ballast=ballast)

    @property
    def commits(self) -> int:
        """How many transactions were committed."""
        return self.opened.committer.batches

    def follow(self, follower: Follower) -> None:
        """Let `follower` take part in every batch from the next on."""
        self.opened.committer.follow(follower)

    async def write(self, unit: Unit[T], *, outcome: bool = False, then: Callable[[T], None] | None = None) -> T:
        """Run `unit` with the others of this turn of the loop, and return its result once it is durable."""
        self._require_open()
        loop = asyncio.get_running_loop()
        if not self._pending:
            loop.call_soon(self._commit)
        answer: asyncio.Future[T] = loop.create_future()
        self._pending.append(_Work(unit, outcome, then, answer))
        return await answer

    async def read(self, query: Callable[[Reader], T]) -> T:
        """Run `query` over what is committed."""
        return self.read_now(query)

    def read_now(self, query: Callable[[Reader], T]) -> T:
        """Run `query` over what is committed; it cannot change anything."""
        self._require_open()
        db = self.opened.db
        try:
            db.execute("PRAGMA query_only=ON").close()
            db.execute("BEGIN").close()
            try:
                return query(SqliteReader(db, self.opened.artifacts))
            finally:
                db.execute("COMMIT").close()
        except HandshakeError:
            raise
        except (apsw.Error, OSError) as failure:
            raise coded(failure) from failure
        finally:
            db.execute("PRAGMA query_only=OFF").close()

    async def prepare(self, data: bytes, media_type: str) -> Content:
        """Hash `data`, and write it as a file if it is large."""
        try:
            return self.opened.artifacts.keep(data, media_type)
        except OSError as failure:
            raise coded(failure) from failure

    @property
    def has_room(self) -> bool:
        """Whether new intents are accepted now."""
        return not self._space_is_low()

    async def make_room(self) -> bool:
        """Give up the ballast, if there is one."""
        return self._ballast is not None and self._ballast.give_up()

    async def close(self) -> None:
        """Commit what was handed in, sign a last checkpoint and close; a second call does nothing."""
        if self._closed:
            return
        self._commit()
        self._closed = True
        with suppress(Exception):  # what cannot be signed now is signed at the next start
            self.opened.committer.sign_checkpoint()
        with suppress(apsw.Error):
            self.opened.db.close()

    def _require_open(self) -> None:
        if self._closed:
            raise StoreFailed(reason="closed")

    def _commit(self) -> None:
        works, self._pending = self._pending, []
        for start in range(0, len(works), self._batch_units):
            self._commit_batch(works[start : start + self._batch_units])

    def _commit_batch(self, works: list[_Work]) -> None:
        refused = self._space_is_low()
        self._make_ballast()
        taken = [work for work in works if work.outcome or not refused]
        outcomes = self.opened.committer.commit([work.unit for work in taken]) if taken else []
        for tell in self.opened.committer.drain_told():
            works[0].answer.get_loop().call_soon(tell)
        for work, outcome in zip(taken, outcomes, strict=True):
            _answer(work, outcome)
        for work in works:
            if refused and not work.outcome:
                _answer(work, Outcome(failure=StoreFailed(reason="disk_nearly_full", min_free_bytes=MIN_FREE_BYTES)))

    def _space_is_low(self) -> bool:
        return self._free() < MIN_FREE_BYTES

    def _make_ballast(self) -> None:
        if self._ballast is not None and self._free() - self._ballast.size_bytes >= MIN_FREE_BYTES:
            self._ballast.make()

    def _free(self) -> int:
        if self._free_bytes is None:
            return _ENDLESS_BYTES
        try:
            return self._free_bytes(self._database.parent)
        except OSError:
            return 0


def _answer(work: _Work, outcome: Outcome) -> None:
    if work.then is not None and outcome.failure is None:
        work.then(outcome.value)
    if work.answer.done():
        return
    if outcome.failure is None:
        work.answer.set_result(outcome.value)
    else:
        work.answer.set_exception(outcome.failure)
