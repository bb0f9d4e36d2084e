"""Order check: whether each run that starts may start now, and is one that the order lets go first.

It knows which heads are ready by lane and slot key, and judges every dispatch against them as they were before it.
"""

from __future__ import annotations

from collections import defaultdict, deque

from handshake.kernel.lane import LANES, Lane
from handshake.kernel.limit import SlotKey
from handshake.testing.simulator.journal import Journal, ToldJob, ToldSession
from handshake.testing.simulator.slot_bounds import SlotBounds, SlotCount
from handshake.testing.simulator.violation import Violation, require

SHARE_SLACK = 6.0
"""Dispatches by which a lane may be behind its share: strides round, and the reserve goes first."""
TURNS_BEFORE_OTHERS = 2
"""Times that a tree may go while a run of another tree waits for the same."""
LATE_US = 1_500_000
"""How long a run may be admissible before somebody notices: the dispatcher looks again after a failed store."""


class OrderCheck:
    """Ready heads by lane and slot key.

    Args:
        journal: sessions and jobs.
        bounds: the limits of the settings.
    """

    def __init__(self, journal: Journal, bounds: SlotBounds) -> None:
        self._journal = journal
        self._bounds = bounds
        self._weights = bounds.weights
        self._bins: dict[Lane, dict[SlotKey | None, dict[str, ToldJob]]] = {lane: defaultdict(dict) for lane in LANES}
        self._where: dict[str, ToldJob] = {}
        """The ready head of a session."""
        self._backing_off: set[str] = set()
        self._behind = dict.fromkeys(LANES, 0.0)
        self._dispatches = 0
        self._closed: dict[str, int] = {}
        """Until when providers were told to be closed, or to have a rate that makes runs wait."""
        self._now_us = 0
        self._slots = SlotCount(bounds)
        self._lost: list[SlotKey] = []
        """As the rows hold them."""
        self._idle_since_us: int | None = None
        self._able_since_us = 0
        self._starting = True
        self._went: dict[tuple[Lane, int, SlotKey | None, str], deque[int]] = {}

    def restart(self, now_us: int) -> None:
        """Begin anew after a runtime died: shares are counted afresh, and what was cut may go first once more."""
        self._starting = True
        self.excuse(now_us)
        self._went.clear()
        self._behind = dict.fromkeys(LANES, 0.0)

    def stop(self) -> None:
        """Expect that nothing more starts: the runtime stops."""
        self._starting = False

    def excuse(self, now_us: int) -> None:
        """Take no account of what waited before now: nothing could start."""
        self._able_since_us = now_us
        self._idle_since_us = None

    def look(self, session: ToldSession, now_us: int) -> None:
        """Bring a session's head into its place."""
        head = self._journal.jobs[session.head] if session.head is not None and session.offers else None
        self._backing_off.discard(session.session_id)
        if head is not None and head.not_before_us > now_us:
            self._backing_off.add(session.session_id)
            head = None
        before = self._where.get(session.session_id)
        if before is head:
            return
        if before is not None:
            del self._where[session.session_id]
            bin_ = self._bins[before.lane][before.slots]
            bin_.pop(before.job_id, None)
            if not bin_:
                del self._bins[before.lane][before.slots]
            before.ready_since = -1
        if head is not None:
            self._where[session.session_id] = head
            self._bins[head.lane][head.slots][head.job_id] = head
            head.ready_since = self._dispatches

    def before_batch(self, now_us: int) -> None:
        """Look again at the sessions whose backoff is over, and judge whether somebody noticed.

        Raises:
            Violation: a run has been admissible since a backoff or a closure ended.
        """
        before_us, self._now_us = self._now_us, now_us
        ended = [until_us for until_us in self._closed.values() if before_us < until_us <= now_us]
        over = sorted(session_id for session_id in self._backing_off if self._ends_us(session_id) <= now_us)
        ended += [self._ends_us(session_id) for session_id in over]
        for session_id in over:
            self.look(self._journal.sessions[session_id], now_us)
        if ended and self._idle_since_us is None and any(self._admissible(lane) for lane in LANES):
            self._idle_since_us = max(*ended, self._able_since_us)
            self._require_soon(now_us)

    def _ends_us(self, session_id: str) -> int:
        head = self._journal.sessions[session_id].head
        return 0 if head is None else self._journal.jobs[head].not_before_us

    def close(self, provider_id: str, until_us: int) -> None:
        """Take note that a provider's rate makes runs wait, at least until then."""
        self._closed[provider_id] = max(until_us, self._closed.get(provider_id, 0))

    def _is_open(self, key: SlotKey) -> bool:
        return key.provider_id not in self._bounds.rated and self._closed.get(key.provider_id, 0) <= self._now_us

    def dispatched(self, job: ToldJob) -> None:
        """Judge a dispatch that is about to be taken note of.

        Raises:
            Violation: another run had to go, or this one must wait.
        """
        session = self._journal.sessions[job.session_id]
        one = session.running is None
        require(one, "session.state.active_iff_one_running", "a second run of a session started", job.job_id)
        require(session.head == job.job_id, "scheduler.session.head_only", "a later turn overtook", job.job_id)
        require(not session.paused, "session.pause.keeps_queue", "a run of a paused session started", job.job_id)
        require(
            session.blockers == 0 and session.waiting == 0,
            "session.state.is_derived",
            "a run of a blocked session started",
            job.job_id,
        )
        require(
            self._where.get(job.session_id) is job,
            "scheduler.retry.transient_only",
            "a run started before its backoff ended",
            job.job_id,
        )
        self._require_room(job)
        self._require_first(job)
        self._count_shares(job)
        self._dispatches += 1

    def _require_room(self, job: ToldJob) -> None:
        journal, bounds = self._journal, self._bounds
        known = "scheduler.limit.is_never_exceeded"
        require(journal.running < bounds.total, known, "more runs than max_concurrent_runs", job.job_id)
        full = None if job.slots is None else self._slots.full(job.slots)
        require(full is None, known, f"a run started over the limit of {full}", job.job_id)
        fits = bounds.admits(job.lane, running=journal.running, primary=journal.running_primary)
        require(fits, "scheduler.lane.primary_never_starves", "another lane took PRIMARY's reserve", job.job_id)

    def _admissible(self, lane: Lane) -> bool:
        journal = self._journal
        if not self._bounds.admits(lane, running=journal.running, primary=journal.running_primary):
            return False
        return self._has_room(lane)

    def _has_room(self, lane: Lane) -> bool:
        return any(key is None or (self._slots.full(key) is None and self._is_open(key)) for key in self._bins[lane])

    def _require_first(self, job: ToldJob) -> None:
        if job.lane is not Lane.PRIMARY and self._journal.running_primary < self._bounds.reserved:
            starved = self._admissible(Lane.PRIMARY)
            require(not starved, "scheduler.lane.primary_never_starves", "PRIMARY had to wait", job.job_id)
        ready = self._bins[job.lane][job.slots]
        best = min(one.priority for one in ready.values())
        known = "scheduler.order.follows_priority_then_sequence"
        require(job.priority == best, known, "a run of lower priority went first", job.job_id)
        self._require_turn(job, ready)

    def _require_turn(self, job: ToldJob, ready: dict[str, ToldJob]) -> None:
        """A tree goes at most twice while a run of another waits beside it: in the round under way, and the next."""
        name = (job.lane, job.priority, job.slots, job.tree)
        went = self._went.setdefault(name, deque(maxlen=TURNS_BEFORE_OTHERS))
        if len(went) == TURNS_BEFORE_OTHERS:
            waiting = [one for one in ready.values() if one.priority == job.priority and one.tree != job.tree]
            passed_over = [one for one in waiting if one.ready_since <= went[0]]
            if passed_over:
                known = "scheduler.fairness.between_trees"
                raise Violation(known, "a tree went again and again before another", passed_over[0].job_id)
        went.append(self._dispatches)

    def _count_shares(self, job: ToldJob) -> None:
        """Count how far each lane is behind its share of the dispatches that it could have had."""
        if job.slots is not None and not self._is_open(job.slots):
            self._closed.pop(job.key.provider_id, None)
            return
        open_lanes = [lane for lane in LANES if self._admissible(lane)]
        for lane in LANES:
            if lane not in open_lanes:
                self._behind[lane] = min(0.0, self._behind[lane])
        reserve = job.lane is Lane.PRIMARY and self._journal.running_primary < self._bounds.reserved
        sharing = [lane for lane in LANES if self._has_room(lane)] if reserve else open_lanes
        whole = sum(self._weights[lane] for lane in sharing)
        for lane in [Lane.PRIMARY] if reserve else open_lanes:  # what the reserve gave is not taken from the others
            self._behind[lane] += self._weights[lane] / whole
        self._behind[job.lane] = max(-SHARE_SLACK, self._behind[job.lane] - 1)
        for lane in open_lanes:
            if self._behind[lane] > SHARE_SLACK:
                raise Violation(
                    "scheduler.lane.low_lanes_progress", f"{lane.value} is {self._behind[lane]:.1f} runs behind", lane
                )

    def after_batch(self, now_us: int) -> None:
        """Judge what did not start: an admissible run must not wait.

        Raises:
            Violation: one does.
        """
        idle = any(self._admissible(lane) for lane in LANES)
        if not idle:
            self._idle_since_us = None
        elif self._idle_since_us is None:
            self._idle_since_us = now_us
        else:
            self._require_soon(now_us)

    def _require_soon(self, now_us: int) -> None:
        if self._starting and self._idle_since_us is not None and now_us - self._idle_since_us > LATE_US:
            first = next(iter(self._where.values()))
            raise Violation(
                "scheduler.queue.no_head_of_line_blocking", "a run waits although it may start", first.job_id
            )

    def lost(self, keys: list[SlotKey]) -> None:
        """Take note of the connections of attempts that were given up: they hold their slots until they are closed."""
        if keys != self._lost:
            for step, some in ((-1, self._lost), (1, keys)):
                for key in some:
                    self._slots.add(key, step)
            self._lost = keys

    def holds(self, job: ToldJob, holds: bool) -> None:
        """Take note of whether a job's attempt holds slots."""
        if holds != job.holds_slot:
            self._slots.add(job.key, 1 if holds else -1)
        job.holds_slot = holds
