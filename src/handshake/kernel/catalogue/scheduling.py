"""Scheduling events: the way of a run through the queue (01 §5–7).

`retry`, `wait_reason` and `ended` have no id of the origin: they tell what would else be silent — another
attempt, a wait that only this run has, and a run that ends without an answer of a model.
"""

from __future__ import annotations

from handshake.kernel.event import Payload, Retention, event
from handshake.kernel.fields import Count, Id, Name, Token
from handshake.kernel.job import JobState
from handshake.kernel.lane import Lane
from handshake.kernel.retry import FaultKind
from handshake.kernel.session import SessionState


@event("session_scheduler.enqueue", fr_id="FR-EVT-SESS-SCHED-001", retention=Retention.RUN)
class SchedulerEnqueue(Payload, frozen=True, kw_only=True):
    """A run was accepted into the queue."""

    concurrency_group: Name | None = None
    job_id: Id
    lane: Lane
    priority: Count
    session_id: Id


@event("session_scheduler.dispatch", fr_id="FR-EVT-SESS-SCHED-002", retention=Retention.RUN)
class SchedulerDispatch(Payload, frozen=True, kw_only=True):
    """A run got its slots and one attempt of it starts."""

    attempt: Count
    job_id: Id
    lane: Lane
    queue_wait_ms: Count
    session_id: Id
    session_state_after: SessionState | None = None


@event("session_scheduler.rate_limited", fr_id="FR-EVT-SESS-SCHED-003", retention=Retention.RUN)
class SchedulerRateLimited(Payload, frozen=True, kw_only=True):
    """A provider's rate limit makes a run wait."""

    attempt: Count
    backoff_ms: Count
    job_id: Id
    provider: Name
    session_id: Id


@event("session_scheduler.cancelled", fr_id="FR-EVT-SESS-SCHED-004", retention=Retention.RUN)
class SchedulerCancelled(Payload, frozen=True, kw_only=True):
    """A run was cancelled."""

    cancelled_by: Name
    """`user_id` of a person, or `client`, `cascade`, `consent`, `runtime`."""
    job_id: Id
    reason: Token
    session_id: Id


@event("session_scheduler.retry", retention=Retention.RUN)
class SchedulerRetry(Payload, frozen=True, kw_only=True):
    """An attempt failed for a passing reason and the run is queued again."""

    attempt: Count
    backoff_ms: Count
    fault: FaultKind
    job_id: Id
    session_id: Id
    status: Count | None = None


@event("session_scheduler.wait_reason", retention=Retention.VOLUME)
class SchedulerWaitReason(Payload, frozen=True, kw_only=True):
    """The reason why one run waits changed, and it is the run's own and not a shared limit's."""

    job_id: Id
    session_id: Id
    wait_reason: Token


@event("session_scheduler.ended", retention=Retention.RUN)
class SchedulerEnded(Payload, frozen=True, kw_only=True):
    """A run ended without an answer of a model."""

    job_id: Id
    reason: Token | None = None
    session_id: Id
    state: JobState
