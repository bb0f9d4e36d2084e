"""Tests of provider rates in the running scheduler: what starts, what waits, what is told, and what a restart keeps."""

from __future__ import annotations

import msgspec
import pytest

from handshake.bootstrap import limits_of
from handshake.kernel.errors import IntegrityBroken, StoreFailed
from handshake.kernel.ids import JobId, ProviderId
from handshake.kernel.job import JobState, RunTicket
from handshake.kernel.retry import Backoff, Fault, FaultKind, backoff_ms
from handshake.kernel.settings import Dialect, ProviderSettings, Settings
from handshake.kernel.usage import TokenUsage
from handshake.kernel.waiting import WaitReason
from handshake.operations import views
from handshake.operations.views import QueueItem
from handshake.ports.store import Tx
from handshake.testing.rate_windows import Taking, exceeds
from tests.requirement import requirement
from tests.running import DESK, MODEL, Stage, settings_of

SECOND_US = 1_000_000
OTHER = ProviderId("other")
LIMITED = Fault(FaultKind.STATUS, 429, sent=True)


def rated(*, requests: int | None = None, tokens: int | None = None) -> Settings:
    """Return settings whose first provider has rates, beside one that has none."""
    plain = settings_of()
    desk = msgspec.structs.replace(plain.providers[DESK], requests_per_minute=requests, tokens_per_minute=tokens)
    other = ProviderSettings(dialects=(Dialect.OPENAI_CHAT,), base_url="http://127.0.0.1:2/v1", max_concurrent=64)
    return msgspec.structs.replace(plain, providers={DESK: desk, OTHER: other})


async def sent(stage: Stage, count: int, *, provider: ProviderId = DESK, output: int = 100) -> list[JobId]:
    """Send one turn in each of `count` sessions."""
    sessions = [await stage.create(provider_id=provider) for _ in range(count)]
    turns = [stage.turn(one, max_output_tokens=output) for one in sessions]
    await stage.batch(*map(stage.accepting, turns))
    return [one.job_id for one in turns]


async def pass_time(stage: Stage, span_us: int) -> None:
    stage.clock.advance(span_us)
    await stage.look()


def queue_of(stage: Stage) -> list[QueueItem]:
    """Return what waits as anybody sees it who only reads."""
    return stage.store.read_now(
        lambda reader: (
            views.queue(reader, limits_of(stage.settings), dispatching=True, now_us=stage.clock.now_us()).items
        )
    )


def limited_of(stage: Stage) -> list[tuple[str | None, int, int]]:
    found = stage.check().of("session_scheduler.rate_limited")
    return [(one.job_id, one.payload["attempt"], one.payload["backoff_ms"]) for one in found]


@requirement("scheduler.rate.requests_and_tokens")
async def test_requests_start_as_the_rate_admits_them() -> None:
    stage = await Stage.open(rated(requests=60))
    jobs = await sent(stage, 15)
    assert stage.running() == jobs[:10]
    await pass_time(stage, SECOND_US - 1)
    assert stage.running() == jobs[:10]
    await pass_time(stage, 1)
    assert stage.running() == jobs[:11]
    await pass_time(stage, 60 * SECOND_US)
    assert stage.running() == jobs


@requirement("scheduler.rate.requests_and_tokens")
async def test_tokens_start_as_the_rate_admits_them_and_a_large_run_is_not_overtaken() -> None:
    stage = await Stage.open(rated(tokens=6_000))
    (first,) = await sent(stage, 1, output=900)
    (large,) = await sent(stage, 1, output=5_000)
    small = await sent(stage, 3, output=1)
    assert stage.running() == [first]
    await pass_time(stage, 9 * SECOND_US)
    assert stage.running() == [first]
    await pass_time(stage, SECOND_US)
    assert stage.running() == [first, large]
    await pass_time(stage, 600 * SECOND_US)
    assert stage.running() == [first, large, *small]


