"""Committer: group commit. Many units share one SQLite transaction; one that fails undoes itself alone.

A unit that fails before it changed a row, as refusals do, leaves nothing to undo. After any failure of the store, and
after a unit that failed with rows changed, the whole batch is taken as gone: SQLite rolls the transaction back by
itself on a full disk. Then every unit runs alone once, and one that the store fails again is refused with
HSK-507-STORE. Whatever else goes wrong between BEGIN and COMMIT ends the same way, so that no transaction is ever
left open.

Source:
    recovery.batch.rollback_is_whole, recorder.disk_full.fails_whole (design §3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import apsw
import msgspec

from handshake.kernel.moment import rfc3339
from handshake.kernel.units import Microseconds
from handshake.ports.clock import Clock
from handshake.ports.store import Follower, Tx, Unit
from handshake.storage.event_log import EventLog, LogState
from handshake.storage.failures import coded, is_storage
from handshake.storage.transaction import SqliteTx


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What became of a unit: its value, or its failure."""

    value: Any = None
    failure: BaseException | None = None


class _BatchGone(Exception):
    """The transaction failed as a whole."""

    @property
    def outcome(self) -> Outcome:
        """What became of a unit that was alone in it."""
        return Outcome(failure=coded(self.__cause__ or self))


class _UnitSpoilt(_BatchGone):
    """A unit failed after it had changed rows, which only the whole transaction can undo."""

    @property
    def outcome(self) -> Outcome:
        """The unit's own failure."""
        return Outcome(failure=_as_answer(self.__cause__ or self))


class _NoFollower:
    """Stands where nobody follows."""

    changes = 0

    def reload(self, tx: Tx) -> None:
        """Nothing to read."""

    def close_batch(self, tx: Tx) -> None:
        """Nothing to add."""

    def committed(self) -> None:
        """Nothing to note, nothing to do."""


def _as_answer(failure: BaseException) -> BaseException:
    """Return a unit's failure as a future can hold it, which takes no `StopIteration`."""
    if isinstance(failure, StopIteration):
        return RuntimeError("a unit of work raised StopIteration")
    return coded(failure) if isinstance(failure, apsw.Error) else failure


class Committer:
    """Runs batches of units on one connection; synchronous, used by one thread at a time."""

    def __init__(self, db: apsw.Connection, tx: SqliteTx, log: EventLog, clock: Clock) -> None:
        self._db = db
        self._tx = tx
        self._log = log
        self._clock = clock
        self._follower: Follower = _NoFollower()
        self._reloaded: Follower = self._follower
        self._in_doubt = False
        """Whether the end of the log is to be read again, because a batch failed."""
        self._stale = False
        """Whether the follower is to read the truth again, because it had changed with a batch that failed."""
        self._told: list[Callable[[], None]] = []
        self.batches = 0

    def follow(self, follower: Follower) -> None:
        """Let `follower` take part from the next batch on; it reads the truth first. Any thread may call this."""
        self._follower = follower

    def commit(self, units: Sequence[Unit[Any]]) -> list[Outcome]:
        """Run the units and return their outcomes, which are durable; never raises for a failing unit."""
        try:
            return self._together(units)
        except _BatchGone as gone:
            if len(units) == 1:
                return [self._undone(gone)]
        return [self._alone(unit) for unit in units]

    def drain_told(self) -> list[Callable[[], None]]:
        """Return what the follower wants done on the event loop about the commits since the last call."""
        told, self._told = self._told, []
        return told

    def sign_checkpoint(self) -> None:
        """Sign what is not signed yet, in a transaction of its own."""
        self._together([], sign_now=True)

    def _alone(self, unit: Unit[Any]) -> Outcome:
        try:
            return self._together([unit])[0]
        except _BatchGone as gone:
            return self._undone(gone)

    def _undone(self, gone: _BatchGone) -> Outcome:
        """Return what became of a unit that was alone in its batch, once the follower knows that it is undone."""
        if isinstance(gone, _UnitSpoilt):
            with suppress(_BatchGone):  # then the next batch reads the truth
                self._together([])
        return gone.outcome

    def _together(self, units: Sequence[Unit[Any]], *, sign_now: bool = False) -> list[Outcome]:
        db = self._db
        follower = self._follower
        changes = follower.changes
        now_us = self._clock.now_us()
        try:
            db.execute("BEGIN IMMEDIATE").close()
            self._tx.begin(now_us, rfc3339(now_us))
            if self._in_doubt:
                self._log.open(db)
            if self._stale or follower is not self._reloaded:
                self._stale = True
                follower.reload(self._tx)
            outcomes = [self._one(unit, follower) for unit in units]
            self._close(follower)
            self._tx.write_added()
            state, signed = self._finish_log(now_us, sign_now=sign_now)
            db.execute("COMMIT").close()
        except BaseException as failure:
            self._in_doubt = True
            self._stale = self._stale or follower.changes != changes
            self._roll_back()
            if isinstance(failure, _BatchGone) or not isinstance(failure, Exception):
                raise
            raise _BatchGone from failure
        self._in_doubt = self._stale = False
        self._reloaded = follower
        self.batches += 1
        self._log.settle(state, signed)
        told = follower.committed()
        if told is not None:
            self._told.append(told)
        return outcomes

    def _close(self, follower: Follower) -> None:
        try:
            follower.close_batch(self._tx)
        except Exception as failure:
            raise _BatchGone from failure

    def _one(self, unit: Callable[[Tx], Any], follower: Follower) -> Outcome:
        db, tx = self._db, self._tx
        changes = follower.changes
        tx.begin_unit()
        try:
            value = unit(tx)
        except BaseException as failure:
            if is_storage(failure) or not db.in_transaction:
                raise _BatchGone from failure
            if follower.changes != changes or not tx.undo_unit():
                raise _UnitSpoilt from failure
            return Outcome(failure=_as_answer(failure))
        return Outcome(value=value)

    def _finish_log(self, now_us: Microseconds, *, sign_now: bool) -> tuple[LogState, tuple[int, int] | None]:
        log, db = self._log, self._db
        state = log.extend(db, self._tx.sealed, now_us) if self._tx.sealed else log.state
        monotonic_us = self._clock.monotonic_us()
        wanted = (sign_now or self._tx.sign_now) and log.has_unsigned(state)
        if not (wanted or log.checkpoint_due(state, monotonic_us)):
            return state, None
        state, covered = log.sign(db, state, now_us, self._tx.timestamp)
        return state, (covered, monotonic_us)

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            try:
                self._db.execute("ROLLBACK").close()
            except apsw.Error:  # SQLite rolls back by itself when it cannot go on; nothing else is left to do
                return
