"""Recovery: the table has every combination, and no setting lets a cloud run be sent again by itself."""

from __future__ import annotations

import itertools

import pytest

from handshake.kernel.job import Backend
from handshake.kernel.recovery import Action, Verdict, settle
from handshake.kernel.settings import LocalRuns


@pytest.mark.parametrize(
    ("local_runs", "verdict"),
    [
        (LocalRuns.REQUEUE, Verdict(Action.REQUEUE, "policy")),
        (LocalRuns.DESK, Verdict(Action.DESK, "policy")),
        (LocalRuns.CANCEL, Verdict(Action.CANCEL, "policy")),
    ],
)
def test_a_local_run_is_treated_as_the_settings_say(local_runs: LocalRuns, verdict: Verdict) -> None:
    assert settle(Backend.LOCAL, local_runs=local_runs, recoveries=0, max_recoveries=3) == verdict


@pytest.mark.parametrize("local_runs", LocalRuns)
def test_a_cloud_run_comes_before_a_person_whatever_the_settings_say(local_runs: LocalRuns) -> None:
    verdict = settle(Backend.CLOUD, local_runs=local_runs, recoveries=0, max_recoveries=3)
    assert verdict == Verdict(Action.DESK, "may_have_left")


def test_a_run_that_was_lost_too_often_comes_before_a_person() -> None:
    verdicts = [
        settle(Backend.LOCAL, local_runs=LocalRuns.REQUEUE, recoveries=count, max_recoveries=3) for count in range(5)
    ]
    assert [one.action for one in verdicts] == [Action.REQUEUE] * 3 + [Action.DESK] * 2
    assert verdicts[3].reason == "lost_too_often"


def test_an_answer_that_a_listener_saw_begin_is_not_silently_begun_again() -> None:
    verdict = settle(Backend.LOCAL, local_runs=LocalRuns.REQUEUE, recoveries=0, max_recoveries=3, told=True)
    assert verdict == Verdict(Action.DESK, "answer_begun")


def test_the_policy_is_total() -> None:
    for backend, local_runs, recoveries, told in itertools.product(Backend, LocalRuns, range(3), (False, True)):
        verdict = settle(backend, local_runs=local_runs, recoveries=recoveries, max_recoveries=1, told=told)
        assert isinstance(verdict.action, Action)
