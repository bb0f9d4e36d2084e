"""Job: the `model_run` record, its states and the closed table by which it moves."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from handshake.kernel.errors import InvalidRequest, InvalidTransition
from handshake.kernel.ids import JobId, ModelId, ProviderId, SessionId
from handshake.kernel.lane import Lane
from handshake.kernel.retry import Backoff

DEFAULT_PRIORITY = 50
LOWEST_PRIORITY = 100
DEFAULT_MAX_RETRIES = 3


class JobKind(StrEnum):
    """What a job does; unknown kinds are refused where they are read."""

    MODEL_RUN = "model_run"
    MICRO_TASK_EXECUTION = "micro_task_execution"
    WORKFLOW_RUN = "workflow_run"
    TERMINAL_EXEC = "terminal_exec"
    DEBUG_BUNDLE_EXPORT = "debug_bundle_export"
    DISTILLATION_EVAL = "distillation_eval"


class JobState(StrEnum):
    """Where a job stands (01 §4)."""

    QUEUED = "queued"
    RUNNING = "running"
    STALLED = "stalled"
    AWAITING_VALIDATION = "awaiting_validation"
    AWAITING_USER = "awaiting_user"
    COMPLETED = "completed"
    COMPLETED_WITH_ISSUES = "completed_with_issues"
    FAILED = "failed"
    CANCELLED = "cancelled"
    POISONED = "poisoned"


class JobStep(StrEnum):
    """Where a run goes on when it starts: at the call of its model, or at the tools that it asked for (01 §4)."""

    CALL = "call"
    TOOLS = "tools"


class Backend(StrEnum):
    """Where a model runs, as the provider registry decided it from the endpoint (03 §7)."""

    LOCAL = "local"
    CLOUD = "cloud"


_S = JobState

TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    _S.QUEUED: frozenset({_S.RUNNING, _S.AWAITING_USER, _S.CANCELLED, _S.FAILED}),
    _S.RUNNING: frozenset(
        {
            _S.QUEUED,
            _S.AWAITING_VALIDATION,
            _S.AWAITING_USER,
            _S.COMPLETED,
            _S.COMPLETED_WITH_ISSUES,
            _S.FAILED,
            _S.CANCELLED,
            _S.POISONED,
            _S.STALLED,
        }
    ),
    _S.AWAITING_VALIDATION: frozenset(
        {_S.AWAITING_USER, _S.COMPLETED, _S.COMPLETED_WITH_ISSUES, _S.FAILED, _S.CANCELLED, _S.POISONED}
    ),
    _S.AWAITING_USER: frozenset(
        {_S.QUEUED, _S.COMPLETED, _S.COMPLETED_WITH_ISSUES, _S.FAILED, _S.CANCELLED, _S.POISONED}
    ),
    _S.STALLED: frozenset({_S.QUEUED, _S.FAILED, _S.CANCELLED}),
    _S.COMPLETED: frozenset(),
    _S.COMPLETED_WITH_ISSUES: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
    _S.POISONED: frozenset(),
}
"""Every move a job may make; anything else is a bug and is refused."""

TERMINAL = frozenset(state for state, targets in TRANSITIONS.items() if not targets)
WAITING = frozenset({_S.AWAITING_USER, _S.AWAITING_VALIDATION, _S.STALLED})
"""States in which a run waits for something outside the queue; they make its session BLOCKED."""


class Job(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One `model_run`: one provider call, the unit of scheduling.

    Times are microseconds since 1970. `enqueue_seq` is the global order of acceptance. `turn_seq` is the place
    of the job's turn in its session, `run_seq` the job's own in its turn. `holds_slot` says that the attempt's
    connection may still be open. `failures` counts attempts that failed, `recoveries` how often in a row the run was
    lost and queued again. What is estimated is what one attempt is expected to take; what is settled is what all of
    them took, and an estimate if any provider did not report it.
    """

    job_id: JobId
    enqueue_seq: int
    job_kind: JobKind
    session_id: SessionId
    turn_id: str
    turn_seq: int
    trace_id: str
    wp_id: str | None
    mt_id: str | None
    state: JobState
    provider_id: ProviderId
    model_id: ModelId
    backend: Backend
    lane: Lane
    priority: int
    concurrency_group: str | None
    fairness_key: str
    attempt: int
    max_retries: int
    retry_backoff: Backoff
    timeout_ms: int
    max_output_tokens: int | None
    idempotency_key: str | None
    request_sha256: str
    created_at_us: int
    not_before_us: int
    wait_reason: str | None
    runtime_epoch: int
    holds_slot: bool
    started_at_us: int | None
    ended_at_us: int | None
    reason: str | None
    error_code: str | None
    error_summary: str | None
    prompt_hash: str | None
    answer_message_id: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    total_tokens: int | None
    failures: int
    recoveries: int
    estimated_tokens: int
    estimated_cost_usd_micro: int
    settled_tokens: int
    settled_cost_usd_micro: int
    settled_is_estimate: bool
    run_seq: int
    step: JobStep

    @property
    def reserved_cost_usd_micro(self) -> int:
        """What the attempt has reserved whose connection may be open; 0 if there is none."""
        return self.estimated_cost_usd_micro if self.holds_slot else 0


class RunTicket(msgspec.Struct, frozen=True, gc=False):
    """One dispatched attempt of a run; the dispatcher makes it after the commit that reserved its slots."""

    job_id: JobId
    session_id: SessionId
    attempt: int
    provider_id: ProviderId
    model_id: ModelId
    step: JobStep = JobStep.CALL


def parse_kind(text: str) -> JobKind:
    """Return the kind named by `text`.

    Raises:
        InvalidRequest: no such kind.
    """
    try:
        return JobKind(text)
    except ValueError as unknown:
        raise InvalidRequest(field="job_kind", reason="unknown") from unknown


def parse_state(text: str) -> JobState:
    """Return the state named by `text`.

    Raises:
        InvalidRequest: no such state.
    """
    try:
        return JobState(text)
    except ValueError as unknown:
        raise InvalidRequest(field="job_state", reason="unknown") from unknown


def move(job_id: JobId, before: JobState, after: JobState) -> JobState:
    """Return `after` if the table has the move from `before`.

    Raises:
        InvalidTransition: the table does not have it.
    """
    if after not in TRANSITIONS[before]:
        raise InvalidTransition(job_id=job_id, from_state=before.value, to_state=after.value)
    return after
