"""Cloud events: the way of every cloud run from its plan to its bytes (03 §4–5, §8).

The origin's list ends at 004. On a person's decision the envelope's `actor_id` is their `user_id`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from handshake.kernel.event import Payload, Retention, event
from handshake.kernel.fields import Count, Id, Name, Sha256, Token


class DrawState(StrEnum):
    """What became of a draw's attempt."""

    SENT = "sent"
    UNKNOWN = "unknown"
    RELEASED = "released"


@event("cloud_escalation_requested", fr_id="FR-EVT-CLOUD-001", retention=Retention.AUDIT, in_session=True)
class CloudEscalationRequested(Payload, frozen=True, kw_only=True):
    """A plan was made for a run that would leave the machine."""

    job_id: Id
    local_attempts: Count | None = None
    mt_id: Name | None = None
    payload_sha256: Sha256
    projection_plan_id: Id
    reason: Token
    request_id: Id
    requested_model_id: Name
    trace_id: Id
    wp_id: Name | None = None


@event("cloud_escalation_approved", fr_id="FR-EVT-CLOUD-002", retention=Retention.AUDIT, in_session=True)
class CloudEscalationApproved(Payload, frozen=True, kw_only=True):
    """A receipt was validated for a cloud run."""

    consent_receipt_id: Id
    job_id: Id
    local_attempts: Count | None = None
    mt_id: Name | None = None
    outcome: Literal["approved"]
    payload_sha256: Sha256
    projection_plan_id: Id
    reason: Token
    request_id: Id
    requested_model_id: Name
    trace_id: Id
    wp_id: Name | None = None


@event("cloud_escalation_denied", fr_id="FR-EVT-CLOUD-003", retention=Retention.AUDIT, in_session=True)
class CloudEscalationDenied(Payload, frozen=True, kw_only=True):
    """A cloud run was denied and no byte of it left."""

    denial_code: Token
    job_id: Id
    local_attempts: Count | None = None
    mt_id: Name | None = None
    outcome: Literal["denied"]
    reason: Token
    request_id: Id
    requested_model_id: Name
    trace_id: Id
    wp_id: Name | None = None


@event("cloud_escalation_executed", fr_id="FR-EVT-CLOUD-004", retention=Retention.AUDIT, in_session=True)
class CloudEscalationExecuted(Payload, frozen=True, kw_only=True):
    """One attempt of a cloud run may send its bytes from this commit on."""

    attempt: Count
    consent_receipt_id: Id
    job_id: Id
    local_attempts: Count | None = None
    mt_id: Name | None = None
    outcome: Literal["executed"]
    payload_sha256: Sha256
    projection_plan_id: Id
    reason: Token
    request_id: Id
    requested_model_id: Name
    trace_id: Id
    wp_id: Name | None = None


@event("consent.draw_settled", retention=Retention.AUDIT, in_session=True)
class DrawSettled(Payload, frozen=True, kw_only=True):
    """It is known, or known to be unknowable, what one attempt of a draw sent."""

    attempt: Count
    bytes_sent: Count
    draw_id: Id
    job_id: Id
    state: DrawState
