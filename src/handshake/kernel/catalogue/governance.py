"""Governance events: decisions of gates, signatures, and people who were asked (03 §9, 05 §5).

A confidence is a whole number of thousandths, because own records carry no fractions.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from handshake.kernel.catalogue.lists import Refs
from handshake.kernel.event import Payload, Retention, event
from handshake.kernel.fields import Id, Name, Token

MAX_ROLES = 16
"""Roles to which a work profile gives models."""

Permille = Annotated[int, Meta(ge=0, le=1000)]
"""Thousandths."""


class AutomationLevel(StrEnum):
    """How much may happen without a person."""

    FULL_HUMAN = "FULL_HUMAN"
    HYBRID = "HYBRID"
    AUTONOMOUS = "AUTONOMOUS"
    LOCKED = "LOCKED"


class ResolvedModel(Payload, frozen=True, kw_only=True):
    """The model that serves a role."""

    model_id: Name
    role: Token


ResolvedModels = Annotated[tuple[ResolvedModel, ...], Meta(max_length=MAX_ROLES)]
"""The models of a work profile, by role."""


@event("work_profile_selected", fr_id="FR-EVT-PROFILE-001", retention=Retention.AUDIT)
class WorkProfileSelected(Payload, frozen=True, kw_only=True):
    """A work profile was chosen."""

    allow_cloud_escalation: bool
    automation_level: AutomationLevel
    previous_profile_id: Name | None = None
    profile_id: Name
    resolved_models: ResolvedModels


@event("work_profile_changed", fr_id="FR-EVT-PROFILE-002", retention=Retention.AUDIT)
class WorkProfileChanged(Payload, frozen=True, kw_only=True):
    """An edit made a new work profile; jobs keep the one that they pinned."""

    allow_cloud_escalation: bool
    automation_level: AutomationLevel
    previous_profile_id: Name | None = None
    profile_id: Name
    resolved_models: ResolvedModels


@event("work_profile_resolved", fr_id="FR-EVT-PROFILE-003", retention=Retention.AUDIT)
class WorkProfileResolved(Payload, frozen=True, kw_only=True):
    """The roles of a work profile got their models for a job."""

    allow_cloud_escalation: bool
    automation_level: AutomationLevel
    previous_profile_id: Name | None = None
    profile_id: Name
    resolved_models: ResolvedModels


@event("gov_decision_created", fr_id="FR-EVT-GOV-001", retention=Retention.AUDIT)
class GovDecisionCreated(Payload, frozen=True, kw_only=True):
    """A gate decided."""

    automation_level: AutomationLevel
    confidence_permille: Permille | None = None
    decision: Token | None = None
    decision_id: Id
    evidence_refs: Refs | None = None
    gate_type: Token
    target_ref: Name
    user_id: Name | None = None


@event("gov_decision_applied", fr_id="FR-EVT-GOV-002", retention=Retention.AUDIT)
class GovDecisionApplied(Payload, frozen=True, kw_only=True):
    """A gate's decision took effect."""

    automation_level: AutomationLevel
    confidence_permille: Permille | None = None
    decision: Token | None = None
    decision_id: Id
    evidence_refs: Refs | None = None
    gate_type: Token
    target_ref: Name
    user_id: Name | None = None


@event("gov_auto_signature_created", fr_id="FR-EVT-GOV-003", retention=Retention.AUDIT)
class GovAutoSignatureCreated(Payload, frozen=True, kw_only=True):
    """An automatic decision stands for a signature; never for sending to a cloud."""

    automation_level: AutomationLevel
    confidence_permille: Permille | None = None
    decision: Token | None = None
    decision_id: Id
    evidence_refs: Refs | None = None
    gate_type: Token
    target_ref: Name
    user_id: Name | None = None


@event("gov_human_intervention_requested", fr_id="FR-EVT-GOV-004", retention=Retention.AUDIT)
class GovHumanInterventionRequested(Payload, frozen=True, kw_only=True):
    """A gate waits for a person."""

    automation_level: AutomationLevel
    confidence_permille: Permille | None = None
    decision: Token | None = None
    decision_id: Id
    evidence_refs: Refs | None = None
    gate_type: Token
    target_ref: Name
    user_id: Name | None = None


@event("gov_human_intervention_received", fr_id="FR-EVT-GOV-005", retention=Retention.AUDIT)
class GovHumanInterventionReceived(Payload, frozen=True, kw_only=True):
    """A person answered a gate."""

    automation_level: AutomationLevel
    confidence_permille: Permille | None = None
    decision: Token | None = None
    decision_id: Id
    evidence_refs: Refs | None = None
    gate_type: Token
    target_ref: Name
    user_id: Name