@requirement("scheduler.rate.requests_and_tokens", "scheduler.queue.no_head_of_line_blocking")
async def test_other_providers_go_on_while_one_waits_for_its_rate() -> None:
    stage = await Stage.open(rated(requests=6))
    first, second = await sent(stage, 2)
    elsewhere = await sent(stage, 2, provider=OTHER)
    assert stage.running() == [first, *elsewhere]
    assert stage.job(second).state is JobState.QUEUED


@requirement("scheduler.rate.requests_and_tokens")
@pytest.mark.parametrize("seed", range(6))
async def test_no_window_of_what_started_exceeds_the_rates(seed: int) -> None:
    stage = await Stage.open(rated(requests=40, tokens=30_000), seed=seed)
    for number in range(30):
        await sent(stage, 3, output=50 + 131 * ((number + seed) % 9))
        await pass_time(stage, (number % 4) * 1_700_000)
        for job_id in stage.running()[: number % 3]:
            await stage.batch(stage.finishing(stage.ticket(job_id), usage=None))
    starts = sorted((job.started_at_us, job.estimated_tokens) for job in stage.check().jobs if job.started_at_us)
    assert len(starts) > 20
    assert not exceeds([Taking(at_us, 1) for at_us, _ in starts], per_minute=40)
    assert not exceeds([Taking(at_us, tokens) for at_us, tokens in starts], per_minute=30_000)


@requirement("scheduler.rate.reconciles_usage")
async def test_reported_usage_gives_back_what_was_reserved_too_much() -> None:
    stage = await Stage.open(rated(tokens=6_000))
    (first,) = await sent(stage, 1, output=998)
    (second,) = await sent(stage, 1, output=998)
    assert stage.running() == [first]
    await stage.batch(stage.finishing(stage.ticket(first), usage=TokenUsage(5, 5, 10)))
    assert stage.running() == []
    await pass_time(stage, 100_000)
    assert stage.running() == [second]


@requirement("scheduler.rate.reconciles_usage")
async def test_usage_beyond_the_reservation_is_owed() -> None:
    stage = await Stage.open(rated(tokens=6_000))
    (first,) = await sent(stage, 1, output=8)
    await stage.batch(stage.finishing(stage.ticket(first), usage=TokenUsage(1_000, 6_000, 7_000)))
    (second,) = await sent(stage, 1, output=8)
    await pass_time(stage, 60 * SECOND_US)
    assert stage.running() == []
    await pass_time(stage, SECOND_US)
    assert stage.running() == [second]


@requirement("scheduler.rate.reconciles_usage")
@pytest.mark.parametrize(
    ("fault", "still_owed"),
    [
        (Fault(FaultKind.STATUS, 400, sent=True), (1, 10)),
        (Fault(FaultKind.TIMEOUT_IDLE, sent=True), (1, 10)),
        (Fault(FaultKind.CONNECT), (1, 0)),
        (Fault(FaultKind.TIMEOUT_FIRST_BYTE), (1, 0)),
    ],
)
async def test_a_failed_call_gives_back_only_what_was_never_sent(fault: Fault, still_owed: tuple[int, int]) -> None:
    stage = await Stage.open(rated(requests=60, tokens=6_000))
    (job_id,) = await sent(stage, 1, output=8)
    await stage.batch(stage.failing(stage.ticket(job_id), fault))
    assert owed(stage) == still_owed


def owed(stage: Stage) -> tuple[int, int]:
    """Return the requests and tokens that are owed to the first provider, as stored."""
    row = stage.store.read_now(lambda reader: reader.rows("gates"))[0]
    assert isinstance(row[1], int)
    assert isinstance(row[3], int)
    return row[1] // 60_000_000, row[3] // 60_000_000


