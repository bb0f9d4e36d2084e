"""MCP pin: which definition of an MCP server's tool a person approved, and what becomes of the tool when it changes.

Only an approved tool may be called. A changed one is blocked until a person approves it again, even if the server goes
back to what was approved: it has shown that its word does not hold.

Source:
    gate.mcp.definition_pinned (02 §5).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import StrEnum

import msgspec

from handshake.kernel.canonical import canonical
from handshake.kernel.errors import InvalidTransition, StateConflict


class PinState(StrEnum):
    """Where a tool's definition stands."""

    NEW = "new"
    """Nobody has approved it."""
    APPROVED = "approved"
    CHANGED = "changed"
    """It is no longer, or was for a while not, what was approved."""


TRANSITIONS: dict[PinState, frozenset[PinState]] = {
    PinState.NEW: frozenset({PinState.APPROVED}),
    PinState.APPROVED: frozenset({PinState.CHANGED}),
    PinState.CHANGED: frozenset({PinState.APPROVED}),
}
"""Every move a pin may make; only a person moves it to `approved`."""


class Pin(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The pin of one tool. Times are microseconds since 1970."""

    server: str
    name: str
    tool_id: str
    state: PinState
    seen_sha256: str
    """The definition as the server said it last."""
    approved_sha256: str | None
    revision: int
    """How many definitions were approved so far."""
    seen_at_us: int
    decided_at_us: int | None
    decided_by: str | None


def see(pin: Pin, sha256: str, *, now_us: int) -> Pin:
    """Return the pin after its server said a definition with this hash."""
    changed = pin.state is PinState.APPROVED and sha256 != pin.approved_sha256
    state = PinState.CHANGED if changed else pin.state
    return msgspec.structs.replace(pin, state=state, seen_sha256=sha256, seen_at_us=now_us)


def approve(pin: Pin, *, by: str, now_us: int) -> Pin:
    """Return the pin after a person approved the definition that was seen last.

    Raises:
        InvalidTransition: it is approved.
    """
    if PinState.APPROVED not in TRANSITIONS[pin.state]:
        raise InvalidTransition(tool_id=pin.tool_id, from_state=pin.state.value, to_state=PinState.APPROVED.value)
    return msgspec.structs.replace(
        pin,
        state=PinState.APPROVED,
        approved_sha256=pin.seen_sha256,
        revision=pin.revision + 1,
        decided_at_us=now_us,
        decided_by=by,
    )


def shown_sha256(pins: Sequence[Pin]) -> str:
    """Return the hash to which an approval of these pins is bound: which tools, and which definitions of them."""
    listed = sorted((pin.tool_id, pin.seen_sha256) for pin in pins)
    return hashlib.sha256(canonical([list(one) for one in listed])).hexdigest()


def require_shown(pins: Sequence[Pin], sha256: str, *, server: str) -> None:
    """Refuse an approval of something else than these pins as they are now.

    Raises:
        StateConflict: other definitions were shown.
    """
    if sha256 != shown_sha256(pins):
        hint = f"look at them as they are now: handshake mcp approve {server}"
        raise StateConflict(server=server, reason="shown_differs", hint=hint)
