"""Tests of budgets in the running scheduler: reserved before a start, settled after it, told once, never exceeded."""

from __future__ import annotations

from functools import partial
from random import Random

import msgspec
import pytest

from handshake.bootstrap import limits_of
from handshake.kernel.budget import Account, BudgetKey, BudgetScope, BudgetType
from handshake.kernel.errors import StoreFailed
from handshake.kernel.ids import JobId, SessionId
from handshake.kernel.job import JobState
from handshake.kernel.retry import Fault, FaultKind
from handshake.kernel.settings import BudgetSettings, ModelSettings, Settings, WorkspaceBudgets
from handshake.kernel.usage import TokenUsage
from handshake.kernel.waiting import WaitReason
from handshake.operations import budgets, records, views
from handshake.ports.store import Reader, Tx
from tests.requirement import requirement
from tests.running import MODEL, Stage, settings_of

TOKENS = BudgetType.TOKENS
WORKSPACE = BudgetKey(BudgetScope.WORKSPACE, "", TOKENS)
PACKET = BudgetKey(BudgetScope.WORK_PACKET, "WP-1", TOKENS)
PRICED = ModelSettings(
    max_concurrent=64, input_usd_micro_per_million=2_000_000, output_usd_micro_per_million=10_000_000
)


def limited(total: int = 64, *, packets: dict[str, BudgetSettings] | None = None, **given: int) -> Settings:
    """Return settings with budgets of the workspace and of work packets, and a price for the model."""
    budgets = WorkspaceBudgets(work_packets=packets or {}, **given)
    return msgspec.structs.replace(settings_of(total, models={MODEL: PRICED}), budgets=budgets)


def accounts(stage: Stage) -> dict[BudgetKey, Account]:
    """Return all budgets as they are stored."""

    def look(reader: Reader) -> dict[BudgetKey, Account]:
        own = reader.rows("budgets_of_open_work")
        return records.accounts([*reader.rows("budgets_configured"), *own])

    return stage.store.read_now(look)


def spent(stage: Stage, key: BudgetKey) -> tuple[int, int]:
    found = accounts(stage)[key]
    return found.spent, found.reserved


async def sent(stage: Stage, session_id: SessionId, *, output: int = 98) -> JobId:
    """Send a turn that is expected to take two tokens more than its longest answer, in a session's first turn."""
    return await stage.send(session_id, "Hello", max_output_tokens=output)


@requirement("scheduler.budget.reserved_before_dispatch")
async def test_runs_of_different_sessions_cannot_together_exceed_a_budget() -> None:
    stage = await Stage.open(limited(tokens=250))
    jobs = [await sent(stage, await stage.create()) for _ in range(3)]
    assert stage.running() == jobs[:2]
    assert spent(stage, WORKSPACE) == (0, 200)
    (waiting,) = stage.store.read_now(
        lambda reader: views.queue(reader, limits_of(stage.settings), dispatching=True, now_us=0).items
    )
    assert (waiting.job_id, waiting.wait_reason) == (jobs[2], WaitReason.BUDGET)


@requirement("scheduler.budget.reserved_before_dispatch")
async def test_a_settlement_that_frees_room_starts_what_waits() -> None:
    stage = await Stage.open(limited(tokens=250))
    first, second, third = [await sent(stage, await stage.create()) for _ in range(3)]
    await stage.batch(stage.finishing(stage.ticket(first), usage=TokenUsage(4, 6, 10)))
    assert stage.running() == [second, third]
    assert spent(stage, WORKSPACE) == (10, 200)


@requirement("scheduler.budget.reserved_before_dispatch")
async def test_a_run_that_never_fits_fails_before_anything_is_sent_and_others_go_on() -> None:
    stage = await Stage.open(limited(tokens=250))
    large = await sent(stage, await stage.create(), output=400)
    small = await sent(stage, await stage.create())
    job = stage.job(large)
    assert (job.state, job.error_code, job.attempt) == (JobState.FAILED, "HSK-402-BUDGET-EXCEEDED", 0)
    assert stage.session(job.session_id).last_error == "HSK-402-BUDGET-EXCEEDED"
    assert stage.running() == [small]
    found = stage.check()
    (ended,) = found.of("session_scheduler.ended")
    assert (ended.job_id, ended.payload["reason"]) == (large, "budget_exceeded")
    assert found.of("llm_inference") == []


