"""Dispatcher: chooses runs in the closing unit of every batch, and starts their attempts after its commit.

This is the only place where a `RunTicket` is made, and the table of live attempts here is what the gate asks
before it opens a call (INV-SCHED-001).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import msgspec

from handshake.kernel.errors import HandshakeError, IntegrityBroken
from handshake.kernel.ids import JobId, ModelId, ProviderId, SessionId
from handshake.kernel.job import JobState, RunTicket
from handshake.kernel.lane import Lane
from handshake.kernel.queue import RunQueue
from handshake.kernel.recovery import Action
from handshake.kernel.units import US_PER_S
from handshake.operations import order, records, runs
from handshake.operations.attempt import Attempt
from handshake.operations.order import Instant
from handshake.operations.stalling import LastSign
from handshake.operations.unstored import Unstored
from handshake.ports.clock import Clock
from handshake.ports.store import Store, Tx, Unit
from handshake.scheduler.alarm import Alarm
from handshake.scheduler.lease_watch import LeaseWatch

Perform = Callable[[Attempt], Coroutine[Any, Any, None]]


GiveUp = Callable[[Attempt, LastSign], Unit[Action | None]]
"""Makes the unit of work that gives an attempt up."""


class _Live(msgspec.Struct, gc=False):
    attempt: Attempt
    task: asyncio.Task[None]


_LOOK_AGAIN_US = 1_000_000
"""Wait before the queue is looked at again when the store failed, or has no room."""
_FIRST_LEASE_US = 60 * US_PER_S
"""How long an attempt may take to read its thread, before the call gives it a lease of its own length."""
_CUT_LIMIT_S = 5
"""How long calls that were cut may take to close when a runtime stops; longer than any adapter of ours takes."""


class Dispatcher:
    """Follows the store: its index of the queue changes with every batch and is read again when one is lost."""

    def __init__(
        self,
        queue: RunQueue,
        clock: Clock,
        epoch: int,
        *,
        over: Callable[[JobId], None] = lambda job_id: None,
        unstored: Unstored | None = None,
    ) -> None:
        """Follow a store with `queue`.

        Args:
            queue: the index of the queue.
            clock: its time.
            epoch: the runtime epoch under which runs are started.
            over: hears of queued runs that failed before anything of them was sent.
            unstored: the outcomes that wait for the store.
        """
        self._queue = queue
        self._over = over
        self._clock = clock
        self._unstored = unstored or Unstored()
        self.epoch = epoch
        """The runtime epoch under which runs are started."""
        self._fresh: list[RunTicket] = []
        self._ended: list[JobId] = []
        self._dispatching = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._perform: Perform | None = None
        self._store: Store | None = None
        self._give_up: GiveUp | None = None
        self.asked: Callable[[], Awaitable[None]] | None = None
        """Called when a run that was given up was put before a person."""
        self.stalled: Callable[[JobId], None] | None = None
        """Called on the event loop when a run that was given up was put before a person."""
        self.cancelled: Callable[[JobId], None] | None = None
        """Called on the event loop when a run that was given up was cancelled: its worker may never say so."""
        self._live: dict[JobId, _Live] = {}
        self._lost: dict[Attempt, _Live] = {}
        """Attempts whose runs go on without them, until their connections are closed."""
        self._alarm = Alarm(clock, self._look)
        self._watch = LeaseWatch(clock, lambda: [live.attempt for live in self._live.values()], self._expire)
        self._idle = asyncio.Event()
        self._idle.set()

    # -- the store's side: the writer's thread ----------------------------------------------------------------

    @property
    def changes(self) -> int:
        """Grows with every change of the index."""
        return self._queue.changes

    def reload(self, tx: Tx) -> None:
        """Read queue, slots and passes from the truth."""
        self._fresh, self._ended = [], []
        queue, at = self._queue, self._instant(tx)
        queue.clear()
        order.restore(tx, queue, at)
        for row in tx.rows("job_in_progress"):
            _, session_id, lane, provider_id, model_id, group, _, state, holds = row
            key = records.slot_key(provider_id, model_id, group)
            if state == JobState.RUNNING:
                queue.occupy(SessionId(str(session_id)), Lane(str(lane)), key, connection=bool(holds))
            else:
                queue.hold_connection(key)
        for row in tx.rows("connections_open"):
            queue.hold_connection(records.slot_key(*row))
        queue.load(
            (records.queued_run(row) for row in tx.rows("job_queue")),
            (SessionId(str(row[0])) for row in tx.rows("session_held")),
            now_us=at.now_us,
            wall_us=at.wall_us,
        )

    def close_batch(self, tx: Tx) -> None:
        """Start every run that may start now; the last unit of each batch."""
        self._fresh = []
        at = self._instant(tx)
        if not self._dispatching or self.is_held_back:
            self._queue.wake(at.now_us, at.wall_us)
            self._store_order(tx, at)
            return
        chosen = self._queue.take_all(at.now_us, at.wall_us)
        if chosen:
            runs.start(tx, chosen, epoch=self.epoch)
            self._fresh = [
                RunTicket(
                    run.job_id,
                    run.session_id,
                    run.attempt + 1,
                    ProviderId(run.key.provider_id),
                    ModelId(run.key.model_id),
                    run.step,
                )
                for run in chosen
            ]
            self._check_total(tx)
        self._store_order(tx, at)

    def committed(self) -> Callable[[], None] | None:
        """Hand the started attempts to the event loop, and tell it of runs that ended without one."""
        fresh, self._fresh = self._fresh, []
        ended, self._ended = self._ended, []
        timer_us = self._queue.next_timer_us()
        if self.is_held_back:
            timer_us = self._clock.monotonic_us() + _LOOK_AGAIN_US if len(self._queue) else None
        if self._loop is None or not (fresh or ended or timer_us is not None):
            return None
        return partial(self._begin, fresh, ended, timer_us)

    def _check_total(self, tx: Tx) -> None:
        """Compare the index with the rows before anything starts by it."""
        row = tx.row("job_running_count")
        if row is None or row[0] != self._queue.usage.total:
            raise IntegrityBroken(subject="queue", reason="running_count_differs")

    def _instant(self, tx: Tx) -> Instant:
        return Instant(self._clock.monotonic_us(), tx.now_us, self.epoch)

    def _store_order(self, tx: Tx, at: Instant) -> None:
        self._ended = [one.run.job_id for one in order.store(tx, self._queue, at)]

    # -- the runtime's side: the event loop -------------------------------------------------------------------

    async def open(self, store: Store, perform: Perform, give_up: GiveUp | None = None) -> None:
        """Begin to dispatch: whatever is queued starts without anyone enqueueing again.

        Args:
            store: where runs are read and started.
            perform: carries one attempt out.
            give_up: makes the unit for an attempt whose lease has ended; None if none has a lease.

        Source:
            recovery.start.dispatches_queue.
        """
        self._loop = asyncio.get_running_loop()
        self._store = store
        self._perform = perform
        self._give_up = give_up
        self._unstored.cleared = self._look_soon
        self._dispatching = True
        await store.write(_nothing, outcome=True)

    @property
    def is_dispatching(self) -> bool:
        """Whether runs are started."""
        return self._dispatching

    @property
    def is_held_back(self) -> bool:
        """Whether nothing new starts because an outcome waits to be stored, or the disk has no room for one."""
        return self._unstored.count > 0 or (self._store is not None and not self._store.has_room)

    def is_running(self, ticket: RunTicket) -> bool:
        """Return whether exactly this attempt was started here and is neither over nor cancelled."""
        live = self._live.get(ticket.job_id)
        return live is not None and live.attempt.ticket is ticket and not live.attempt.cancelled

    def cut(self, job_id: JobId, attempt: int) -> bool:
        """Tell an attempt that its run is cancelled; return whether there is one.

        An attempt that is past its call is left alone: its outcome comes late and is discarded.
        """
        live = self._live.get(job_id)
        if live is None or live.attempt.ticket.attempt != attempt or live.attempt.cancelled:
            return False
        live.attempt.cancelled = True
        if live.attempt.calling:
            live.task.cancel()
        return True

    def drain(self) -> None:
        """Take no new turns and start nothing more; what runs goes on."""
        self._queue.draining = True
        self._dispatching = False
        self._alarm.cancel()

    async def close(self, drain_us: int, *, before_cut: Callable[[], None]) -> None:
        """Start nothing more, let what runs finish for `drain_us`, and cut the rest.

        Cancelling this ends the patience, not the care: the rest is cut at once, and waited for.
        """
        self.drain()
        try:
            try:
                await self._look()  # behind every batch that was still dispatching
                drained = await self._is_idle_within(drain_us / US_PER_S)
            except asyncio.CancelledError:
                await self._look()
                await self._cut_all(before_cut)
                raise
            if not drained:
                await self._cut_all(before_cut)
        finally:
            await self._let_go(before_cut)
            self._watch.close()
            self._loop = None

    async def _cut_all(self, before_cut: Callable[[], None]) -> None:
        before_cut()
        for job_id, live in list(self._live.items()):
            self.cut(job_id, live.attempt.ticket.attempt)
        if not await self._is_idle_within(_CUT_LIMIT_S):
            for live in self._live.values():
                if live.attempt.calling:
                    live.task.cancel()
            await self._idle.wait()

    async def _let_go(self, before_cut: Callable[[], None]) -> None:
        """Close calls that were given up, and wait for it a while: nothing of theirs counts, so it is no longer."""
        if not self._lost:
            return
        before_cut()
        tasks = [lost.task for lost in self._lost.values()]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=_CUT_LIMIT_S)

    async def _is_idle_within(self, limit_s: float) -> bool:
        try:
            async with asyncio.timeout(limit_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    @property
    def live_count(self) -> int:
        """How many attempts are in progress."""
        return len(self._live)

    def _begin(self, fresh: list[RunTicket], ended: list[JobId], timer_us: int | None) -> None:
        for job_id in ended:
            self._over(job_id)
        lease_us = self._clock.monotonic_us() + _FIRST_LEASE_US
        for ticket in fresh:
            attempt = Attempt(ticket, lease_us=lease_us)
            if (before := self._live.pop(ticket.job_id, None)) is not None:  # it was given up in the same commit
                self._lost[before.attempt] = before
            task = asyncio.get_running_loop().create_task(self._attempt(attempt))
            self._live[ticket.job_id] = _Live(attempt, task)
        if self._live:
            self._idle.clear()
            if self._give_up is not None:
                self._watch.begin()
        if timer_us is not None:
            self._arm(timer_us)

    async def _attempt(self, attempt: Attempt) -> None:
        assert self._perform is not None, "open() came first"
        job_id = attempt.ticket.job_id
        try:
            with contextlib.suppress(HandshakeError):  # its outcome cannot be stored: the next start finds the run
                await self._perform(attempt)
        finally:
            self._lost.pop(attempt, None)
            live = self._live.get(job_id)
            if live is not None and live.attempt is attempt:
                del self._live[job_id]
            if not self._live:
                self._idle.set()

    async def _expire(self, attempt: Attempt, sign: LastSign) -> None:
        """Give up an attempt whose lease has ended; one that cannot be told is looked at again."""
        if self._store is None or self._give_up is None:
            return
        with contextlib.suppress(HandshakeError):
            unit = self._give_up(attempt, sign)
            action = await self._store.write(unit, outcome=True, then=lambda action: self._lose(attempt, action))
            if action is Action.DESK and self.asked is not None:
                await self.asked()

    def _lose(self, attempt: Attempt, action: Action | None) -> None:
        """Let a run go on without an attempt, and tell that to close its connection."""
        if action is None:  # it came back
            return
        live = self._live.get(attempt.ticket.job_id)
        if live is not None and live.attempt is attempt:
            del self._live[attempt.ticket.job_id]
            self._lost[attempt] = live
        if not self._live:
            self._idle.set()
        attempt.given_up = attempt.cancelled = True
        if action is Action.CANCEL and self.cancelled is not None:
            self.cancelled(attempt.ticket.job_id)
        if action is Action.DESK and self.stalled is not None:
            self.stalled(attempt.ticket.job_id)
        lost = self._lost.get(attempt)
        if lost is not None and attempt.calling:
            lost.task.cancel()

    def _look_soon(self) -> None:
        if self._loop is not None and self._dispatching:
            self._alarm.set_in(0)

    def _arm(self, at_us: int) -> None:
        """Look at the queue again at a monotonic time, when the first backoff ends or the first rate admits a run."""
        if self._loop is not None and self._dispatching:
            self._alarm.set_in(at_us - self._clock.monotonic_us())

    async def _look(self) -> None:
        """Have the queue looked at, after everything that was handed to the store before."""
        if self._store is None:
            return
        try:
            await self._store.write(_nothing, outcome=True)
        except HandshakeError:  # nothing is lost: the queue is looked at again
            if self._loop is not None and self._dispatching:
                self._alarm.set_in(_LOOK_AGAIN_US)


def _nothing(tx: Tx) -> None:
    """Make a batch of nothing, so that its closing unit runs."""