@requirement("scheduler.rate.reconciles_usage")
async def test_a_refusal_before_any_connection_gives_back_the_request_as_well() -> None:
    stage = await Stage.open(rated(requests=60, tokens=6_000))
    (job_id,) = await sent(stage, 1)
    await stage.batch(stage.failing(stage.ticket(job_id), None, error=StoreFailed(reason="test"), tried=False))
    assert owed(stage) == (0, 0)
    (other,) = await sent(stage, 1, output=8)
    await stage.batch(stage.failing(stage.ticket(other), None, error=IntegrityBroken(subject="test")))
    assert owed(stage) == (1, 10), "nobody knows how far it came"


@requirement("scheduler.rate.survives_restart")
async def test_a_restart_refills_no_bucket_and_opens_no_provider() -> None:
    stage = await Stage.open(rated(requests=60))
    jobs = await sent(stage, 10)
    await stage.batch(stage.failing(stage.ticket(jobs[0]), Fault(FaultKind.STATUS, 429, 30_000, sent=True)))
    stage.clock.advance(2 * SECOND_US)
    await stage.begin()
    await stage.look()
    assert stage.running() == []
    await pass_time(stage, 28 * SECOND_US - 1)
    assert stage.running() == []
    await pass_time(stage, 1)
    assert len(stage.running()) == 10


@requirement("scheduler.rate.survives_restart")
async def test_a_restart_at_once_owes_all_that_was_owed() -> None:
    stage = await Stage.open(rated(requests=60))
    await sent(stage, 12)
    await stage.begin()
    assert stage.running() == []
    assert owed(stage) == (10, 0)
    await pass_time(stage, 2 * SECOND_US)
    assert len(stage.running()) == 2


@requirement("scheduler.rate.survives_restart")
async def test_a_batch_that_is_lost_leaves_buckets_as_they_were_whatever_the_wall_clock_did() -> None:
    stage = await Stage.open(rated(requests=60))
    jobs = await sent(stage, 12)
    stage.clock.jump_wall(3_600 * SECOND_US)

    def unit(tx: Tx) -> None:
        stage.queue.drop(jobs[11])
        raise StoreFailed(reason="test")

    await stage.batch(unit)
    assert stage.running() == jobs[:10]
    await pass_time(stage, SECOND_US)
    assert stage.running() == jobs[:11]


@requirement("recovery.clock.jumps_are_harmless")
@pytest.mark.parametrize("jump_us", [3_600 * SECOND_US, -3_600 * SECOND_US])
async def test_a_wall_clock_that_jumps_neither_refills_a_bucket_nor_freezes_a_wait(jump_us: int) -> None:
    stage = await Stage.open(rated(requests=60))
    jobs = await sent(stage, 11)
    await stage.batch(stage.failing(stage.ticket(jobs[0]), Fault(FaultKind.STATUS, 503, 4_000, sent=True)))
    stage.clock.jump_wall(jump_us)
    await stage.look()
    assert stage.running() == jobs[1:10]
    await pass_time(stage, 4 * SECOND_US - 1)
    assert stage.running() == jobs[1:10]
    await pass_time(stage, 1)
    assert stage.running() == [jobs[0], *jobs[1:]]


@requirement("scheduler.rate.honours_retry_after")
async def test_after_a_429_nothing_goes_to_the_provider_before_its_time_and_others_go_on() -> None:
    stage = await Stage.open(rated())
    (first,) = await sent(stage, 1)
    await stage.batch(stage.failing(stage.ticket(first), Fault(FaultKind.STATUS, 429, 7_000, sent=True)))
    waiting = await sent(stage, 3)
    elsewhere = await sent(stage, 2, provider=OTHER)
    assert stage.running() == elsewhere
    await pass_time(stage, 7 * SECOND_US - 1)
    assert stage.running() == elsewhere
    await pass_time(stage, 1)
    assert stage.running() == [first, *waiting, *elsewhere]


