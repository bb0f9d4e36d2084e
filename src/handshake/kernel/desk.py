"""Desk: what waits for a person, what exactly was shown, and what a person may answer."""

from __future__ import annotations

import hashlib
from enum import StrEnum

import msgspec

from handshake.kernel.canonical import canonical
from handshake.kernel.errors import InvalidTransition, StateConflict
from handshake.kernel.moment import rfc3339


class DeskKind(StrEnum):
    """What a person is asked about; a closed set that grows with the product."""

    RECOVERY = "recovery"
    TOOL_APPROVAL = "tool_approval"


class DeskState(StrEnum):
    """Where a desk item stands; only the first is open."""

    WAITING = "waiting"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


TRANSITIONS: dict[DeskState, frozenset[DeskState]] = {
    DeskState.WAITING: frozenset(DeskState) - {DeskState.WAITING},
    DeskState.APPROVED: frozenset(),
    DeskState.DENIED: frozenset(),
    DeskState.EXPIRED: frozenset(),
    DeskState.WITHDRAWN: frozenset(),
}
"""Every move an item may make: it is answered once, by whomever."""

SENTENCES: dict[DeskKind, str] = {
    DeskKind.RECOVERY: "a run was lost while it was running; approve to run it again, deny to fail it",
    DeskKind.TOOL_APPROVAL: "a call of a tool waits; approve to let exactly this call be made, deny to refuse it",
}
"""What people read."""


class DeskItem(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One question to a person about one run or one call of a tool. Times are microseconds since 1970.

    `attempts` is how often the run was started when the question came up, `request_sha256` what it would send again. Of
    a call that no run asked for there is no run to tell of. `findings` and `tainted_by` are JSON: places in the
    arguments for which nobody stands, and the messages that tainted the session.
    """

    item_seq: int
    item_id: str
    kind: DeskKind
    state: DeskState
    reason: str
    session_id: str
    job_id: str | None
    attempts: int
    provider_id: str | None
    model_id: str | None
    backend: str | None
    request_sha256: str | None
    created_at_us: int
    expires_at_us: int
    decided_at_us: int | None
    decided_by: str | None
    tool_id: str | None = None
    tool_version: str | None = None
    call_sha256: str | None = None
    args_sha256: str | None = None
    """The artifact of the canonical arguments, after redaction."""
    findings: str | None = None
    tainted_by: str | None = None


_SHOWN: dict[DeskKind, tuple[str, ...]] = {
    DeskKind.RECOVERY: ("attempts", "backend", "model_id", "provider_id", "request_sha256"),
    DeskKind.TOOL_APPROVAL: ("args_sha256", "call_sha256", "findings", "tainted_by", "tool_id", "tool_version"),
}
"""What is shown of each kind besides what all have."""


def shown(item: DeskItem) -> bytes:
    """Return the canonical bytes of what a person is shown; nothing in them changes while the item waits."""
    told: dict[str, object] = {
        "created_at": rfc3339(item.created_at_us),
        "expires_at": rfc3339(item.expires_at_us),
        "item_id": item.item_id,
        "job_id": item.job_id,
        "kind": item.kind.value,
        "reason": item.reason,
        "session_id": item.session_id,
    }
    told |= {name: getattr(item, name) for name in _SHOWN[item.kind]}
    return canonical(told)


def shown_sha256(item: DeskItem) -> str:
    """Return the hash to which an approval is bound."""
    return hashlib.sha256(shown(item)).hexdigest()


def require_shown(item: DeskItem, sha256: str) -> None:
    """Refuse an answer to something else than this.

    Raises:
        StateConflict: another item was shown, or this one as it is no longer.
    """
    if sha256 != shown_sha256(item):
        raise StateConflict(
            item_id=item.item_id,
            reason="shown_differs",
            hint=f"look at it as it is now: handshake desk show {item.item_id}",
        )


def decide(item: DeskItem, after: DeskState) -> DeskState:
    """Return `after` if the item may move there.

    Raises:
        InvalidTransition: it was answered before.
    """
    if after not in TRANSITIONS[item.state]:
        raise InvalidTransition(item_id=item.item_id, from_state=item.state.value, to_state=after.value)
    return after