@requirement("scheduler.budget.reserved_before_dispatch")
async def test_a_run_waits_while_it_may_fit_and_fails_once_it_cannot() -> None:
    stage = await Stage.open(limited(tokens=250))
    first = await sent(stage, await stage.create(), output=198)
    second = await sent(stage, await stage.create(), output=98)
    assert stage.job(second).state is JobState.QUEUED
    await stage.batch(stage.finishing(stage.ticket(first), usage=None))
    assert spent(stage, WORKSPACE) == (200, 0)
    assert stage.job(second).state is JobState.FAILED
    assert (stage.job(first).settled_tokens, stage.job(first).settled_is_estimate) == (200, True)


@requirement("scheduler.budget.reserved_before_dispatch", "scheduler.queue.no_head_of_line_blocking")
async def test_one_packet_that_is_short_holds_back_nobody_else() -> None:
    packets = {"WP-1": BudgetSettings(tokens=120), "WP-2": BudgetSettings(tokens=120)}
    stage = await Stage.open(limited(packets=packets))
    first = await sent(stage, await stage.create(wp_id="WP-1"))
    waits = await sent(stage, await stage.create(wp_id="WP-1"))
    other = await sent(stage, await stage.create(wp_id="WP-2"))
    free = [await sent(stage, await stage.create(wp_id=name)) for name in ("WP-3", None)]
    assert stage.running() == [first, other, *free]
    assert stage.job(waits).state is JobState.QUEUED
    assert spent(stage, PACKET) == (0, 100)


@requirement("scheduler.budget.reserved_before_dispatch", "scheduler.queue.no_head_of_line_blocking")
@pytest.mark.parametrize("wp_id", [None, "WP-1"], ids=["workspace", "work packet"])
async def test_what_costs_nothing_does_not_wait_for_money(wp_id: str | None) -> None:
    money = BudgetSettings(usd_micro=1_500)
    settings = limited(usd_micro=1_500) if wp_id is None else limited(packets={wp_id: money})
    models = settings_of(64, models={MODEL: PRICED, "free": ModelSettings(max_concurrent=64)})
    stage = await Stage.open(msgspec.structs.replace(models, budgets=settings.budgets))
    first, second = [await sent(stage, await stage.create(wp_id=wp_id)) for _ in range(2)]
    free = await sent(stage, await stage.create(model_id="free", wp_id=wp_id))
    assert stage.running() == [first, free]
    assert stage.job(second).state is JobState.QUEUED
    await stage.batch(stage.finishing(stage.ticket(first), usage=TokenUsage(4, 6, 10)))
    assert stage.running() == [second, free]


@requirement("scheduler.budget.reserved_before_dispatch")
async def test_what_does_not_fit_under_one_budget_is_reserved_under_none() -> None:
    stage = await Stage.open(limited(tokens=1_000, packets={"WP-1": BudgetSettings(calls=1)}))
    await sent(stage, await stage.create(wp_id="WP-1"))
    waiting = await sent(stage, await stage.create(wp_id="WP-1", budget={TOKENS: 500}))
    assert spent(stage, WORKSPACE) == (0, 100)
    assert spent(stage, BudgetKey(BudgetScope.SESSION, stage.job(waiting).session_id, TOKENS)) == (0, 0)


@requirement("scheduler.budget.reserved_before_dispatch")
async def test_a_sessions_own_budget_counts_all_kinds() -> None:
    stage = await Stage.open(limited())
    budget = {TOKENS: 10_000, BudgetType.USD_MICRO: 1_500, BudgetType.CALLS: 2}
    session_id = await stage.create(budget=budget)
    first = await sent(stage, session_id)
    job = stage.job(first)
    assert (job.estimated_tokens, job.estimated_cost_usd_micro, job.reserved_cost_usd_micro) == (100, 984, 984)
    second = await sent(stage, session_id)
    await stage.batch(stage.finishing(stage.ticket(first), usage=TokenUsage(3, 7, 10)))
    assert stage.job(first).settled_cost_usd_micro == 76
    assert stage.session(session_id).settled_cost_usd_micro == 76
    assert stage.running() == [second]
    await stage.batch(stage.finishing(stage.ticket(second), usage=TokenUsage(3, 7, 10)))
    third = await sent(stage, session_id)
    assert stage.job(third).state is JobState.FAILED
    (paused,) = stage.check().of("budget.paused")
    assert paused.payload == {
        "budget_scope": "session", "budget_type": "calls", "current_value": 2, "limit_value": 2,
        "session_id": session_id,
    }  # fmt: skip


