"""Queueing: runs for tests of the order, and the order itself once more, slow and plain, to hold the index against."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from msgspec.structs import replace

from handshake.kernel.budget import Account, Amounts, BudgetKey, BudgetScope, BudgetType
from handshake.kernel.ids import JobId, SessionId
from handshake.kernel.lane import LANES, STRIDE_UNIT, Lane
from handshake.kernel.limit import Limits, SlotKey
from handshake.kernel.queue import LANES_PRIORITY, Passes, RunQueue
from handshake.kernel.queued_run import QueuedRun
from handshake.kernel.rate import Gate, Rate
from handshake.kernel.retry import Reach

MINUTE_US = 60_000_000

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
    wp: str | None = None,
    tokens: int = 0,
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
        wp_id=wp,
        mt_id=None,
        estimated_tokens=tokens,
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


class SlowGate:
    """A provider's rates said with fractions: what is owed of them, drained at each look."""

    def __init__(self, rate: Rate) -> None:
        self.per_us = {
            "requests": Fraction(rate.requests_per_minute or 0, MINUTE_US),
            "tokens": Fraction(rate.tokens_per_minute or 0, MINUTE_US),
        }
        self.owed = {name: Fraction(0) for name, rate in self.per_us.items() if rate}
        self.at_us = 0
        self.closed_until_us = 0

    def look(self, now_us: int) -> None:
        """Drain what time has drained."""
        for name in self.owed:
            self.owed[name] = max(Fraction(0), self.owed[name] - (now_us - self.at_us) * self.per_us[name])
        self.at_us = now_us

    def admits(self, tokens: int, now_us: int) -> bool:
        """Return whether one request of `tokens` may go now."""
        self.look(now_us)
        wanted = {"requests": 1, "tokens": tokens}
        within = all(
            owed + wanted[name] <= max(10_000_000 * self.per_us[name], Fraction(wanted[name]))
            for name, owed in self.owed.items()
        )
        return within and self.closed_until_us <= now_us

    def change(self, requests: int, tokens: int, now_us: int) -> None:
        """Add to what is owed, or take from it."""
        self.look(now_us)
        for name, amount in (("requests", requests), ("tokens", tokens)):
            if name in self.owed:
                self.owed[name] = max(Fraction(0), self.owed[name] + amount)


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
        self.gates = {name: SlowGate(rate) for name, rate in given.rates.items()}
        self.limited: set[JobId] = set()
        """Runs that were told that a rate makes them wait."""
        self.accounts: dict[BudgetKey, list[int]] = {}
        """Limit, spent and reserved tokens, narrowest scope first."""
        self.refused: list[JobId] = []

    def binding(self, run: QueuedRun) -> list[BudgetKey]:
        """Return the budgets that bind a run, narrowest first."""
        names = {BudgetScope.SESSION: run.session_id, BudgetScope.WORK_PACKET: run.wp_id, BudgetScope.WORKSPACE: ""}
        return [key for scope, name in names.items() for key in self.accounts if key[:2] == (scope, name)]

    def obstacle(self, run: QueuedRun) -> BudgetKey | None:
        """Return the budget that keeps a run; a run that can never fit under one is refused."""
        room = {key: self.accounts[key][0] - self.accounts[key][1] for key in self.binding(run)}
        if any(run.estimated_tokens > left for left in room.values()):
            del self.runs[run.job_id]
            self.refused.append(run.job_id)
        waits = (key for key, left in room.items() if run.estimated_tokens > left - self.accounts[key][2])
        return next(waits, None)

    def settle_attempt(self, run: QueuedRun, taken: Amounts, reach: Reach, now_us: int) -> None:
        """Replace what an attempt had reserved by what it took."""
        tokens = taken.tokens if reach is Reach.SENT else 0
        if run.key.provider_id in self.gates:
            back = -1 if reach is Reach.NOTHING else 0
            self.gates[run.key.provider_id].change(back, tokens - run.estimated_tokens, now_us)
        for key in self.binding(run):
            self.accounts[key][1] += tokens
            self.accounts[key][2] -= run.estimated_tokens

    def heads(self) -> list[QueuedRun]:
        """Return what each session that is neither held nor busy offers now."""
        busy = {run.session_id for run in self.running} | self.held
        first: dict[SessionId, QueuedRun] = {}
        for run in sorted(self.runs.values(), key=lambda one: (one.turn_seq, one.enqueue_seq)):
            first.setdefault(run.session_id, run)
        due = [run for name, run in first.items() if name not in busy and run.not_before_us <= self.now_us]
        return [run for run in due if not self.waits_for_own(run)]

    def waits_for_own(self, run: QueuedRun) -> bool:
        """Return whether a run waits until what its session has reserved is settled."""
        key = BudgetKey(BudgetScope.SESSION, run.session_id, BudgetType.TOKENS)
        limit, spent, reserved = self.accounts.get(key, [10**9, 0, 0])
        return limit - spent - reserved < run.estimated_tokens <= limit - spent

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
        shut: set[str | None] = set()
        while (chosen := self.choose(shut)) is not None:
            lane, ready = chosen
            run = ready[lane]
            gate = self.gates.get(run.key.provider_id)
            keeps = self.obstacle(run)
            if keeps is not None:
                if run.job_id in self.runs:
                    shut.add(f"{keeps.scope}:{keeps.name}")
                self.settle()
            elif gate is not None and not gate.admits(run.estimated_tokens, self.now_us):
                shut.add(run.key.provider_id)
                self.limited.add(run.job_id)
            else:
                return self.start(lane, ready)
        return None

    def choose(self, shut: set[str | None]) -> tuple[Lane, dict[Lane, QueuedRun]] | None:
        """Return the lane that goes next and the first run of each, leaving out what is shut; None if none may go."""
        ready: dict[Lane, QueuedRun] = {}
        for run in self.heads():
            best = ready.get(run.lane)
            bound = {run.key.provider_id, f"work_packet:{run.wp_id}", "workspace:"}
            if not self.is_full(run.key) and not bound & shut and (best is None or self.place(run) < self.place(best)):
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
        return lane, ready

    def start(self, lane: Lane, ready: dict[Lane, QueuedRun]) -> QueuedRun:
        """Let the first run of a lane go, and advance the order."""
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
        self.limited.discard(run.job_id)
        if run.key.provider_id in self.gates:
            self.gates[run.key.provider_id].change(1, run.estimated_tokens, self.now_us)
        for key in self.binding(run):
            self.accounts[key][2] += run.estimated_tokens
        self.settle()
        return run

    def stored(self) -> Passes:
        """Return what the rows would hold."""
        virtual = {**self.round_under_way, (LANES[0], LANES_PRIORITY): self.lanes_virtual}
        return Passes(lanes=dict(self.lane_pass), trees=dict(self.round_of_tree), virtual=virtual)

    def reread(self, rows: Passes, gates: Mapping[str, Gate], accounts: Mapping[BudgetKey, Account]) -> RunQueue:
        """Return an index as it is read from the truth; the arguments are all that was ever stored of the order."""
        queue = RunQueue(self.limits, self.weights)
        queue.restore(rows)
        queue.admission.ledger.load(accounts.items())
        for name, gate in gates.items():
            queue.admission.rates.restore(name, gate)
        connections = list(self.connections)
        for run in self.running:
            queue.occupy(run.session_id, run.lane, run.key)
            connections.remove(run.key)
        for key in connections:
            queue.hold_connection(key)
        told = (replace(run, is_limited=run.job_id in self.limited) for run in self.runs.values())
        queue.load(told, self.held, now_us=self.now_us)
        return queue
