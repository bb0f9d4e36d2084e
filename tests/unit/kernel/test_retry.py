"""Tests of retries: which faults pass, how long the wait is, and when it is over."""

from __future__ import annotations

from itertools import pairwise

import pytest

from handshake.kernel.ids import JobId
from handshake.kernel.retry import (
    BACKOFF_BASE_MS,
    BACKOFF_MAX_MS,
    RETRY_AFTER_MAX_MS,
    Backoff,
    Fault,
    FaultKind,
    GiveUp,
    RetryAt,
    as_span_us,
    backoff_ms,
    decide,
    is_transient,
)
from tests.requirement import requirement

JOB = JobId("018f0000-0000-7000-8000-000000000001")
FIRST_WAITS_MS = [backoff_ms(JOB, attempt, Backoff.EXPONENTIAL) for attempt in range(1, 30)]


def verdict(fault: Fault, *, attempt: int = 1, max_retries: int = 3) -> RetryAt | GiveUp:
    return decide(fault, job_id=JOB, attempt=attempt, max_retries=max_retries, backoff=Backoff.EXPONENTIAL)


@requirement("scheduler.retry.transient_only")
@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529, 599])
def test_a_status_that_may_pass_is_tried_again(status: int) -> None:
    assert isinstance(verdict(Fault(FaultKind.STATUS, status, sent=True)), RetryAt)


@requirement("scheduler.retry.transient_only")
@pytest.mark.parametrize("status", [None, 0, 100, 204, 301, 307, 400, 401, 402, 403, 404, 413, 422, 428, 451, 600, 999])
def test_any_other_status_is_final(status: int | None) -> None:
    assert verdict(Fault(FaultKind.STATUS, status, sent=True)) == GiveUp(partial=False)


@requirement("scheduler.retry.transient_only")
@pytest.mark.parametrize("kind", [kind for kind in FaultKind if kind is not FaultKind.STATUS])
def test_lost_connections_and_timeouts_pass_and_bad_bytes_do_not(kind: FaultKind) -> None:
    final = kind in (FaultKind.GARBAGE, FaultKind.TOO_LARGE)
    assert is_transient(Fault(kind)) is not final
    assert isinstance(verdict(Fault(kind)), GiveUp if final else RetryAt)


@requirement("scheduler.retry.not_after_bytes")
@pytest.mark.parametrize("kind", FaultKind)
def test_nothing_is_tried_again_once_text_was_handed_on(kind: FaultKind) -> None:
    assert verdict(Fault(kind, 503, 10, sent=True, consumed=True)) == GiveUp(partial=True)


@requirement("scheduler.retry.transient_only")
@pytest.mark.parametrize("max_retries", [0, 1, 3, 7])
def test_a_run_has_one_attempt_more_than_retries(max_retries: int) -> None:
    fault = Fault(FaultKind.RESET)
    tried = [isinstance(verdict(fault, attempt=n, max_retries=max_retries), RetryAt) for n in range(1, 12)]
    assert tried == [n <= max_retries for n in range(1, 12)]


def test_waits_double_up_to_the_longest_with_a_quarter_of_jitter() -> None:
    for attempt, wait_ms in enumerate(FIRST_WAITS_MS, 1):
        span = min(BACKOFF_BASE_MS << (attempt - 1), BACKOFF_MAX_MS)
        assert span * 3 // 4 <= wait_ms <= span * 5 // 4 + 1
    assert all(earlier < later for earlier, later in pairwise(FIRST_WAITS_MS[:7]))


def test_waits_follow_from_job_and_attempt_alone() -> None:
    assert [backoff_ms(JOB, attempt, Backoff.EXPONENTIAL) for attempt in range(1, 30)] == FIRST_WAITS_MS
    assert len({backoff_ms(JobId(f"job-{n}"), 1, Backoff.FIXED) for n in range(100)}) > 50
    fixed = [backoff_ms(JOB, attempt, Backoff.FIXED) for attempt in range(1, 30)]
    assert max(fixed) <= BACKOFF_BASE_MS * 5 // 4 + 1


@pytest.mark.parametrize(("asked_ms", "least_ms"), [(0, FIRST_WAITS_MS[0]), (1, FIRST_WAITS_MS[0]), (90_000, 90_000)])
def test_a_provider_may_ask_for_more_patience_but_not_for_less(asked_ms: int, least_ms: int) -> None:
    assert verdict(Fault(FaultKind.STATUS, 429, asked_ms)) == RetryAt(least_ms)


def test_a_provider_cannot_ask_for_more_than_an_hour() -> None:
    assert verdict(Fault(FaultKind.STATUS, 429, 10**12)) == RetryAt(RETRY_AFTER_MAX_MS)


def test_a_fault_knows_whether_it_was_slowness() -> None:
    slow = {kind for kind in FaultKind if Fault(kind).is_timeout}
    assert slow == {FaultKind.TIMEOUT_FIRST_BYTE, FaultKind.TIMEOUT_IDLE, FaultKind.TIMEOUT_TOTAL}


def test_waits_become_spans() -> None:
    assert as_span_us(1_500) == 1_500_000
