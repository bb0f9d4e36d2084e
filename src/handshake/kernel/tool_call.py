"""Tool call: the record of one call, its states, and the closed table by which it moves.

Source:
    gate.event.on_every_path (02 §3, 01 §4).
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from handshake.kernel.catalogue.tools import Decision, SideEffect, Transport
from handshake.kernel.errors import InvalidTransition
from handshake.kernel.tool import Idempotency


class ToolCallState(StrEnum):
    """Where a call stands."""

    REQUESTED = "requested"
    """A model asked for it; the gate has not seen it."""
    AWAITING_USER = "awaiting_user"
    STARTED = "started"
    """It may have had its effect."""
    ENDED = "ended"


_S = ToolCallState

TRANSITIONS: dict[ToolCallState, frozenset[ToolCallState]] = {
    _S.REQUESTED: frozenset({_S.AWAITING_USER, _S.STARTED, _S.ENDED}),
    _S.AWAITING_USER: frozenset({_S.STARTED, _S.ENDED}),
    _S.STARTED: frozenset({_S.REQUESTED, _S.ENDED}),
    _S.ENDED: frozenset(),
}
"""Every move a call may make. A started one is asked for anew only where its runtime died and it may be repeated."""


class ToolCallRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One call of one tool in one session. Times are microseconds since 1970.

    `place` is the call's place among those that its run asked for; a call that no run asked for has place 0.
    `args_artifact_id` holds the canonical arguments after redaction, or what a model wrote where that is no JSON.
    """

    call_seq: int
    session_id: str
    tool_call_id: str
    job_id: str | None
    turn_id: str | None
    trace_id: str
    place: int
    tool_id: str
    tool_version: str
    transport: Transport
    state: ToolCallState
    args_artifact_id: str | None
    call_sha256: str | None
    decision: Decision | None
    reason: str | None
    error_code: str | None
    approval_id: str | None
    result_artifact_id: str | None
    idempotency_key: str | None
    idempotency: Idempotency | None
    side_effect: SideEffect | None
    tainted: bool
    runtime_epoch: int
    created_at_us: int
    started_at_us: int | None
    ended_at_us: int | None


def move(tool_call_id: str, before: ToolCallState, after: ToolCallState) -> ToolCallState:
    """Return `after` if the table has the move from `before`.

    Raises:
        InvalidTransition: the table does not have it.
    """
    if after not in TRANSITIONS[before]:
        raise InvalidTransition(tool_call_id=tool_call_id, from_state=before.value, to_state=after.value)
    return after


def may_repeat(idempotency: Idempotency | None, side_effect: SideEffect | None, key: str | None) -> bool:
    """Return whether a call whose outcome nobody knows may be made again (INV-RECOVER-002).

    That is one that only reads, one that is idempotent, and one with a key by which its tool knows it again.
    """
    if side_effect is SideEffect.READ or idempotency is Idempotency.IDEMPOTENT:
        return True
    return idempotency is Idempotency.IDEMPOTENT_WITH_KEY and key is not None
