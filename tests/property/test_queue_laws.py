"""Laws of the queue: the index makes the choices of a plain order, also when read anew, in every process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import msgspec
import pytest

from handshake.kernel.budget import Account, Amounts, BudgetKey, BudgetScope, BudgetType
from handshake.kernel.ids import JobId, SessionId
from handshake.kernel.lane import LANES, Lane
from handshake.kernel.limit import Limits, SlotKey
from handshake.kernel.queue import Passes, RunQueue
from handshake.kernel.queued_run import QueuedRun
from handshake.kernel.rate import Gate, Rate
from handshake.kernel.retry import Reach
from tests.queueing import WEIGHTS, SlowOrder, queued
from tests.requirement import requirement

ROOT = Path(__file__).resolve().parents[2]
KEYS = (
    SlotKey("a", "small", None),
    SlotKey("a", "large", "heavy"),
    SlotKey("b", "small", "heavy"),
    SlotKey("c", "small", None),
)
SESSIONS = 9
STEPS = (
    "send",
    "send",
    "send",
    "take",
    "take",
    "take",
    "end",
    "end",
    "retry",
    "drop",
    "hold",
    "unhold",
    "cancel",
    "refuse",
)
"""Cancelling a run that is running frees its run slot at once and its connection later."""
RATES = {"a": Rate(requests_per_minute=30, tokens_per_minute=6_000), "b": Rate(tokens_per_minute=3_000)}
BUDGETS = {
    BudgetKey(BudgetScope.SESSION, "session-1", BudgetType.TOKENS): 9_000,
    BudgetKey(BudgetScope.SESSION, "session-2", BudgetType.TOKENS): 2_000,
    BudgetKey(BudgetScope.WORK_PACKET, "WP-1", BudgetType.TOKENS): 12_000,
    BudgetKey(BudgetScope.WORK_PACKET, "WP-2", BudgetType.TOKENS): 3_000,
    BudgetKey(BudgetScope.WORKSPACE, "", BudgetType.TOKENS): 40_000,
}
SECOND_US = 1_000_000


class Pair:
    """The index and the slow order, moved together; every choice must be the same."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.limits = Limits(
            total=chance.randrange(6) + 2,
            primary_reserved=chance.randrange(2),
            provider_default=3,
            model_default=2,
            providers={"c": 1},
            models={("a", "large"): 1},
            groups={"heavy": 2},
            rates=RATES,
        )
        self.slow = SlowOrder(self.limits)
        self.fast = RunQueue(self.limits, WEIGHTS)
        self.rows = Passes()
        self.gates: dict[str, Gate] = {}
        self.accounts = {key: Account(limit) for key, limit in BUDGETS.items() if chance.randrange(3)}
        self.fast.admission.ledger.load(self.accounts.items())
        self.slow.accounts = {key: [one.limit, 0, 0] for key, one in self.accounts.items()}
        self.accepted = 0
        self.turns: dict[int, int] = {}
        self.closing: list[QueuedRun] = []
        self.now_us = 0
        self.taken: list[JobId] = []
        self.dropped: set[JobId] = set()
        self.refused: list[JobId] = []
        self.limited: list[tuple[JobId, int]] = []

    def step(self, verb: str) -> None:
        getattr(self, verb)()
        self.slow.settle()
        self.fast.wake(self.now_us)
        self.check_usage()
        self.store()

    def send(self) -> None:
        self.accepted += 1
        session = self.chance.randrange(SESSIONS)
        self.turns[session] = self.turns.get(session, 0) + 1
        run = queued(
            self.accepted,
            session=f"session-{session}",
            tree=f"tree-{session % 4}",
            lane=self.chance.choice(LANES),
            priority=self.chance.choice((10, 50, 50, 90)),
            key=KEYS[session % len(KEYS)],
            turn=self.turns[session],
            wp=(None, "WP-1", "WP-2")[session % 3],
            tokens=self.chance.choice((1, 100, 300, 900, 1_800)),
        )
        self.slow.runs[run.job_id] = run
        own = (BudgetScope.SESSION, run.session_id)
        if not self.fast.admission.ledger.knows(*own):
            self.fast.admission.ledger.load(one for one in self.accounts.items() if one[0][:2] == own)
        self.fast.add(run)

    def take(self) -> None:
        self.now_us += self.chance.randrange(3) * SECOND_US
        expected = self.slow.take(self.now_us)
        found = self.fast.take(self.now_us)
        assert (found is None) == (expected is None)
        if found is not None:
            assert msgspec.structs.replace(found, is_limited=False) == expected
            self.taken.append(found.job_id)
        limited, refused = self.fast.drain_notices()
        self.limited += [(one.run.job_id, one.run.attempt) for one in limited]
        assert {one.run.job_id for one in limited} <= self.slow.limited
        assert len(set(self.limited)) == len(self.limited), "told twice"
        self.dropped |= {one.run.job_id for one in refused}
        self.refused += [one.run.job_id for one in refused]
        assert self.refused == self.slow.refused

    def end(self) -> None:
        if self.slow.running:
            self.close(self.leave_running())

    def close(self, run: QueuedRun, *, vacate: bool = True) -> None:
        """Let the connection of a run be closed, and its run leave `running` if that has not happened."""
        taken = Amounts(self.chance.choice((run.estimated_tokens, 1, 50, 2_500)))
        reach = self.chance.choice((Reach.NOTHING, Reach.ENDPOINT, *[Reach.SENT] * 4))
        self.fast.settle(run.bill, taken, reach)
        self.slow.settle_attempt(run, taken, reach, self.now_us)
        self.fast.free_connection(run.key)
        self.slow.connections.remove(run.key)
        if vacate:
            self.fast.vacate(run.session_id, run.lane)

    def retry(self) -> None:
        if self.slow.running:
            run = self.leave_running()
            self.close(run, vacate=False)
            again = msgspec.structs.replace(
                run, attempt=run.attempt + 1, not_before_us=self.now_us + self.chance.randrange(9) * SECOND_US
            )
            self.slow.runs[again.job_id] = again
            self.fast.add(again)
            self.fast.vacate(run.session_id, run.lane)

    def refuse(self) -> None:
        """Let a provider say that it wants nothing for a while."""
        name, span_us = self.chance.choice(sorted(RATES)), self.chance.randrange(1, 5) * SECOND_US
        self.fast.close_provider(name, span_us)
        gate = self.slow.gates[name]
        gate.closed_until_us = max(gate.closed_until_us, self.now_us + span_us)

    def cancel(self) -> None:
        if self.closing and self.chance.randrange(2):
            self.close(self.closing.pop(), vacate=False)
        elif self.slow.running:
            run = self.leave_running()
            self.closing.append(run)
            self.fast.vacate(run.session_id, run.lane)

    def drop(self) -> None:
        if self.slow.runs:
            job_id = self.chance.choice(sorted(self.slow.runs))
            del self.slow.runs[job_id]
            self.slow.limited.discard(job_id)
            self.dropped.add(job_id)
            self.fast.drop(job_id)

    def hold(self) -> None:
        session_id = SessionId(f"session-{self.chance.randrange(SESSIONS)}")
        self.slow.held.add(session_id)
        self.fast.hold(session_id)

    def unhold(self) -> None:
        if self.slow.held:
            session_id = self.chance.choice(sorted(self.slow.held))
            self.slow.held.discard(session_id)
            self.fast.unhold(session_id)

    def leave_running(self) -> QueuedRun:
        return self.slow.running.pop(self.chance.randrange(len(self.slow.running)))

    def check_usage(self) -> None:
        usage, limits = self.fast.usage, self.limits
        held = self.slow.connections
        assert usage.total == len(self.slow.running) <= limits.total
        assert usage.primary == sum(run.lane is Lane.PRIMARY for run in self.slow.running)
        assert usage.total - usage.primary <= limits.total - limits.primary_reserved
        for key in KEYS:
            assert sum(one.provider_id == key.provider_id for one in held) <= limits.of_provider(key)
            assert sum(one[:2] == key[:2] for one in held) <= limits.of_model(key)
        assert sum(one.group == "heavy" for one in held) <= 2
        assert len({run.session_id for run in self.slow.running}) == len(self.slow.running)
        assert len(self.fast) == len(self.slow.runs)

    def store(self) -> None:
        """Keep rows as the dispatcher does at the end of each batch."""
        changed = self.fast.drain_dirty()
        self.rows.lanes.update(changed.lanes)
        self.rows.trees.update(changed.trees)
        self.rows.virtual.update(changed.virtual)
        self.gates.update(self.fast.admission.rates.drain_dirty())
        self.accounts.update(self.fast.drain_accounts())
        stored = {key: [one.limit, one.spent, one.reserved] for key, one in self.accounts.items()}
        assert stored == self.slow.accounts
        expected = self.slow.stored()
        assert {name: self.rows.trees[name] for name in expected.trees} == expected.trees
        assert {name: self.rows.virtual.get(name, 0) for name in expected.virtual} == expected.virtual
        assert {lane: self.rows.lanes.get(lane, 0) for lane in LANES} == expected.lanes

    def reread(self) -> None:
        """Put an index in place that is read from rows, as after a restart."""
        self.fast = self.slow.reread(self.rows, self.gates, self.accounts)


