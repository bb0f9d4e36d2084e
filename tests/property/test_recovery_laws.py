"""Laws of recovery: whatever is set, a tighter setting never does more by itself, and nothing is lost for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from handshake.kernel.job import TRANSITIONS, Backend, JobState
from handshake.kernel.recovery import Action, settle
from handshake.kernel.settings import MAX_RECOVERIES, LocalRuns

_TARGETS = {Action.REQUEUE: JobState.QUEUED, Action.CANCEL: JobState.CANCELLED}
_CAUTION = {Action.REQUEUE: 0, Action.DESK: 1, Action.CANCEL: 2}
COUNTS = st.integers(0, 2 * MAX_RECOVERIES)
LIMITS = st.integers(0, MAX_RECOVERIES)


@given(st.sampled_from(Backend), st.sampled_from(LocalRuns), COUNTS, LIMITS, st.booleans())
def test_what_is_done_is_a_move_that_the_job_table_has(
    backend: Backend, local_runs: LocalRuns, recoveries: int, most: int, told: bool
) -> None:
    verdict = settle(backend, local_runs=local_runs, recoveries=recoveries, max_recoveries=most, told=told)
    assert verdict.action is Action.DESK or _TARGETS[verdict.action] in TRANSITIONS[JobState.STALLED]


@given(st.sampled_from(LocalRuns), COUNTS, LIMITS, st.booleans())
def test_nothing_that_may_have_left_for_a_cloud_is_sent_again(
    local_runs: LocalRuns, recoveries: int, most: int, told: bool
) -> None:
    verdict = settle(Backend.CLOUD, local_runs=local_runs, recoveries=recoveries, max_recoveries=most, told=told)
    assert verdict.action is Action.DESK


@given(st.sampled_from(Backend), COUNTS, LIMITS, st.booleans())
def test_a_tighter_setting_is_never_less_cautious(backend: Backend, recoveries: int, most: int, told: bool) -> None:
    cautions = [
        _CAUTION[settle(backend, local_runs=one, recoveries=recoveries, max_recoveries=most, told=told).action]
        for one in LocalRuns
    ]
    assert cautions == sorted(cautions)


@given(COUNTS, LIMITS)
def test_a_run_that_is_lost_again_and_again_ends_before_a_person(recoveries: int, most: int) -> None:
    verdict = settle(Backend.LOCAL, local_runs=LocalRuns.REQUEUE, recoveries=recoveries, max_recoveries=most)
    assert (verdict.action is Action.REQUEUE) == (recoveries < most)
