"""Laws of retries: whatever the fault, a run ends, waits a bounded time, and always the same one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

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
    backoff_ms,
    decide,
    is_transient,
)
from tests.requirement import requirement

FAULTS = st.builds(
    Fault,
    kind=st.sampled_from(FaultKind),
    status=st.none() | st.integers(min_value=-1, max_value=1_000),
    retry_after_ms=st.none() | st.integers(min_value=0, max_value=10**13),
    sent=st.booleans(),
    consumed=st.booleans(),
)
JOBS = st.uuids().map(lambda one: JobId(str(one)))
ATTEMPTS = st.integers(min_value=1, max_value=200)
RETRIES = st.integers(min_value=0, max_value=100)
BACKOFFS = st.sampled_from(Backoff)
LONGEST_MS = BACKOFF_MAX_MS * 5 // 4 + 1


@requirement("scheduler.retry.transient_only", "scheduler.retry.not_after_bytes")
@given(FAULTS, JOBS, ATTEMPTS, RETRIES, BACKOFFS)
def test_a_retry_needs_a_passing_fault_an_attempt_left_and_no_text_handed_on(
    fault: Fault, job_id: JobId, attempt: int, max_retries: int, backoff: Backoff
) -> None:
    verdict = decide(fault, job_id=job_id, attempt=attempt, max_retries=max_retries, backoff=backoff)
    may = is_transient(fault) and attempt <= max_retries and not fault.consumed
    assert isinstance(verdict, RetryAt) is may
    assert may or verdict == GiveUp(partial=fault.consumed)


@given(FAULTS, JOBS, ATTEMPTS, BACKOFFS)
def test_a_wait_is_bounded_and_deterministic(fault: Fault, job_id: JobId, attempt: int, backoff: Backoff) -> None:
    verdicts = [decide(fault, job_id=job_id, attempt=attempt, max_retries=999, backoff=backoff) for _ in range(2)]
    assert verdicts[0] == verdicts[1]
    if isinstance(verdicts[0], RetryAt):
        asked_ms = min(fault.retry_after_ms or 0, RETRY_AFTER_MAX_MS)
        assert max(asked_ms, BACKOFF_BASE_MS * 3 // 4) <= verdicts[0].backoff_ms <= max(asked_ms, LONGEST_MS)


@given(JOBS, st.integers(min_value=1, max_value=6))
def test_the_longest_wait_of_an_attempt_is_shorter_than_the_shortest_two_later(job_id: JobId, attempt: int) -> None:
    sooner, later = (backoff_ms(job_id, number, Backoff.EXPONENTIAL) for number in (attempt, attempt + 2))
    assert sooner < later


@given(JOBS, FAULTS, RETRIES)
def test_a_run_whose_every_attempt_fails_ends(job_id: JobId, fault: Fault, max_retries: int) -> None:
    attempt = 1
    while isinstance(
        decide(fault, job_id=job_id, attempt=attempt, max_retries=max_retries, backoff=Backoff.FIXED), RetryAt
    ):
        attempt += 1
    assert attempt <= max_retries + 1
