"""Consent events: receipts issued, used, widened, refused and ended (03 §4–6)."""

from __future__ import annotations

from enum import StrEnum

from handshake.kernel.catalogue.lists import JobIds, SessionIds
from handshake.kernel.event import Payload, Retention, event
from handshake.kernel.fields import Count, Id, Name, Sha256, Timestamp, Token, Usd


class ConsentScope(StrEnum):
    """Which calls a receipt covers."""

    SINGLE_CALL = "SINGLE_CALL"
    SESSION_SCOPED = "SESSION_SCOPED"
    WP_SCOPED = "WP_SCOPED"
    BROADCAST_SCOPED = "BROADCAST_SCOPED"


class Presence(StrEnum):
    """How it was shown that a person approved."""

    NONE = "none"
    TTY = "tty"
    PASSPHRASE = "passphrase"  # noqa: S105  (a kind of presence, not a secret)
    PASSKEY = "passkey"


@event("consent.receipt_issued", retention=Retention.AUDIT)
class ReceiptIssued(Payload, frozen=True, kw_only=True):
    """A person approved a plan; a limit is null where the scope sets none."""

    consent_receipt_id: Id
    consent_scope: ConsentScope
    expires_at: Timestamp
    max_calls: Count | None
    max_new_bytes: Count | None
    max_total_bytes: Count | None
    max_total_cost_usd: Usd | None
    payload_sha256: Sha256
    plan_sha256: Sha256
    presence: Presence
    projection_plan_id: Id
    session_ids: SessionIds
    user_id: Name
    wp_id: Name | None = None


@event("consent.receipt_revoked", retention=Retention.AUDIT)
class ReceiptRevoked(Payload, frozen=True, kw_only=True):
    """A person took a receipt back: these runs were cancelled and these sessions blocked in the same commit."""

    cancelled_job_ids: JobIds
    consent_receipt_id: Id
    consent_scope: ConsentScope
    session_ids: SessionIds
    user_id: Name


@event("consent.receipt_drawn", retention=Retention.AUDIT)
class ReceiptDrawn(Payload, frozen=True, kw_only=True):
    """A receipt was used for one call; the counts are the receipt's, this draw included."""

    calls_used: Count
    consent_receipt_id: Id
    consent_scope: ConsentScope
    draw_id: Id
    job_id: Id
    new_bytes_used: Count
    payload_bytes: Count
    payload_sha256: Sha256
    plan_sha256: Sha256
    projection_plan_id: Id
    session_id: Id
    total_bytes_used: Count


@event("consent.receipt_expired", retention=Retention.AUDIT)
class ReceiptExpired(Payload, frozen=True, kw_only=True):
    """A receipt's window ended or its limits are used up."""

    calls_used: Count
    consent_receipt_id: Id
    consent_scope: ConsentScope
    reason: Token
    """`window`, `calls`, `bytes`, `new_bytes`, `cost`, `installation_epoch`."""
    session_ids: SessionIds
    total_bytes_used: Count


@event("consent.scope_widened", retention=Retention.AUDIT)
class ScopeWidened(Payload, frozen=True, kw_only=True):
    """A person approved more than an earlier receipt allowed."""

    consent_receipt_id: Id
    consent_scope: ConsentScope
    plan_sha256: Sha256
    presence: Presence
    previous_consent_receipt_id: Id
    previous_consent_scope: ConsentScope
    session_ids: SessionIds
    user_id: Name


@event("consent.denied", retention=Retention.AUDIT)
class ConsentDenied(Payload, frozen=True, kw_only=True):
    """A plan was refused by a person, or nobody answered in time."""

    payload_sha256: Sha256
    plan_sha256: Sha256
    projection_plan_id: Id
    reason: Token
    """`by_operator`, `expired`, `plan_changed`, `locked`."""
    session_ids: SessionIds
    user_id: Name | None = None
