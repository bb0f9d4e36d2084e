"""Approval: the record that a person allowed something, on which grants rest; also called a token (02 §1).

Source:
    capability.grant.traces_to_token, capability.lifetime.ends (02 §1).
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from handshake.kernel.errors import InvalidRequest
from handshake.kernel.grant import Lifetime
from handshake.kernel.grant_settings import GRANT_DEFAULT_S, MAX_GRANT_S
from handshake.kernel.ids import SessionId
from handshake.kernel.moment import span_us
from handshake.kernel.units import US_PER_S


class ApprovalKind(StrEnum):
    """What a person approved of."""

    SESSION = "session"
    """A session with its model and grants, by making it."""
    OPERATOR = "operator"
    """Grants to a session that exists."""
    CALL = "call"
    """One call of a tool that was shown, and what is like it for as long as they said."""


class Approval(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One approval. Times are microseconds since 1970."""

    approval_id: str
    session_id: SessionId
    role: str
    kind: ApprovalKind
    lifetime: Lifetime
    call_sha256: str | None = None
    user_id: str
    created_at_us: int
    expires_at_us: int | None = None
    used_at_us: int | None = None
    """When the one call was made that it is for."""
    revoked_at_us: int | None = None
    revoked_by: str | None = None


class Lasting(msgspec.Struct, frozen=True, gc=False):
    """How long a grant lasts."""

    lifetime: Lifetime
    expires_at_us: int | None = None


_WORDS = {
    "once": Lifetime.ONCE,
    "turn": Lifetime.TURN,
    "session": Lifetime.SESSION,
    "wp": Lifetime.WORK_PACKET,
    "work_packet": Lifetime.WORK_PACKET,
    "until_revoked": Lifetime.UNTIL_REVOKED,
}
UNTIL = "until"
EXPECTED = "once, turn, session, wp, until, until_revoked, or a span such as 2h"


def lasting(words: str, *, now_us: int) -> Lasting:
    """Return how long a grant lasts for which a person says `words`; `until` alone is a day.

    Raises:
        InvalidRequest: they say nothing of the kind.
    """
    if words in _WORDS:
        return Lasting(_WORDS[words])
    if words == UNTIL:
        return Lasting(Lifetime.UNTIL, now_us + GRANT_DEFAULT_S * US_PER_S)
    span = span_us(words)
    if span is None or not 0 < span <= MAX_GRANT_S * US_PER_S:
        raise InvalidRequest(field="for", reason="not_a_lifetime", hint=f"say {EXPECTED}")
    return Lasting(Lifetime.UNTIL, now_us + span)