def play(seed: int, *, steps: int = 250, rereads: int = 0) -> Pair:
    """Play a random game of `steps` moves, reading the index anew `rereads` times, and then to its end."""
    chance = Random(seed)
    pair = Pair(chance)
    pauses = set(Random(-seed).sample(range(steps), rereads))
    for number in range(steps):
        pair.step(chance.choice(STEPS))
        if number in pauses:
            pair.reread()
    for session_id in sorted(pair.slow.held):
        pair.slow.held.discard(session_id)
        pair.fast.unhold(session_id)
    while pair.slow.running or pair.slow.runs or pair.closing:
        pair.now_us += 10 * SECOND_US
        for verb in ("take", "take", "end", "cancel"):
            pair.step(verb)
    return pair


@requirement("scheduler.order.is_deterministic", "scheduler.limit.is_never_exceeded", "scheduler.session.head_only")
@pytest.mark.parametrize("seed", range(60))
def test_index_chooses_what_the_plain_order_chooses(seed: int) -> None:
    pair = play(seed)
    assert pair.taken
    assert len(pair.fast) == 0


@requirement("scheduler.rate.no_event_flood")
def test_games_meet_rates_and_budgets_and_tell_them_once() -> None:
    games = [play(seed) for seed in range(20)]
    assert sum(bool(game.limited) for game in games) > 15
    assert sum(bool(game.refused) for game in games) > 10


