"""Recovery: what becomes of a run whose runtime died or whose worker did not come back.

Source:
    recovery.start.stalls_orphans, recovery.kill.no_second_transmission (01 §8).
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from handshake.kernel.job import Backend
from handshake.kernel.settings import LocalRuns


class Loss(StrEnum):
    """How a run was lost; the reason of the events that tell it."""

    CRASH = "crash_recovery"
    """Its runtime died: the instance lock proves it."""
    LEASE = "lease_expired"
    """Its worker did not come back while its lease lasted."""


class Action(StrEnum):
    """What is done about a lost run."""

    REQUEUE = "requeue"
    DESK = "desk"
    CANCEL = "cancel"


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What is done, and why, as a token."""

    action: Action
    reason: str


_POLICY: dict[tuple[Backend, LocalRuns], Verdict] = {
    (Backend.LOCAL, LocalRuns.REQUEUE): Verdict(Action.REQUEUE, "policy"),
    (Backend.LOCAL, LocalRuns.DESK): Verdict(Action.DESK, "policy"),
    (Backend.LOCAL, LocalRuns.CANCEL): Verdict(Action.CANCEL, "policy"),
    (Backend.CLOUD, LocalRuns.REQUEUE): Verdict(Action.DESK, "may_have_left"),
    (Backend.CLOUD, LocalRuns.DESK): Verdict(Action.DESK, "may_have_left"),
    (Backend.CLOUD, LocalRuns.CANCEL): Verdict(Action.DESK, "may_have_left"),
}
"""Every combination; what may have been sent to a cloud is sent again by nobody but a person."""


def settle(
    backend: Backend,
    *,
    local_runs: LocalRuns,
    recoveries: int,
    max_recoveries: int,
    told: bool = False,
    unknown_effect: bool = False,
) -> Verdict:
    """Return what becomes of a lost run.

    Args:
        backend: where its model runs.
        local_runs: what the settings say.
        recoveries: how often in a row it was lost and queued again before.
        max_recoveries: how often that may be; after it the run itself is suspect.
        told: whether a caller who still listens was handed a part of the answer, so that a second one would
            not be silent (scheduler.retry.not_after_bytes).
        unknown_effect: whether it had begun a call of a tool that must not be made twice, and nobody knows what came
            of it (INV-RECOVER-002).
    """
    verdict = _POLICY[backend, local_runs]
    if verdict.action is not Action.REQUEUE:
        return verdict
    if unknown_effect:
        return Verdict(Action.DESK, "outcome_unknown")
    if recoveries >= max_recoveries:
        return Verdict(Action.DESK, "lost_too_often")
    return Verdict(Action.DESK, "answer_begun") if told else verdict