async def test_a_pause_is_told_once_and_a_warning_once() -> None:
    stage = await Stage.open(limited(tokens=1_000))
    session_id = await stage.create()
    for _ in range(3):
        job_id = await sent(stage, session_id)
        await stage.batch(stage.finishing(stage.ticket(job_id), usage=TokenUsage(5, 295, 300)))
    for _ in range(3):
        assert stage.job(await sent(stage, session_id, output=900)).state is JobState.FAILED
    found = stage.check()
    (warning,) = found.of("session.budget_warning")
    assert warning.payload == {
        "budget_type": "tokens", "current_value": 900, "session_id": session_id, "threshold_value": 800
    }  # fmt: skip
    assert len(found.of("budget.paused")) == 1


@requirement("scheduler.budget.reserved_before_dispatch")
@pytest.mark.parametrize(
    ("fault", "taken"),
    [
        (Fault(FaultKind.CONNECT), 0),
        (Fault(FaultKind.STATUS, 400, sent=True), 100),
        (Fault(FaultKind.STATUS, 503, sent=True), 100),
        (Fault(FaultKind.RESET, consumed=True), 100),
    ],
)
async def test_a_failed_call_settles_in_full_unless_nothing_was_sent(fault: Fault, taken: int) -> None:
    stage = await Stage.open(limited(tokens=1_000))
    job_id = await sent(stage, await stage.create())
    await stage.batch(stage.failing(stage.ticket(job_id), fault))
    assert spent(stage, WORKSPACE) == (taken, 0)
    assert stage.job(job_id).settled_tokens == taken


@requirement("scheduler.budget.reserved_before_dispatch")
async def test_a_cancelled_attempt_keeps_its_reservation_until_its_connection_is_closed() -> None:
    stage = await Stage.open(limited())
    session_id = await stage.create(budget={TOKENS: 150})
    key = BudgetKey(BudgetScope.SESSION, session_id, TOKENS)
    first = await sent(stage, session_id)
    ticket = stage.ticket(first)
    second = await sent(stage, session_id, output=30)
    await stage.batch(stage.cancelling(first))
    assert spent(stage, key) == (0, 133)
    assert stage.running() == [second]
    third = await sent(stage, session_id, output=30)
    await stage.batch(stage.finishing(stage.ticket(second), usage=TokenUsage(1, 19, 20)))
    assert stage.running() == []
    await stage.batch(stage.finishing(ticket, usage=TokenUsage(1, 1, 2)))
    assert spent(stage, key) == (22, stage.job(third).estimated_tokens)
    assert stage.running() == [third]


@requirement("scheduler.budget.reserved_before_dispatch", "scheduler.rate.reconciles_usage")
async def test_an_attempt_that_is_given_up_settles_in_full_and_once() -> None:
    stage = await Stage.open(limited(tokens=1_000))
    session_id = await stage.create(budget={TOKENS: 1_000})
    job_id = await sent(stage, session_id)
    late = stage.ticket(job_id)
    await stage.batch(stage.giving_up(late))
    assert stage.running() == [job_id], "it was queued again"
    assert spent(stage, WORKSPACE) == (100, 100)
    await stage.batch(stage.finishing(late, usage=TokenUsage(1, 1, 2)))
    assert spent(stage, WORKSPACE) == (100, 100)
    await stage.batch(stage.finishing(stage.ticket(job_id), usage=TokenUsage(3, 7, 10)))
    assert spent(stage, WORKSPACE) == (110, 0)
    assert (stage.job(job_id).settled_tokens, stage.session(session_id).settled_tokens) == (110, 110)
    stage.check()


@requirement("scheduler.budget.reserved_before_dispatch")
async def test_a_restart_settles_in_full_what_the_dead_had_reserved() -> None:
    stage = await Stage.open(limited(tokens=1_000))
    session_id = await stage.create()
    job_id = await sent(stage, session_id)
    cancelled = await sent(stage, await stage.create())
    await stage.batch(stage.cancelling(cancelled))
    await stage.begin(dispatch=False)
    assert spent(stage, WORKSPACE) == (200, 0)
    job = stage.job(job_id)
    assert (job.state, job.settled_tokens, job.settled_is_estimate) == (JobState.QUEUED, 100, True)
    assert stage.session(session_id).settled_tokens == 100
    await stage.begin()
    assert spent(stage, WORKSPACE) == (200, 100)


@requirement("scheduler.budget.reserved_before_dispatch")
async def test_a_batch_that_is_lost_reserves_and_settles_nothing() -> None:
    stage = await Stage.open(limited(tokens=250))
    session_id = await stage.create(budget={TOKENS: 220})
    job_id = await sent(stage, session_id)
    ticket = stage.ticket(job_id)

    def unit(tx: Tx) -> None:
        stage.finishing(ticket)(tx)
        raise StoreFailed(reason="test")

    await stage.batch(unit)
    assert spent(stage, WORKSPACE) == (0, 100)
    await stage.batch(stage.finishing(ticket, usage=TokenUsage(3, 2, 5)))
    assert spent(stage, WORKSPACE) == (5, 0)


