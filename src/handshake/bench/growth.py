"""Growth: what choosing and enqueueing cost beside queues of different length, in the index and through the store."""

from __future__ import annotations

import asyncio
import gc
import itertools
import shutil
import time
import zlib
from pathlib import Path

import apsw
import msgspec

from handshake.bench.load import GATHER, HELD, Load, opened
from handshake.bench.plan import Plan
from handshake.kernel.ids import JobId, SessionId
from handshake.kernel.lane import LANES, Lane
from handshake.kernel.limit import Limits, SlotKey
from handshake.kernel.queue import RunQueue
from handshake.kernel.queued_run import QueuedRun
from handshake.storage.workspace_folder import WorkspaceFolder

_KEYS = tuple(SlotKey(f"provider{number}", "model", None) for number in range(2))
"""With the lanes they make as many bins as the shortest queue can fill: a choice looks at each."""
_PRIORITIES = (10, 50, 90)
_TREES = 10_000
_END_OLDEST = """
UPDATE job SET state = 'cancelled', ended_at_us = created_at_us
WHERE state = 'queued' AND enqueue_seq <= (SELECT max(enqueue_seq) FROM job) - :kept
"""
_WARMING = 3
"""Cycles that read pages and fill caches before the measured ones."""
_US = 1e6
_MS = 1e3


class Costs(msgspec.Struct, frozen=True):
    """What one queue costs: runs beside it, in microseconds each, and opening the workspace that holds it."""

    choose_us: float
    enqueue_us: float
    restart_ms: float
    """From the call that opens to the start of the first run."""


class Filled:
    """A workspace with a queue of a given length, spread over its sessions in a haphazard order.

    The longest queue is filled by enqueueing. The others are copies in which only the newest runs still wait, so that
    all have the same sessions, the same history and files of the same size, and differ in nothing but the queue.
    """

    def __init__(self, root: Path, plan: Plan) -> None:
        self.root = root
        self._plan = plan
        self._owners: list[SessionId] = []
        self._next = 0

    async def fill(self, length: int) -> None:
        """Take all held slots, and queue `length` runs behind them."""
        async with opened(self.root, slots=self._plan.beside) as load:
            owners = await load.make_sessions(self._plan.sessions, HELD)
            self._owners = sorted(owners, key=lambda owner: zlib.crc32(owner.encode()))
            missing = length + self._plan.beside
            while missing:
                missing -= await self._enqueue(load, min(missing, GATHER))

    def shortened(self, root: Path, length: int) -> Filled:
        """Return a copy of this closed workspace in which `length` runs wait besides those that take the slots."""
        shutil.copytree(self.root, root)
        db = apsw.Connection(str(WorkspaceFolder(root).database))
        try:
            db.execute(_END_OLDEST, {"kept": length + self._plan.beside})
        finally:
            db.close()
        copy = Filled(root, self._plan)
        copy._owners, copy._next = self._owners, self._next
        return copy

    async def costs(self) -> Costs:
        """Measure beside the queue, and leave it as long as it was.

        A cycle lets as many runs go as hold slots, so that as many are finished, chosen and started in one commit,
        and enqueues as many in one commit.
        """
        count, cycles = self._plan.beside, self._plan.cycles
        choosing = enqueueing = 0.0
        gc.collect()
        called = time.perf_counter()
        async with opened(self.root, slots=count) as load:
            await load.began.wait()
            restart_ms = _MS * (time.perf_counter() - called)
            gc.collect()
            for cycle in range(-_WARMING, cycles):
                begun = time.perf_counter()
                await load.let_go(count)
                let_go = time.perf_counter()
                await self._enqueue(load, count)
                if cycle >= 0:
                    enqueueing += time.perf_counter() - let_go
                    choosing += let_go - begun
        return Costs(_US * choosing / (cycles * count), _US * enqueueing / (cycles * count), restart_ms)

    async def _enqueue(self, load: Load, count: int) -> int:
        owners = [self._owners[(self._next + number) % len(self._owners)] for number in range(count)]
        self._next += count
        await asyncio.gather(*(load.accept(owner) for owner in owners))
        return count


class Index:
    """The index of a queue, which keeps its length and its mix: for each run that is taken, one like it is added."""

    def __init__(self, length: int) -> None:
        limits = Limits(total=64, primary_reserved=1, provider_default=64, model_default=64)
        self._queue = RunQueue(limits, dict.fromkeys(LANES, 1))
        self._number = 0
        mixes = itertools.cycle(itertools.product(_PRIORITIES, LANES, _KEYS))
        for _, (priority, lane, key) in zip(range(length), mixes, strict=False):
            self._add(lane, key, priority, f"tree-{self._number % _TREES}")

    def _add(self, lane: Lane, key: SlotKey, priority: int, tree: str) -> None:
        number = self._number = self._number + 1
        self._queue.add(
            QueuedRun(
                job_id=JobId(f"job-{number}"),
                session_id=SessionId(f"session-{number}"),
                enqueue_seq=number,
                turn_seq=1,
                lane=lane,
                priority=priority,
                key=key,
                fairness_key=tree,
                attempt=0,
                created_at_us=number,
                not_before_us=0,
                trace_id="",
                wp_id=None,
                mt_id=None,
            )
        )

    def step_us(self, steps: int) -> float:
        """Return microseconds for taking one run, adding one like it, and ending the one that was taken."""
        queue = self._queue
        gc.collect()
        begun = time.perf_counter()
        for _ in range(steps):
            run = queue.take(self._number)
            assert run is not None, "the queue holds runs, and slots are free"
            self._add(run.lane, run.key, run.priority, run.fairness_key)
            queue.free_connection(run.key)
            queue.vacate(run.session_id, run.lane)
        queue.drain_dirty()
        return _US * (time.perf_counter() - begun) / steps
