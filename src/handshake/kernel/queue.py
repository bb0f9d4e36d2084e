"""Queue: which run goes next. The index that makes the choice cheap, whatever the length of the queue.

The database is the truth; this index is read from it at start, and again whenever a transaction that touched
it did not commit. It holds only runs that are queued and counts of those that run.

A session offers only its head run. Offered runs lie in bins, one per lane and slot key, each in order of priority,
round of the tree, and acceptance (`kernel.strand`). A choice looks at the head of each bin whose limits have room,
so it costs lanes times distinct slot keys, and a logarithm. What the order chose still has to be admitted by its
provider's rate and by budgets (`kernel.admission`). If it is not, its provider or work packet is shut for the rest of
this choice and the others go on: a smaller run of the same provider does not overtake a larger one that waits for it.

Waits run on a clock that nobody can set. Runs are stored with the wall time before which they do not start; it is
converted once, when the index is next told both times.

The trees of one lane and priority take turns: each that waits goes once in a round, and one that went, or that comes
new, goes in the round after the one that is under way. The order of a round is that of acceptance.

Source:
    scheduler.order.*, scheduler.queue.no_head_of_line_blocking, scheduler.cost.decision_independent_of_length (01 §5).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush

import msgspec

from handshake.kernel.admission import Admission, Bill
from handshake.kernel.bucket import Wait
from handshake.kernel.budget import FREE, Account, Amounts, BudgetKey, BudgetScope, BudgetType, Fit
from handshake.kernel.ids import JobId, SessionId
from handshake.kernel.lane import LANES, Lane, charge, next_lane, rejoin
from handshake.kernel.ledger import Short
from handshake.kernel.limit import Limits, SlotKey, Usage
from handshake.kernel.queued_run import Limited, Notices, QueuedRun, Refused
from handshake.kernel.retry import Reach
from handshake.kernel.settings import MAX_REFUSED_RUNS_PER_BATCH, MAX_RESTING_BUDGETS
from handshake.kernel.strand import Bin, Head, Tree
from handshake.kernel.timers import Timers

_SLACK = 16
"""Entries of runs that are gone, which are not worth making a heap anew."""
_BinKey = tuple[SlotKey | None, str | None]
"""What the runs of a bin wait for together: slots, and the work packet if that has a budget; or just a global slot."""


class _Shut:
    """What is shut for the rest of one choice."""

    __slots__ = ("all", "any", "packets", "paid", "paid_packets", "providers")

    def __init__(self) -> None:
        self.any = False
        """Whether anything is."""
        self.all = False
        self.paid = False
        """Whether what has a price is shut, because the workspace has no money for it now."""
        self.providers: set[str] = set()
        self.packets: set[str | None] = set()
        self.paid_packets: set[str | None] = set()
        """Work packets that have no money now: what has a price is shut of them."""


class _Line:
    """One session's queued runs, and whether it may offer its head."""

    __slots__ = ("count", "heap", "held", "offered", "running")

    def __init__(self) -> None:
        self.heap: list[tuple[int, int, JobId]] = []
        self.count = 0
        """How many entries of the heap are runs that wait."""
        self.offered: QueuedRun | None = None
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
        self.admission = Admission(limits.rates)
        self._now_us = 0
        self._weights = dict(weights)
        self.draining = False
        """Set when the runtime stops: no new turn is accepted."""
        self.changes = 0
        """Grows with every change, so that a failed unit shows whether it touched the index."""
        self.clear()

    def clear(self) -> None:
        """Forget everything, before reading it again from the truth."""
        self.usage = Usage()
        self.admission.clear()
        self.dirty = Passes()
        self._runs: dict[JobId, QueuedRun] = {}
        self._lines: dict[SessionId, _Line] = {}
        self._bins: dict[Lane, dict[_BinKey, Bin]] = {lane: {} for lane in LANES}
        self._timers = Timers()
        self._gate_us: int | None = None
        """The earliest time at which a rate admits what the last choice wanted."""
        self._limited: set[JobId] = set()
        self._resting: dict[SessionId, None] = {}
        """Sessions without work whose budgets are still known, the longest first; some have work again."""
        self._notices = Notices([], [])
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
        line = self._note(run)
        heappush(line.heap, (run.turn_seq, run.enqueue_seq, run.job_id))
        self._offer(line)

    def drop(self, job_id: JobId) -> None:
        """Take a run out that was cancelled or failed while queued."""
        self.changes += 1
        if job_id in self._runs:
            run = self._remove(job_id)
            line = self._line(run.session_id)
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

    def settle(self, bill: Bill, taken: Amounts, reach: Reach) -> None:
        """Correct rates and budgets by what an attempt took that was started here."""
        if not self.admission:
            return
        self.changes += 1
        self.admission.settle(bill, taken, reach)
        line = self._lines.get(SessionId(bill.session_id))
        if line is not None:
            self._offer(line)

    def close_provider(self, provider_id: str, span_us: int) -> None:
        """Start nothing at a provider for `span_us` from the end of this batch."""
        self.changes += 1
        self.admission.rates.close(provider_id, span_us)

    def wake(self, now_us: int, wall_us: int | None = None) -> None:
        """Take note of the time: what was noted since takes effect, and what has waited long enough is offered.

        Args:
            now_us: microseconds of the clock of all waits.
            wall_us: the same moment in microseconds since 1970; None if both clocks are one.
        """
        self._now_us = max(self._now_us, now_us)
        self.admission.rates.apply(self._now_us)
        for job_id in self._timers.wake(self._now_us, self._now_us if wall_us is None else wall_us):
            self._offer(self._line(self._runs[job_id].session_id))

    def take(self, now_us: int, wall_us: int | None = None) -> QueuedRun | None:
        """Choose the next run, count it as running and advance the order; None if none may start now.

        Times are as in `wake`.
        """
        self.wake(now_us, wall_us)
        return self._take()

    def take_all(self, now_us: int, wall_us: int | None = None) -> list[QueuedRun]:
        """Take every run that may start now, in order; times are as in `wake`."""
        self.wake(now_us, wall_us)
        return list(iter(self._take, None))

    def _take(self) -> QueuedRun | None:
        self._gate_us = None
        if self.usage.total >= self.limits.total:
            return None
        shut = _Shut()
        while True:
            ready = {
                lane: found
                for lane, bins in self._bins.items()
                if bins and (found := self._best(bins, shut)) is not None
            }
            admissible = [lane for lane in ready if self.usage.closed_to(lane, self.limits) is None]
            if not admissible:
                return None
            lane = self._choose_lane(admissible)
            run = self._runs[ready[lane].job_id]
            asks = run.slots is not None and self.admission
            obstacle = self.admission.ask(run.bill, now_us=self._now_us) if asks else None
            if obstacle is None:
                break
            self._set_aside(run, obstacle, shut)
        self._advance(lane, ready)
        self._remove(run.job_id)
        self.occupy(run.session_id, lane, run.key, connection=run.slots is not None)
        return run

    def next_timer_us(self) -> int | None:
        """Return the earliest time at which a run may start that waits for a backoff or a rate, or None."""
        return min((at for at in (self._timers.next_us(), self._gate_us) if at is not None), default=None)

    def drain_notices(self) -> Notices:
        """Return what happened since the last call to runs that were not started."""
        found, self._notices = self._notices, Notices([], [])
        return found

    def drain_accounts(self) -> dict[BudgetKey, Account]:
        """Return the budgets that changed since the last call, for storing."""
        changed = self.admission.ledger.drain_dirty()
        for key in changed:
            if key.scope is BudgetScope.SESSION and key.name not in self._lines:
                self._rest(SessionId(key.name))
        return changed

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

    def _note(self, run: QueuedRun) -> _Line:
        """Count a run as queued; return its session's line, in whose heap it is yet to be put."""
        self._runs[run.job_id] = run
        if run.not_before_us:
            self._timers.set(run.job_id, run.not_before_us)
        if run.is_limited:
            self._limited.add(run.job_id)
        line = self._line(run.session_id)
        line.count += 1
        return line

    def _remove(self, job_id: JobId) -> QueuedRun:
        run = self._runs.pop(job_id)
        self._timers.drop(job_id)
        self._limited.discard(job_id)
        self._line(run.session_id).count -= 1
        return run

    def _forget_if_empty(self, session_id: SessionId, line: _Line) -> None:
        if not (line.count or line.running or line.held):
            del self._lines[session_id]
            if self.admission.ledger.knows(BudgetScope.SESSION, session_id):
                self._rest(session_id)

    def _rest(self, session_id: SessionId) -> None:
        """Keep the budget of a session without work for its next run, and let go of one that was kept for long."""
        self._resting.pop(session_id, None)
        self._resting[session_id] = None
        if len(self._resting) > MAX_RESTING_BUDGETS:
            longest = next(iter(self._resting))
            del self._resting[longest]
            if longest not in self._lines:
                self.admission.ledger.forget(longest)

    def _offer(self, line: _Line) -> None:
        """Bring the head of a session into its bin, unless it backs off or waits for the session's own budget."""
        while line.heap and line.heap[0][2] not in self._runs:
            heappop(line.heap)
        head = None
        if line.heap and not line.held and not line.running:
            head = self._runs[line.heap[0][2]]
            if self._waits(head):
                head = None
        before = line.offered
        if head is not before:
            line.offered = head
            if head is not None:  # first, so that a tree whose head is dropped keeps its turn with the next
                self._enter(head)
            if before is not None:
                self._leave(before)

    def _waits(self, head: QueuedRun) -> bool:
        """Return whether a session's head waits for a time, or until what the session has reserved is settled."""
        if head.not_before_us and not self._timers.is_due(head.job_id, self._now_us):
            return True
        ledger = self.admission.ledger
        return head.slots is not None and bool(ledger) and ledger.is_waiting(head.session_id, head.bill.expected)

    def _enter(self, run: QueuedRun) -> None:
        bins = self._bins[run.lane]
        if not bins and self._stored is None:
            self._move_lane(run.lane, rejoin(self._lane_pass[run.lane], self._lanes_virtual))
        name = self._bin_key(run)
        bin_ = bins.get(name)
        if bin_ is None:
            bin_ = bins[name] = Bin()
        bin_.add(run.job_id, run.enqueue_seq, run.priority, run.fairness_key, self._joined(run))

    def _leave(self, run: QueuedRun) -> None:
        bins, bin_key = self._bins[run.lane], self._bin_key(run)
        bin_ = bins[bin_key]
        bin_.remove(run.job_id, run.priority, run.fairness_key)
        if not bin_:
            del bins[bin_key]
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

    def _bin_key(self, run: QueuedRun) -> _BinKey:
        if run.slots is None:
            return None, None
        is_bound = run.wp_id is not None and self.admission.ledger.knows(BudgetScope.WORK_PACKET, run.wp_id)
        return run.key, run.wp_id if is_bound else None

    def _set_aside(self, run: QueuedRun, obstacle: Short | Wait, shut: _Shut) -> None:
        """Take note of what keeps a chosen run, and shut for this choice whatever it is kept by."""
        shut.any = True
        if isinstance(obstacle, Wait):
            shut.providers.add(run.key.provider_id)
            free_us = self._now_us + obstacle.us
            self._gate_us = free_us if self._gate_us is None else min(self._gate_us, free_us)
            if run.job_id not in self._limited:
                self.changes += 1
                self._limited.add(run.job_id)
                self._notices.limited.append(Limited(run, obstacle.us))
        elif obstacle.fit is Fit.NEVER:
            first = self.admission.ledger.pause(obstacle.key)
            self.drop(run.job_id)
            self._notices.refused.append(Refused(run, obstacle, first))
            if len(self._notices.refused) >= MAX_REFUSED_RUNS_PER_BATCH:
                shut.all, self._gate_us = True, self._now_us
        else:
            is_money = obstacle.key.kind is BudgetType.USD_MICRO and self.limits.price_of(run.key) != FREE
            if obstacle.key.scope is BudgetScope.WORK_PACKET:
                (shut.paid_packets if is_money else shut.packets).add(obstacle.key.name)
            elif is_money:
                shut.paid = True
            else:
                shut.all = True

    def _best(self, bins: Mapping[_BinKey, Bin], shut: _Shut) -> Head | None:
        best: Head | None = None
        for (key, wp_id), bin_ in bins.items():
            if shut.any and self._is_shut(key, wp_id, shut):
                continue
            if key is None or self.usage.full(key, self.limits) is None:
                found = bin_.head()
                if best is None or found < best:
                    best = found
        return best

    def _is_shut(self, key: SlotKey | None, wp_id: str | None, shut: _Shut) -> bool:
        if key is None:
            return False
        if shut.all or key.provider_id in shut.providers or wp_id in shut.packets:
            return True
        return (shut.paid or wp_id in shut.paid_packets) and self.limits.price_of(key) != FREE

    def _choose_lane(self, admissible: Sequence[Lane]) -> Lane:
        if len(admissible) == 1:
            return admissible[0]
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

    def load(
        self, runs: Iterable[QueuedRun], held: Iterable[SessionId], *, now_us: int = 0, wall_us: int | None = None
    ) -> None:
        """Fill an empty index with the queued runs of the truth, in any order, as they stand now.

        Times are as in `wake`; what `admission` knows is restored before.
        """
        for session_id in held:
            self._line(session_id).held = True
        for run in runs:
            self._note(run).heap.append((run.turn_seq, run.enqueue_seq, run.job_id))
        for line in self._lines.values():
            heapify(line.heap)
        self.wake(now_us, wall_us)
        for line in self._lines.values():
            self._offer(line)
        self._stored = None
        self.changes += 1
