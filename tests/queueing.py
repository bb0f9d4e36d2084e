"""Queueing: runs for tests of the order, and the order itself once more, slow and plain, to hold the index against."""

from __future__ import annotations

from collections.abc import Mapping

from handshake.kernel.ids import JobId, SessionId
from handshake.kernel.lane import LANES, STRIDE_UNIT, Lane
from handshake.kernel.limit import Limits, SlotKey
from handshake.kernel.queue import LANES_PRIORITY, Passes, QueuedRun, RunQueue

WEIGHTS: dict[Lane, int] = {Lane.PRIMARY: 8, Lane.VALIDATION: 4, Lane.SUBAGENT: 3, Lane.BACKGROUND: 1}
"""The shipped weights."""


def queued(
    number: int,
    *,
    session: str | None = None,
    tree: str | None = None,
    lane: Lane = Lane.PRIMARY,
    priority: int = 50,
    key: SlotKey | None = None,
    turn: int = 1,
    attempt: int = 0,
    not_before_us: int = 0,
) -> QueuedRun:
    """Return run `number` in the order of acceptance; unless told otherwise, of a session and tree of its own."""
    session_id = session or f"session-{number}"
    return QueuedRun(
        job_id=JobId(f"job-{number}"),
        session_id=SessionId(session_id),
        enqueue_seq=number,
        turn_seq=turn,
        lane=lane,
        priority=priority,
        key=key or SlotKey("provider", "model", None),
        fairness_key=tree or session_id,
        attempt=attempt,
        created_at_us=0,
        not_before_us=not_before_us,
        trace_id="trace",
        wp_id=None,
        mt_id=None,
    )


def limits(total: int = 1_000, *, reserved: int = 0, each: int = 1_000, **groups: int) -> Limits:
    """Return limits with `total` global slots, `each` per provider and model, and those of named groups."""
    return Limits(total=total, primary_reserved=reserved, provider_default=each, model_default=each, groups=groups)


def queue_of(given: Limits, weights: Mapping[Lane, int] = WEIGHTS) -> RunQueue:
    """Return an empty index."""
    return RunQueue(given, weights)


def end(queue: RunQueue, run: QueuedRun) -> None:
    """Let a run that was taken leave `running`, its connection closed."""
    queue.free_connection(run.key)
    queue.vacate(run.session_id, run.lane)


def drain(queue: RunQueue, *, now_us: int = 0) -> list[QueuedRun]:
    """Take and end one run after another until none is left that may start; return them in order."""
    taken = []
    while (run := queue.take(now_us)) is not None:
        taken.append(run)
        end(queue, run)
    return taken


class SlowOrder:
    """01 §5 said with lists: every choice looks at every run, and nothing is remembered but what is stored."""

    def __init__(self, given: Limits, weights: Mapping[Lane, int] = WEIGHTS) -> None:
        self.limits = given
        self.weights = weights
        self.runs: dict[JobId, QueuedRun] = {}
        self.held: set[SessionId] = set()
        self.running: list[QueuedRun] = []
        self.connections: list[SlotKey] = []
        self.now_us = 0
        self.lane_pass = dict.fromkeys(LANES, 0)
        self.lanes_virtual = 0
        self.round_of_tree: dict[tuple[Lane, int, str], int] = {}
        self.round_under_way: dict[tuple[Lane, int], int] = {}
        self.waiting_lanes: set[Lane] = set()

    def heads(self) -> list[QueuedRun]:
        """Return what each session that is neither held nor busy offers now."""
        busy = {run.session_id for run in self.running} | self.held
        first: dict[SessionId, QueuedRun] = {}
        for run in sorted(self.runs.values(), key=lambda one: (one.turn_seq, one.enqueue_seq)):
            first.setdefault(run.session_id, run)
        return [run for name, run in first.items() if name not in busy and run.not_before_us <= self.now_us]

    def settle(self) -> None:
        """Let trees and lanes join that have something to offer, and leave that have not; after every change."""
        heads = self.heads()
        trees = {(run.lane, run.priority, run.fairness_key) for run in heads}
        self.round_of_tree = {
            name: self.round_of_tree.get(name, self.round_under_way.get(name[:2], 0) + 1) for name in trees
        }
        lanes = {run.lane for run in heads}
        for lane in lanes - self.waiting_lanes:
            self.lane_pass[lane] = max(self.lane_pass[lane], self.lanes_virtual)
        self.waiting_lanes = lanes

    def is_full(self, key: SlotKey) -> bool:
        """Return whether a shared limit of the key is reached."""
        of_provider = [one for one in self.connections if one.provider_id == key.provider_id]
        of_model = [one for one in of_provider if one.model_id == key.model_id]
        of_group = [one for one in self.connections if key.group is not None and one.group == key.group]
        given = self.limits
        return (
            len(of_provider) >= given.of_provider(key)
            or len(of_model) >= given.of_model(key)
            or len(of_group) >= given.groups.get(key.group or "", 1_000_000)
        )

    def place(self, run: QueuedRun) -> tuple[int, int, int]:
        """Return the run's place in its lane."""
        return (run.priority, self.round_of_tree[run.lane, run.priority, run.fairness_key], run.enqueue_seq)

    def take(self, now_us: int) -> QueuedRun | None:
        """Choose as `RunQueue.take` must."""
        self.now_us = max(self.now_us, now_us)
        self.settle()
        ready: dict[Lane, QueuedRun] = {}
        for run in self.heads():
            best = ready.get(run.lane)
            if not self.is_full(run.key) and (best is None or self.place(run) < self.place(best)):
                ready[run.lane] = run
        primary = sum(run.lane is Lane.PRIMARY for run in self.running)
        others = len(self.running) - primary
        kept = self.limits.primary_reserved
        lanes = [lane for lane in LANES if lane in ready and len(self.running) < self.limits.total]
        lanes = [lane for lane in lanes if lane is Lane.PRIMARY or others < self.limits.total - kept]
        if not lanes:
            return None
        lane = min(lanes, key=lambda one: self.lane_pass[one])
        if Lane.PRIMARY in lanes and primary < kept:
            lane = Lane.PRIMARY
        self.lanes_virtual = max(self.lanes_virtual, min(self.lane_pass[one] for one in ready))
        grown = max(self.lane_pass[lane], self.lanes_virtual) + STRIDE_UNIT // self.weights[lane]
        self.lane_pass[lane] = min(grown, self.lanes_virtual + STRIDE_UNIT)
        run = ready[lane]
        level, tree = (lane, run.priority), (lane, run.priority, run.fairness_key)
        self.round_under_way[level] = max(self.round_under_way.get(level, 0), self.round_of_tree[tree])
        self.round_of_tree[tree] = self.round_under_way[level] + 1
        del self.runs[run.job_id]
        self.running.append(run)
        self.connections.append(run.key)
        self.settle()
        return run

    def stored(self) -> Passes:
        """Return what the rows would hold."""
        virtual = {**self.round_under_way, (LANES[0], LANES_PRIORITY): self.lanes_virtual}
        return Passes(lanes=dict(self.lane_pass), trees=dict(self.round_of_tree), virtual=virtual)

    def reread(self, rows: Passes) -> RunQueue:
        """Return an index as it is read from the truth; `rows` are all that was ever stored of the order."""
        queue = RunQueue(self.limits, self.weights)
        queue.restore(rows)
        connections = list(self.connections)
        for run in self.running:
            queue.occupy(run.session_id, run.lane, run.key)
            connections.remove(run.key)
        for key in connections:
            queue.hold_connection(key)
        queue.load(self.runs.values(), self.held, now_us=self.now_us)
        return queue
