"""Queue: which run goes next. The index that makes the choice cheap, whatever the length of the queue.

The database is the truth; this index is read from it at start, and again whenever a transaction that touched
it did not commit. It holds only runs that are queued and counts of those that run.

A session offers only its head run. Offered runs lie in bins, one per lane and slot key, each in order of priority,
round of the tree, and acceptance (`kernel.strand`). A choice looks at the head of each bin whose limits have room,
so it costs lanes times distinct slot keys, and a logarithm.

The trees of one lane and priority take turns: each that waits goes once in a round, and one that went, or that comes
new, goes in the round after the one that is under way. The order of a round is that of acceptance.

Source:
    scheduler.order.*, scheduler.queue.no_head_of_line_blocking, scheduler.cost.decision_independent_of_length (01 §5).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush

import msgspec

from handshake.kernel.ids import JobId, SessionId
from handshake.kernel.lane import LANES, Lane, charge, next_lane, rejoin
from handshake.kernel.limit import Limits, SlotKey, Usage
from handshake.kernel.strand import Bin, Head, Tree

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
        self.offered: QueuedRun | None = None
        self.timed: JobId | None = None
        """The run for which a timer is set."""
        self.running = False
        self.held = False


class Passes(msgspec.Struct):
    """State of the order that is stored: passes of lanes, rounds of waiting trees, and what both are measured by."""

    lanes: dict[Lane, int] = {}
    trees: dict[tuple[Lane, int, str], int] = {}
    """By lane, priority and tree, the round in which it goes."""
    virtual: dict[tuple[Lane, int], int] = {}
    """By lane and priority, the round under way; under `LANES_PRIORITY`, virtual time between lanes."""


LANES_PRIORITY = -1
"""The priority under which the virtual time between lanes is kept."""
_LANES_VIRTUAL = (LANES[0], LANES_PRIORITY)


class RunQueue:
    """The index of queued runs; changed only inside units of work, by the writer's thread."""

    def __init__(self, limits: Limits, weights: Mapping[Lane, int]) -> None:
        self.limits = limits
        self._now_us = 0
        self._weights = dict(weights)
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
        self._lanes_virtual = 0
        self._trees: dict[tuple[Lane, int, str], Tree] = {}
        self._rounds: dict[tuple[Lane, int], int] = {}
        self._stored: dict[tuple[Lane, int, str], int] | None = None
        """Rounds of trees as they were stored, while the index is read from the truth."""

    def restore(self, passes: Passes) -> None:
        """Take over what was stored, before `load`."""
        self._lane_pass.update(passes.lanes)
        self._rounds.update(passes.virtual)
        self._lanes_virtual = self._rounds.pop(_LANES_VIRTUAL, 0)
        self._stored = dict(passes.trees)

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
        run = self._runs.pop(job_id, None)
        if run is not None:
            line = self._line(run.session_id)
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
        self._offer(line)

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
        self._offer(line)
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

    def take(self, now_us: int) -> QueuedRun | None:
        """Choose the next run, count it as running and advance the order; None if none may start at `now_us`."""
        self._wake(now_us)
        ready: dict[Lane, Head] = {}
        if self.usage.total < self.limits.total:
            for lane in LANES:
                found = self._best(lane)
                if found is not None:
                    ready[lane] = found
        admissible = [lane for lane in ready if self.usage.closed_to(lane, self.limits) is None]
        if not admissible:
            return None
        lane = self._choose_lane(admissible)
        self._advance(lane, ready)
        run = self._runs.pop(ready[lane].job_id)
        self._line(run.session_id).count -= 1
        self.occupy(run.session_id, lane, run.key)
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
        head = None
        if line.heap and not line.held and not line.running:
            head = self._runs[line.heap[0][2]]
            if head.not_before_us > self._now_us:
                if line.timed != head.job_id:
                    line.timed = head.job_id
                    self._set_timer(head)
                head = None
        before = line.offered
        if head is not before:
            line.offered = head
            if head is not None:  # first, so that a tree whose head is dropped keeps its turn with the next
                self._enter(head)
            if before is not None:
                self._leave(before)

    def _enter(self, run: QueuedRun) -> None:
        bins = self._bins[run.lane]
        if not bins and self._stored is None:
            self._move_lane(run.lane, rejoin(self._lane_pass[run.lane], self._lanes_virtual))
        bin_ = bins.get(run.key)
        if bin_ is None:
            bin_ = bins[run.key] = Bin()
        bin_.add(run.job_id, run.enqueue_seq, run.priority, run.fairness_key, self._joined(run))

    def _leave(self, run: QueuedRun) -> None:
        bins = self._bins[run.lane]
        bin_ = bins[run.key]
        bin_.remove(run.job_id, run.priority, run.fairness_key)
        if not bin_:
            del bins[run.key]
        name = (run.lane, run.priority, run.fairness_key)
        tree = self._trees[name]
        tree.offered -= 1
        if not tree.offered:
            del self._trees[name]
            self.dirty.trees.pop(name, None)

    def _joined(self, run: QueuedRun) -> Tree:
        """Return the tree of a run that is offered, counting it; one that offered nothing goes in the next round."""
        name = (run.lane, run.priority, run.fairness_key)
        tree = self._trees.get(name)
        if tree is None:
            stored = self._stored.get(name) if self._stored else None
            tree = self._trees[name] = Tree(stored or self._rounds.get((run.lane, run.priority), 0) + 1)
            if stored is None:
                self.dirty.trees[name] = tree.round
        tree.offered += 1
        return tree

    def _set_timer(self, run: QueuedRun) -> None:
        heappush(self._timers, (run.not_before_us, run.job_id))
        if len(self._timers) > 2 * len(self._runs) + _SLACK:
            self._timers = [timer for timer in self._timers if timer[1] in self._runs]
            heapify(self._timers)

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
        for key, bin_ in self._bins[lane].items():
            if self.usage.full(key, self.limits) is None:
                found = bin_.head()
                if best is None or found < best:
                    best = found
        return best

    def _choose_lane(self, admissible: Sequence[Lane]) -> Lane:
        if Lane.PRIMARY in admissible and self.usage.primary < self.limits.primary_reserved:
            return Lane.PRIMARY
        lane = next_lane(admissible, self._lane_pass)
        assert lane is not None, "there is at least one lane to choose from"
        return lane

    def _advance(self, lane: Lane, ready: Mapping[Lane, Head]) -> None:
        virtual = max(self._lanes_virtual, min(self._lane_pass[one] for one in ready))
        if virtual != self._lanes_virtual:
            self._lanes_virtual = self.dirty.virtual[_LANES_VIRTUAL] = virtual
        self._move_lane(lane, charge(self._lane_pass[lane], virtual, weight=self._weights[lane]))
        head = ready[lane]
        level = (lane, head.priority)
        if head.round > self._rounds.get(level, 0):
            self._rounds[level] = self.dirty.virtual[level] = head.round
        name = (lane, head.priority, head.tree)
        self._trees[name].round = self.dirty.trees[name] = self._rounds[level] + 1

    def _move_lane(self, lane: Lane, to_pass: int) -> None:
        if self._lane_pass[lane] != to_pass:
            self._lane_pass[lane] = self.dirty.lanes[lane] = to_pass

    def load(self, runs: Iterable[QueuedRun], held: Iterable[SessionId], *, now_us: int = 0) -> None:
        """Fill an empty index with the queued runs of the truth, in any order, as they stand at `now_us`."""
        self._now_us = max(self._now_us, now_us)
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
        self._stored = None
        self.changes += 1
