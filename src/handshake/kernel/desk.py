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
}
"""What people read."""


class DeskItem(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One question to a person about one run. Times are microseconds since 1970.

    `attempts` is how often the run was started when the question came up, `request_sha256` what it would send again.
    """

    item_seq: int
    item_id: str
    kind: DeskKind
    state: DeskState
    reason: str
    session_id: str
    job_id: str
    attempts: int
    provider_id: str
    model_id: str
    backend: str
    request_sha256: str
    created_at_us: int
    expires_at_us: int
    decided_at_us: int | None
    decided_by: str | None


def shown(item: DeskItem) -> bytes:
    """Return the canonical bytes of what a person is shown; nothing in them changes while the item waits."""
    return canonical(
        {
            "attempts": item.attempts,
            "backend": item.backend,
            "created_at": rfc3339(item.created_at_us),
            "expires_at": rfc3339(item.expires_at_us),
            "item_id": item.item_id,
            "job_id": item.job_id,
            "kind": item.kind.value,
            "model_id": item.model_id,
            "provider_id": item.provider_id,
            "reason": item.reason,
            "request_sha256": item.request_sha256,
            "session_id": item.session_id,
        }
    )


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