@requirement("scheduler.order.is_deterministic")
@pytest.mark.parametrize("seed", range(60, 90))
def test_index_read_from_rows_goes_on_with_the_same_choices(seed: int) -> None:
    assert play(seed, rereads=12).taken == play(seed).taken


def choices() -> str:
    return " ".join(job_id for seed in range(9) for job_id in play(seed).taken)


@requirement("scheduler.order.is_deterministic")
def test_every_process_makes_the_same_choices() -> None:
    code = "from tests.property.test_queue_laws import choices; print(choices())"
    for hash_seed in ("0", "4711"):
        elsewhere = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env={"PYTHONHASHSEED": hash_seed}, capture_output=True, check=True
        )
        assert elsewhere.stdout.decode().strip() == choices()


@requirement("scheduler.queue.never_drops")
def test_every_run_is_taken_or_dropped() -> None:
    for seed in range(90, 110):
        pair = play(seed)
        left = {f"job-{number}" for number in range(1, pair.accepted + 1)} - set(pair.taken)
        assert left <= pair.dropped


class Forgetful(RunQueue):
    """An index with a mistake in it."""

    def free_connection(self, key: SlotKey) -> None:
        super().free_connection(key)
        if key.group is not None:
            super().free_connection(key)


class Overtaking(RunQueue):
    """An index that lets a later turn overtake an earlier one of its session."""

    def add(self, run: QueuedRun) -> None:
        super().add(queued_later(run))


class Unfair(RunQueue):
    """An index that forgets whose turn it is."""

    def take(self, now_us: int, wall_us: int | None = None) -> QueuedRun | None:
        for tree in self._trees.values():
            tree.round = 0
        return super().take(now_us, wall_us)


def queued_later(run: QueuedRun) -> QueuedRun:
    return msgspec.structs.replace(run, turn_seq=-run.turn_seq)


@pytest.mark.parametrize("broken", [Forgetful, Overtaking, Unfair])
def test_a_broken_index_is_noticed(broken: type[RunQueue], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.property.test_queue_laws.RunQueue", broken)
    noticed = 0
    for seed in range(20):
        try:
            play(seed)
        except (AssertionError, IndexError, KeyError):
            noticed += 1
    assert noticed > 10
