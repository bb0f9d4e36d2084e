"""Queue: which run goes next. The index that makes the choice cheap, whatever the length of the queue.

The database is the truth; this index is read from it at start, and again whenever a transaction that touched
it did not commit. It holds only runs that are queued and counts of those that run.

A session offers only its head run. Offered runs lie in bins, one per lane and slot key, each in order of priority,
pass of the tree, and acceptance (`kernel.strand`). A choice looks at the head of each bin whose limits have room,
so it costs lanes times distinct slot keys, and a logarithm.

Source:
    scheduler.order.*, scheduler.queue.no_head_of_line_blocking, scheduler.cost.decision_independent_of_length (01 §5).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import heapify, heappop, heappush

import msgspec

from handshake.kernel.ids import JobId, SessionId
from handshake.kernel.lane import LANES, STRIDE_UNIT, Lane, next_lane, rejoin, stride
from handshake.kernel.limit import Limits, SlotKey, Usage
from handshake.kernel.strand import Bin, Head

_SLACK = 16
"""Entries of runs that are gone, which are not worth making a heap anew."""


class QueuedRun(msgspec.Struct, frozen=True, gc=False):
    """What the order needs to know of a queued run; times in microseconds since 1970."""

    job_id: JobId
    session_id: SessionId
    enqueue_seq: int
    turn_seq: int
    lane: Lane
    priority: int
    key: SlotKey
    fairness_key: str
    attempt: int
    created_at_us: int
    not_before_us: int
    trace_id: str
    wp_id: str | None
    mt_id: str | None


class _Line:
    """One session's queued runs, and whether it may offer its head."""

    __slots__ = ("count", "heap", "held", "offered", "running", "timed")

    def __init__(self) -> None:
        self.heap: list[tuple[int, int, JobId]] = []
        self.count = 0
        """How many entries of the heap are runs that wait."""
        self.offered: JobId | None = None
        self.timed: JobId | None = None
        """The run for which a timer is set."""
        self.running = False
        self.held = False


class Passes(msgspec.Struct):
    """Stride state that changed: lanes, (lane, tree) pairs, and virtual times by (lane, priority)."""

    lanes: dict[Lane, int] = {}
    trees: dict[tuple[Lane, str], int] = {}
    virtual: dict[tuple[Lane, int], int] = {}


LANES_PRIORITY = -1
"""The priority under which the virtual time between lanes is kept."""