@requirement("scheduler.rate.honours_retry_after")
async def test_any_answer_with_retry_after_closes_the_provider_also_for_a_run_that_is_over() -> None:
    stage = await Stage.open(rated())
    (first,) = await sent(stage, 1)
    await stage.batch(stage.failing(stage.ticket(first), Fault(FaultKind.STATUS, 400, 2_000, sent=True)))
    assert stage.job(first).state is JobState.FAILED
    (second,) = await sent(stage, 1)
    assert stage.running() == []
    await pass_time(stage, 2 * SECOND_US)
    assert stage.running() == [second]


@requirement("scheduler.rate.honours_retry_after", "scheduler.rate.backoff_is_logged")
async def test_a_429_without_retry_after_closes_for_the_runs_own_backoff() -> None:
    stage = await Stage.open(rated())
    (first,) = await sent(stage, 1)
    await stage.batch(stage.failing(stage.ticket(first), LIMITED))
    (second,) = await sent(stage, 1)
    wait_ms = backoff_ms(first, 1, Backoff.EXPONENTIAL)
    assert limited_of(stage) == [(first, 1, wait_ms), (second, 1, wait_ms)]
    await pass_time(stage, wait_ms * 1_000 - 1)
    assert stage.running() == []
    await pass_time(stage, 1)
    assert stage.running() == [first, second]


@requirement("scheduler.rate.backoff_is_logged")
async def test_the_wait_of_a_rate_limited_run_follows_from_job_and_attempt_alone() -> None:
    async def told() -> list[tuple[str | None, int, int]]:
        stage = await Stage.open(rated(), seed=7)
        (job_id,) = await sent(stage, 1)
        for _ in range(4):
            await stage.batch(stage.failing(stage.ticket(job_id), LIMITED))
            await pass_time(stage, 60 * SECOND_US)
        return limited_of(stage)

    first, again = await told(), await told()
    assert first == again
    assert [(attempt, wait_ms) for _, attempt, wait_ms in first] == [
        (attempt, backoff_ms(JobId(first[0][0] or ""), attempt, Backoff.EXPONENTIAL)) for attempt in (1, 2, 3, 4)
    ]


@requirement("scheduler.rate.no_event_flood", "scheduler.queue.shows_reason")
async def test_a_run_that_waits_for_a_rate_is_told_once_however_often_it_is_looked_at() -> None:
    stage = await Stage.open(rated(requests=60))
    jobs = await sent(stage, 12)
    for _ in range(20):
        await pass_time(stage, 10_000)
    assert limited_of(stage) == [(jobs[10], 1, 1_000)]
    assert stage.job(jobs[10]).wait_reason == WaitReason.RATE_LIMIT
    await stage.begin()
    await stage.look()
    assert limited_of(stage) == [(jobs[10], 1, 1_000)]
    shown = queue_of(stage)
    assert {item.wait_reason for item in shown} == {WaitReason.RATE_LIMIT}
    assert {item.until_us for item in shown} == {stage.clock.now_us() + 800_000}


async def test_a_timer_wakes_the_scheduler_when_the_rate_admits_the_next_run() -> None:
    stage = await Stage.open(rated(requests=60))
    await sent(stage, 11)
    assert stage.queue.next_timer_us() == stage.clock.monotonic_us() + SECOND_US
    await pass_time(stage, SECOND_US)
    assert stage.queue.next_timer_us() is None


async def test_a_cancelled_attempt_settles_when_its_connection_is_closed() -> None:
    stage = await Stage.open(rated(tokens=6_000))
    (job_id,) = await sent(stage, 1, output=8)
    ticket: RunTicket = stage.ticket(job_id)
    await stage.batch(stage.cancelling(job_id))
    assert stage.job(job_id).settled_tokens == 0
    await stage.batch(stage.releasing(ticket))
    assert (stage.job(job_id).settled_tokens, stage.job(job_id).settled_is_estimate) == (10, True)
    assert stage.job(job_id).model_id == MODEL
    assert owed(stage) == (0, 10)
