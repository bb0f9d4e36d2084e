"""Debug scope: what an operator may relax for one session, and for how long.

Relaxed are the questions of policy about calls of LOW and MEDIUM risk that the session's grants cover. What is denied
stays denied; a tainted argument, a destructive command, a tool that always asks, a missing sandbox and consent are
asked about or refused as ever; and nothing is relaxed for any other session.

Source:
    trust.debug.scoped, trust.bypass.none (02 §6, TRUST-004).
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from handshake.kernel.errors import GovernanceLocked, InvalidRequest
from handshake.kernel.ids import SessionId
from handshake.kernel.settings import MAX_DEBUG_SCOPE_S, AutomationLevel
from handshake.kernel.tool import Risk


class Relaxation(StrEnum):
    """What is relaxed."""

    POLICY_QUESTIONS = "policy_questions"


RISKS = {Relaxation.POLICY_QUESTIONS: frozenset({Risk.LOW, Risk.MEDIUM})}
"""Risks of calls about which nobody is asked for the sake of policy alone."""


class DebugScope(msgspec.Struct, frozen=True):
    """The relaxation of one session, until a moment in microseconds since 1970."""

    session_id: SessionId
    relaxation: Relaxation
    expires_at_us: int
    opened_by: str


def require_openable(for_s: int, level: AutomationLevel) -> None:
    """Refuse a relaxation that lasts too long, or that governance does not allow.

    Raises:
        InvalidRequest: not from one second to `MAX_DEBUG_SCOPE_S`.
        GovernanceLocked: the workspace is LOCKED.
    """
    if not 1 <= for_s <= MAX_DEBUG_SCOPE_S:
        raise InvalidRequest(field="for", reason="out_of_range", low_s=1, high_s=MAX_DEBUG_SCOPE_S)
    if level is AutomationLevel.LOCKED:
        raise GovernanceLocked(reason="debug_scope")
