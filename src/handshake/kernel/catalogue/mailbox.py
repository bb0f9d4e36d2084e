"""Mailbox events: messages between roles by reference, their export and transcription (04 §6)."""

from __future__ import annotations

from enum import StrEnum

from handshake.kernel.catalogue.lists import Roles
from handshake.kernel.event import Payload, Retention, event
from handshake.kernel.fields import Count, Id, Name, Sha256, Token


class MailboxMessageType(StrEnum):
    """What a message between roles is for; the list is closed (04 §6)."""

    BLOCKER = "Blocker"
    CLARIFICATION_REQUEST = "ClarificationRequest"
    CLARIFICATION_RESPONSE = "ClarificationResponse"
    DECISION_REQUEST = "DecisionRequest"
    DECISION_RESPONSE = "DecisionResponse"
    DELEGATE_WORK = "DelegateWork"
    ESCALATION_REQUEST = "EscalationRequest"
    FYI = "FYI"
    HANDOFF = "Handoff"
    MICRO_TASK_COMPLETION_REPORT = "MicroTaskCompletionReport"
    MICRO_TASK_ESCALATION = "MicroTaskEscalation"
    MICRO_TASK_FEEDBACK = "MicroTaskFeedback"
    MICRO_TASK_REQUEST = "MicroTaskRequest"
    MICRO_TASK_VERIFICATION_NEEDED = "MicroTaskVerificationNeeded"
    REVIEW_REQUEST = "ReviewRequest"
    SCOPE_CHANGE_APPROVAL = "ScopeChangeApproval"
    SCOPE_CHANGE_PROPOSAL = "ScopeChangeProposal"
    SCOPE_RISK = "ScopeRisk"
    SESSION_ANNOUNCE_BACK = "SessionAnnounceBack"
    TOOLING_REQUEST = "ToolingRequest"
    TOOLING_RESULT = "ToolingResult"
    VALIDATION_FINDING = "ValidationFinding"
    WAIVER_APPROVAL = "WaiverApproval"
    WAIVER_PROPOSAL = "WaiverProposal"


@event("gov_mailbox_message_created", fr_id="FR-EVT-GOV-MAILBOX-001", retention=Retention.AUDIT)
class MailboxMessageCreated(Payload, frozen=True, kw_only=True):
    """A role wrote to other roles."""

    body_ref: Sha256
    body_sha256: Sha256
    from_role: Token
    idempotency_key: Name
    message_id: Id
    message_type: MailboxMessageType
    thread_id: Id
    to_roles: Roles


@event("gov_mailbox_exported", fr_id="FR-EVT-GOV-MAILBOX-002", retention=Retention.AUDIT)
class MailboxExported(Payload, frozen=True, kw_only=True):
    """The mailbox was exported; the index names every thread's file by hash."""

    index_sha256: Sha256
    messages_count: Count
    threads_count: Count


@event("gov_mailbox_transcribed", fr_id="FR-EVT-GOV-MAILBOX-003", retention=Retention.AUDIT)
class MailboxTranscribed(Payload, frozen=True, kw_only=True):
    """A message was carried over to the record that has authority."""

    message_id: Id
    target_kind: Token
    target_ref: Name
    target_sha256: Sha256
    thread_id: Id
