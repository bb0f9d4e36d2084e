"""Tests of jobs: the closed table of moves, and the words that are refused."""

from __future__ import annotations

from itertools import product

import pytest

from handshake.kernel.errors import InvalidRequest, InvalidTransition
from handshake.kernel.ids import JobId
from handshake.kernel.job import TERMINAL, TRANSITIONS, WAITING, JobKind, JobState, move, parse_kind, parse_state
from tests.requirement import requirement

TABLE = {
    "queued": "running awaiting_user cancelled failed",
    "running": "queued awaiting_validation awaiting_user completed completed_with_issues failed cancelled poisoned "
    "stalled",
    "awaiting_validation": "awaiting_user completed completed_with_issues failed cancelled poisoned",
    "awaiting_user": "queued completed completed_with_issues failed cancelled poisoned",
    "stalled": "queued failed cancelled",
    "completed": "",
    "completed_with_issues": "",
    "failed": "",
    "cancelled": "",
    "poisoned": "",
}
"""01 §4, word for word."""


@requirement("scheduler.job.transitions_closed")
def test_the_table_is_that_of_the_specification() -> None:
    assert {state.value: {one.value for one in targets} for state, targets in TRANSITIONS.items()} == {
        state: set(targets.split()) for state, targets in TABLE.items()
    }


@requirement("scheduler.job.transitions_closed")
@pytest.mark.parametrize(("before", "after"), list(product(JobState, JobState)))
def test_a_job_moves_only_by_the_table(before: JobState, after: JobState) -> None:
    if after.value in TABLE[before.value].split():
        assert move(JobId("job"), before, after) is after
        return
    with pytest.raises(InvalidTransition) as refused:
        move(JobId("job"), before, after)
    assert refused.value.context == {"job_id": "job", "from_state": before.value, "to_state": after.value}


@requirement("session.state.terminal_is_sticky", "scheduler.job.transitions_closed")
def test_nothing_leaves_a_terminal_state() -> None:
    assert {state.value for state in TERMINAL} == {state for state, targets in TABLE.items() if not targets}
    assert not TERMINAL & WAITING


def test_every_waiting_state_can_be_cancelled_and_lets_work_go_on() -> None:
    for state in WAITING:
        assert JobState.CANCELLED in TRANSITIONS[state]
        assert TRANSITIONS[state] - {JobState.CANCELLED, JobState.FAILED}


@requirement("scheduler.job_kind.unknown_refused")
@pytest.mark.parametrize("kind", JobKind)
def test_every_known_kind_is_read(kind: JobKind) -> None:
    assert parse_kind(kind.value) is kind


@requirement("scheduler.job_kind.unknown_refused")
@pytest.mark.parametrize("text", ["", "Model_run", "model_run ", "model-run", "runs", "\x00", "model_run\n", "🙂"])
def test_an_unknown_kind_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_kind(text)
    assert refused.value.context == {"field": "job_kind", "reason": "unknown"}


@requirement("scheduler.job_kind.unknown_refused")
@pytest.mark.parametrize("state", JobState)
def test_every_known_state_is_read(state: JobState) -> None:
    assert parse_state(state.value) is state


@requirement("scheduler.job_kind.unknown_refused")
@pytest.mark.parametrize("text", ["", "QUEUED", "done", " queued", "paused"])
def test_an_unknown_state_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_state(text)
    assert refused.value.context == {"field": "job_state", "reason": "unknown"}
