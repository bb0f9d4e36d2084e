"""Spawning events: child sessions asked for, made, refused, announced and cancelled with their tree (04 §1–5)."""

from __future__ import annotations

from enum import StrEnum

from handshake.kernel.catalogue.lists import SessionIds
from handshake.kernel.catalogue.session import EndStatus
from handshake.kernel.event import Payload, Retention, event
from handshake.kernel.fields import Count, Id, Sha256, Token


class SpawnMode(StrEnum):
    """How long a child lives."""

    ONE_SHOT = "ONE_SHOT"
    SESSION_PERSISTENT = "SESSION_PERSISTENT"


class SpawnRejection(StrEnum):
    """Why a child was refused; the list is closed (04 §2)."""

    ANCESTOR_CANCELLING = "ancestor_cancelling"
    BUDGET_EXHAUSTED = "budget_exhausted"
    CAPABILITY_WIDENING = "capability_widening"
    CHILDREN_CAP_REACHED = "children_cap_reached"
    DEPTH_LIMIT_EXCEEDED = "depth_limit_exceeded"
    DESCENDANTS_CAP_REACHED = "descendants_cap_reached"
    LANE_NOT_PERMITTED = "lane_not_permitted"
    MODEL_NOT_ALLOWED = "model_not_allowed"
    PARENT_NOT_LIVE = "parent_not_live"
    PAYLOAD_NOT_FOUND = "payload_not_found"
    SESSION_CAP_REACHED = "session_cap_reached"
    SPAWN_NOT_PERMITTED = "spawn_not_permitted"
    UNKNOWN_ROLE = "unknown_role"


@event("session.spawn_requested", fr_id="FR-EVT-SESS-SPAWN-001", retention=Retention.AUDIT, in_session=True)
class SpawnRequested(Payload, frozen=True, kw_only=True):
    """A session asked for a child."""

    child_role: Token
    requester_session_id: Id
    spawn_depth: Count
    spawn_mode: SpawnMode


@event("session.spawn_accepted", fr_id="FR-EVT-SESS-SPAWN-002", retention=Retention.AUDIT, in_session=True)
class SpawnAccepted(Payload, frozen=True, kw_only=True):
    """A child session was made."""

    child_role: Token
    child_session_id: Id
    requester_session_id: Id
    spawn_depth: Count


@event("session.spawn_rejected", fr_id="FR-EVT-SESS-SPAWN-003", retention=Retention.AUDIT, in_session=True)
class SpawnRejected(Payload, frozen=True, kw_only=True):
    """A child was refused."""

    active_children_count: Count
    rejection_reason: SpawnRejection
    requester_session_id: Id
    spawn_depth: Count


@event("session.announce_back", fr_id="FR-EVT-SESS-SPAWN-004", retention=Retention.AUDIT, in_session=True)
class AnnounceBack(Payload, frozen=True, kw_only=True):
    """A child ended and its requester was told; the message id is null where no message was wanted."""

    child_session_id: Id
    mailbox_message_id: Id | None
    requester_session_id: Id
    status: EndStatus
    summary_artifact_id: Sha256


@event("session.cascade_cancel", fr_id="FR-EVT-SESS-SPAWN-005", retention=Retention.AUDIT, in_session=True)
class CascadeCancel(Payload, frozen=True, kw_only=True):
    """A session was cancelled with its tree, deepest first; skipped sessions had ended before."""

    cancelled_session_ids: SessionIds
    reason: Token
    root_session_id: Id
    skipped_session_ids: SessionIds
