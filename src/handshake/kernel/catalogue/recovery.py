"""Recovery events: points to go back to, and what a start found unfinished (01 §8)."""

from __future__ import annotations

from handshake.kernel.event import Payload, Retention, event
from handshake.kernel.fields import Count, Id, Timestamp, Token
from handshake.kernel.job import JobState


@event("workflow_recovery", fr_id="FR-EVT-WF-RECOVERY", retention=Retention.RUN)
class WorkflowRecovery(Payload, frozen=True, kw_only=True):
    """Work of a runtime that died was found and moved on; the last sign of life is null where none was kept."""

    from_state: JobState
    job_id: Id | None = None
    last_heartbeat_ts: Timestamp | None
    reason: Token
    threshold_secs: Count
    to_state: JobState
    workflow_run_id: Id


@event("checkpoint.created", retention=Retention.VOLUME)
class CheckpointCreated(Payload, frozen=True, kw_only=True):
    """A session's state can be recovered from here."""

    checkpoint_id: Id
    session_id: Id
    trigger: Token
    """`tool_call`, `operator_decision`, `pause`, `block`, `shutdown`, `messages`, `tokens`, `recovery`."""


@event("recovery.attempted", retention=Retention.RUN)
class RecoveryAttempted(Payload, frozen=True, kw_only=True):
    """A session was recovered, or could not be."""

    checkpoint_id: Id | None = None
    reason: Token
    result: Token
    session_id: Id