class RunQueue:
    """The index of queued runs; changed only inside units of work, by the writer's thread."""

    def __init__(self, limits: Limits, weights: Mapping[Lane, int]) -> None:
        self.limits = limits
        self._now_us = 0
        self._strides = {lane: stride(weights[lane]) for lane in LANES}
        self.changes = 0
        """Grows with every change, so that a failed unit shows whether it touched the index."""
        self.clear()

    def clear(self) -> None:
        """Forget everything, before reading it again from the truth."""
        self.usage = Usage()
        self.dirty = Passes()
        self._runs: dict[JobId, QueuedRun] = {}
        self._lines: dict[SessionId, _Line] = {}
        self._bins: dict[Lane, dict[SlotKey, Bin]] = {lane: {} for lane in LANES}
        self._timers: list[tuple[int, JobId]] = []
        self._lane_pass = dict.fromkeys(LANES, 0)
        self._tree_pass: dict[Lane, dict[str, int]] = {lane: {} for lane in LANES}
        self._virtual: dict[Lane, dict[int, int]] = {lane: {} for lane in LANES}
        self._lanes_virtual = 0

    def restore(self, passes: Passes) -> None:
        """Take over stride state that was stored."""
        self._lane_pass.update(passes.lanes)
        for (lane, tree), value in passes.trees.items():
            self._tree_pass[lane][tree] = value
        for (lane, priority), value in passes.virtual.items():
            if priority == LANES_PRIORITY:
                self._lanes_virtual = value
            else:
                self._virtual[lane][priority] = value

    def __len__(self) -> int:
        """Return how many runs are queued."""
        return len(self._runs)

    def __contains__(self, job_id: JobId) -> bool:
        """Return whether the run is queued."""
        return job_id in self._runs

    def waiting_in(self, session_id: SessionId) -> int:
        """Return how many runs wait in a session."""
        line = self._lines.get(session_id)
        return line.count if line else 0

    def add(self, run: QueuedRun) -> None:
        """Queue a run."""
        self.changes += 1
        self._runs[run.job_id] = run
        line = self._line(run.session_id)
        line.count += 1
        heappush(line.heap, (run.turn_seq, run.enqueue_seq, run.job_id))
        self._offer(line)

    def drop(self, job_id: JobId) -> None:
        """Take a run out that was cancelled or failed while queued."""
        self.changes += 1
        run = self._runs.get(job_id)
        if run is not None:
            line = self._line(run.session_id)
            if line.offered == job_id:
                self._withdraw(line)
            del self._runs[job_id]
            line.count -= 1
            if len(line.heap) > 2 * line.count + _SLACK:
                line.heap = [entry for entry in line.heap if entry[2] in self._runs]
                heapify(line.heap)
            self._offer(line)
            self._forget_if_empty(run.session_id, line)

    def hold(self, session_id: SessionId) -> None:
        """Let nothing of the session start until `unhold`."""
        self.changes += 1
        line = self._line(session_id)
        line.held = True
        self._withdraw(line)

    def unhold(self, session_id: SessionId) -> None:
        """Let the session's head start again."""
        self.changes += 1
        line = self._line(session_id)
        line.held = False
        self._offer(line)
        self._forget_if_empty(session_id, line)

    def occupy(self, session_id: SessionId, lane: Lane, key: SlotKey, *, connection: bool = True) -> None:
        """Count a run that is running; `connection` if its attempt holds provider slots."""
        self.changes += 1
        line = self._line(session_id)
        line.running = True
        self._withdraw(line)
        self.usage.take_run(lane)
        if connection:
            self.usage.take_connection(key)

    def vacate(self, session_id: SessionId, lane: Lane) -> None:
        """Count a run that left `running`; its session may offer the next."""
        self.changes += 1
        self.usage.free_run(lane)
        line = self._line(session_id)
        line.running = False
        self._offer(line)
        self._forget_if_empty(session_id, line)

    def hold_connection(self, key: SlotKey) -> None:
        """Count a connection without a run, as after a cancel."""
        self.changes += 1
        self.usage.take_connection(key)

    def free_connection(self, key: SlotKey) -> None:
        """Count a connection as closed."""
        self.changes += 1
        self.usage.free_connection(key)

    def forget_tree(self, tree: str) -> None:
        """Drop the passes of a tree that has ended."""
        for lane in LANES:
            self._tree_pass[lane].pop(tree, None)
            self.dirty.trees.pop((lane, tree), None)

    def take(self, now_us: int) -> QueuedRun | None:
        """Choose the next run, count it as running and advance the passes; None if none may start at `now_us`."""
        self._wake(now_us)
        best: dict[Lane, Head] = {}
        for lane in LANES:
            if self._bins[lane] and self.usage.closed_to(lane, self.limits) is None:
                found = self._best(lane)
                if found is not None:
                    best[lane] = found
        if not best:
            return None
        lane = self._choose_lane(best)
        self._advance(lane, best[lane])
        run = self._runs[best[lane].job_id]
        self.occupy(run.session_id, lane, run.key)
        del self._runs[run.job_id]
        self._line(run.session_id).count -= 1
        return run

    def next_timer_us(self) -> int | None:
        """Return the earliest moment at which a run that backs off may start, or None."""
        while self._timers and self._timers[0][1] not in self._runs:
            heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def drain_dirty(self) -> Passes:
        """Return the stride state that changed since the last call, for storing."""
        changed, self.dirty = self.dirty, Passes()
        return changed

    # -- inside ---------------------------------------------------------------------------------------------

    def _line(self, session_id: SessionId) -> _Line:
        line = self._lines.get(session_id)
        if line is None:
            line = self._lines[session_id] = _Line()
        return line

    def _forget_if_empty(self, session_id: SessionId, line: _Line) -> None:
        if not (line.count or line.running or line.held):
            del self._lines[session_id]

    def _offer(self, line: _Line) -> None:
        """Bring the head of a session into its bin, or onto the timers while it backs off."""
        while line.heap and line.heap[0][2] not in self._runs:
            heappop(line.heap)
        if line.held or line.running or not line.heap:
            return
        run = self._runs[line.heap[0][2]]
        if line.offered == run.job_id:
            return
        self._withdraw(line)
        if run.not_before_us > self._now_us:
            if line.timed != run.job_id:
                line.timed = run.job_id
                heappush(self._timers, (run.not_before_us, run.job_id))
            return
        line.offered = run.job_id
        bin_ = self._bins[run.lane].get(run.key)
        if bin_ is None:
            bin_ = self._bins[run.lane][run.key] = Bin()
        bin_.add(
            run.job_id,
            run.enqueue_seq,
            run.priority,
            run.fairness_key,
            tree_pass=self._tree_pass[run.lane].get(run.fairness_key, 0),
            virtual=self._virtual[run.lane].get(run.priority, 0),
        )

    def _withdraw(self, line: _Line) -> None:
        """Take back what a session offers."""
        if line.offered is None:
            return
        run = self._runs[line.offered]
        line.offered = None
        bin_ = self._bins[run.lane][run.key]
        bin_.remove(run.job_id, run.priority, run.fairness_key)
        if not bin_:
            del self._bins[run.lane][run.key]

    def _wake(self, now_us: int) -> None:
        self._now_us = max(self._now_us, now_us)
        while self._timers and self._timers[0][0] <= self._now_us:
            run = self._runs.get(heappop(self._timers)[1])
            if run is not None:
                line = self._line(run.session_id)
                line.timed = None
                self._offer(line)

    def _best(self, lane: Lane) -> Head | None:
        best: Head | None = None
        passes, virtual = self._tree_pass[lane], self._virtual[lane]
        for key, bin_ in self._bins[lane].items():
            if self.usage.full(key, self.limits) is None:
                found = bin_.head(passes, virtual)
                if best is None or found < best:
                    best = found
        return best

    def _choose_lane(self, best: Mapping[Lane, object]) -> Lane:
        if Lane.PRIMARY in best and self.usage.primary < self.limits.primary_reserved:
            return Lane.PRIMARY
        passes = {lane: rejoin(self._lane_pass[lane], self._lanes_virtual) for lane in best}
        lane = next_lane(best, passes)
        assert lane is not None, "there is at least one lane to choose from"
        return lane

    def _advance(self, lane: Lane, head: Head) -> None:
        at = rejoin(self._lane_pass[lane], self._lanes_virtual)
        self._lanes_virtual = at
        self._lane_pass[lane] = self.dirty.lanes[lane] = at + self._strides[lane]
        self.dirty.virtual[LANES[0], LANES_PRIORITY] = at
        self._virtual[lane][head.priority] = self.dirty.virtual[lane, head.priority] = head.tree_pass
        after = head.tree_pass + STRIDE_UNIT
        self._tree_pass[lane][head.tree] = self.dirty.trees[lane, head.tree] = after

    def load(self, runs: Iterable[QueuedRun], held: Iterable[SessionId]) -> None:
        """Fill an empty index with the queued runs of the truth, in any order."""
        for session_id in held:
            self._line(session_id).held = True
        for run in runs:
            self._runs[run.job_id] = run
            line = self._line(run.session_id)
            line.count += 1
            line.heap.append((run.turn_seq, run.enqueue_seq, run.job_id))
        for line in self._lines.values():
            heapify(line.heap)
            self._offer(line)
        self.changes += 1
