"""Trust events: what crossed, or tried to cross, the inbound trust boundary (02 §6)."""

from __future__ import annotations

from handshake.kernel.event import Payload, Retention, event
from handshake.kernel.fields import Id, Name, Sha256, Timestamp, Token


@event("trust.system_injection_rejected", retention=Retention.AUDIT, in_session=False)
class SystemInjectionRejected(Payload, frozen=True, kw_only=True):
    """A SYSTEM message from outside the runtime was refused; the session is null where none was named."""

    content_hash: Sha256
    session_id: Id | None
    source_id: Name | None = None
    source_kind: Token
    """`api`, `gateway`, `mcp`, `tool`, `mailbox`, `session`."""
    source_session_id: Id | None = None


@event("trust.cross_session_read", retention=Retention.AUDIT)
class CrossSessionRead(Payload, frozen=True, kw_only=True):
    """A session read another session's thread with an operator's approval."""

    approval_id: Id
    content_hash: Sha256
    session_id: Id
    source_kind: Token
    source_session_id: Id


@event("trust.turn_tainted", retention=Retention.AUDIT)
class TurnTainted(Payload, frozen=True, kw_only=True):
    """Untrusted content entered a turn, and what the turn does is held to stricter rules."""

    content_hash: Sha256
    message_id: Id
    session_id: Id
    source_kind: Token
    source_session_id: Id | None = None
    turn_id: Id


@event("trust.debug_scope_opened", retention=Retention.AUDIT)
class DebugScopeOpened(Payload, frozen=True, kw_only=True):
    """An operator relaxed one check for one session until a moment."""

    expires_at: Timestamp
    relaxation: Token
    session_id: Id
    user_id: Name
