"""Growth: what choosing and enqueueing cost beside queues of different length, in the index and through the store."""

from __future__ import annotations

import gc
import itertools
import time
from pathlib import Path

import msgspec

from bench.load import MAX_SESSIONS, PRIORITIES, opened
from bench.plan import Plan
from handshake.kernel.ids import JobId, SessionId
from handshake.kernel.lane import LANES, Lane
from handshake.kernel.limit import Limits, SlotKey
from handshake.kernel.queue import QueuedRun, RunQueue

_KEYS = tuple(SlotKey(f"provider{number}", "model", None) for number in range(3))
_US = 1e6


class Costs(msgspec.Struct, frozen=True):
    """Microseconds per run beside one queue."""

    choose_us: float
    enqueue_us: float


async def fill(root: Path, length: int, plan: Plan) -> None:
    """Make a workspace in which `length` runs are queued."""
    async with opened(root, slots=plan.in_flight) as load:
        await load.fill(length, plan.in_flight)


async def beside(root: Path, plan: Plan) -> Costs:
    """Measure beside the queue of a filled workspace, and leave it as long as it was.

    A cycle lets as many runs go as hold slots, so that as many are finished, chosen and started in one commit, and
    enqueues as many like them in one commit.
    """
    count = plan.in_flight
    choosing = enqueueing = 0.0
    async with opened(root, slots=count) as load:
        for _ in range(2):  # the first reads pages and fills caches
            choosing = enqueueing = 0.0
            gc.collect()
            for _ in range(plan.cycles):
                begun = time.perf_counter()
                owners = await load.let_go(count)
                let_go = time.perf_counter()
                await load.accept_again(owners)
                enqueueing += time.perf_counter() - let_go
                choosing += let_go - begun
    runs = plan.cycles * count
    return Costs(_US * choosing / runs, _US * enqueueing / runs)


class Index:
    """The index of a queue, which keeps its length and its mix: for each run that is taken, one like it is added."""

    def __init__(self, length: int) -> None:
        limits = Limits(total=64, primary_reserved=1, provider_default=64, model_default=64)
        self._queue = RunQueue(limits, dict.fromkeys(LANES, 1))
        self._number = 0
        mixes = itertools.cycle(itertools.product(LANES, _KEYS, PRIORITIES))
        for _, (lane, key, priority) in zip(range(length), mixes, strict=False):
            self._add(lane, key, priority, f"tree-{self._number % MAX_SESSIONS}")

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
