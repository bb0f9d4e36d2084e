"""Session checkpoint: a point to which a session's stored state goes; when the next one is due, and what it is called.

It is no copy: it says up to which message the thread, and with it the session's row, was whole.

Source:
    recovery.checkpoint.points (01 §8).
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

from handshake.kernel.ids import SessionId
from handshake.kernel.session import SessionState

EVERY_MESSAGES = 5
"""Messages between two checkpoints at most."""
EVERY_TOKENS = 4_096
"""Streamed tokens between two checkpoints at most, also in the middle of one answer."""


class Trigger(StrEnum):
    """Why a checkpoint was made."""

    OPERATOR_DECISION = "operator_decision"
    PAUSE = "pause"
    BLOCK = "block"
    SHUTDOWN = "shutdown"
    MESSAGES = "messages"
    TOKENS = "tokens"
    TOOL_CALL = "tool_call"
    RECOVERY = "recovery"


_BEFORE = {SessionState.PAUSED: Trigger.PAUSE, SessionState.BLOCKED: Trigger.BLOCK}


def due(state: SessionState, *, messages: int, tokens: int) -> Trigger | None:
    """Return why a checkpoint is due where a run ends, or None.

    Args:
        state: the session's state from now on.
        messages: how many were added since the last checkpoint.
        tokens: how many were streamed since the last checkpoint.
    """
    before = _BEFORE.get(state)
    if before is not None:
        return before
    if messages >= EVERY_MESSAGES:
        return Trigger.MESSAGES
    return Trigger.TOKENS if tokens >= EVERY_TOKENS else None


def checkpoint_id(session_id: SessionId, number: int) -> str:
    """Return the id of a session's checkpoint by its number, 1 for the first: a UUIDv8 (RFC 9562 §5.8)."""
    digest = hashlib.sha256(f"{session_id}:{number}".encode()).hexdigest()
    variant = "89ab"[int(digest[16], 16) & 3]
    return f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"