async def test_an_edit_of_the_configuration_acts_at_the_next_start() -> None:
    stage = await Stage.open(limited(tokens=150, packets={"WP-1": BudgetSettings(calls=1)}))
    first = await sent(stage, await stage.create())
    waits = await sent(stage, await stage.create())
    await stage.batch(stage.finishing(stage.ticket(first), usage=TokenUsage(20, 20, 40)))
    await stage.batch(stage.finishing(stage.ticket(waits), usage=TokenUsage(20, 80, 100)))
    assert stage.job(await sent(stage, await stage.create())).state is JobState.FAILED
    stage.settings = limited(tokens=400)
    await stage.begin()
    assert accounts(stage) == {WORKSPACE: Account(400, 140, 0)}
    again = await sent(stage, await stage.create())
    assert stage.running() == [again]


async def test_many_runs_that_cannot_fit_end_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handshake.kernel.queue.MAX_REFUSED_RUNS_PER_BATCH", 2)
    stage = await Stage.open(limited(calls=0), dispatch=False)
    jobs = [await sent(stage, await stage.create()) for _ in range(5)]
    await stage.begin()
    assert [stage.job(one).state for one in jobs] == [JobState.FAILED] * 2 + [JobState.QUEUED] * 3
    assert stage.queue.next_timer_us() == stage.clock.monotonic_us()
    await stage.look()
    await stage.look()
    assert {stage.job(one).state for one in jobs} == {JobState.FAILED}
    assert stage.queue.next_timer_us() is None


@requirement("scheduler.budget.reserved_before_dispatch")
@pytest.mark.parametrize("seed", range(12))
async def test_no_play_exceeds_a_budget_beyond_what_single_calls_took_too_much(seed: int) -> None:
    """What is spent and reserved stays within the limit as long as no call takes more than it was expected to."""
    chance = Random(seed)
    packets = {"WP-1": BudgetSettings(tokens=2_000, calls=9)}
    stage = await Stage.open(limited(6, tokens=5_000, packets=packets), seed=seed)
    sessions = [
        await stage.create(wp_id=chance.choice(("WP-1", None)), budget={TOKENS: 1_500} if number % 2 else {})
        for number in range(6)
    ]
    for _ in range(60):
        await stage.send(chance.choice(sessions), max_output_tokens=chance.randrange(1, 400))
        for job_id in stage.running():
            job = stage.job(job_id)
            used = chance.randrange(job.estimated_tokens + 1)
            ending = chance.choice(
                (
                    stage.finishing(stage.ticket(job_id), usage=TokenUsage(used, 0, used)),
                    stage.finishing(stage.ticket(job_id), usage=None),
                    stage.failing(stage.ticket(job_id), Fault(FaultKind.CONNECT)),
                    stage.cancelling(job_id),
                    None,
                )
            )
            if ending is not None:
                ticket = stage.ticket(job_id)
                await stage.batch(ending)
                await stage.batch(stage.releasing(ticket))
        for key, one in accounts(stage).items():
            assert 0 <= one.spent + one.reserved <= one.limit, key
        held = [job for job in stage.check().jobs if job.holds_slot]
        assert accounts(stage)[WORKSPACE].reserved == sum(job.estimated_tokens for job in held)
        settled = sum(job.settled_tokens for job in stage.check().jobs)
        assert accounts(stage)[WORKSPACE].spent == settled
        stage.clock.advance(chance.randrange(2_000_000))


@requirement("scheduler.budget.reserved_before_dispatch")
async def test_a_limit_that_is_taken_out_and_put_back_goes_on_from_what_was_spent() -> None:
    stage = await Stage.open(limited(tokens=1_000))
    job_id = await sent(stage, await stage.create())
    await stage.batch(stage.finishing(stage.ticket(job_id), usage=TokenUsage(3, 7, 10)))
    assert spent(stage, WORKSPACE) == (10, 0)
    said = (WorkspaceBudgets(), WorkspaceBudgets(), WorkspaceBudgets(tokens=5), WorkspaceBudgets(tokens=5))
    changed = [await stage.store.write(partial(budgets.configure, given=given)) for given in said]
    assert changed == [0, 0, 1, 0]
    assert accounts(stage)[WORKSPACE] == Account(5, spent=10)
