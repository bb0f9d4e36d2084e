"""Grants: given by approvals, counted, listed and revoked; changes are units of work, or steps of one.

Each change moves the mark of whoever it concerns, so that it acts at the next check (`operations.authorities`).

Source:
    capability.grant.traces_to_token, capability.revoke.acts_at_once,
    session.grants.change_only_by_own_operation (02 §1).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from handshake.kernel.approval import Approval, ApprovalKind
from handshake.kernel.capability import REGISTRY_VERSION, shown
from handshake.kernel.catalogue import CapabilityGranted, CapabilityRevoked
from handshake.kernel.catalogue.lists import MAX_REFS
from handshake.kernel.errors import NotFound, StateConflict, TooLarge
from handshake.kernel.event import Actor, Context
from handshake.kernel.grant import UNCONSTRAINED, Grant, Lifetime
from handshake.kernel.grant_settings import MAX_SESSION_GRANTS
from handshake.kernel.ids import SessionId, is_uuid
from handshake.operations.authorities import grant_of, owner_of_work_packet
from handshake.operations.views import page_limit
from handshake.ports.store import Reader, Row, Tx


class GrantView(msgspec.Struct, frozen=True):
    """A grant with the approval that it rests on, as it is listed."""

    grant: Grant
    role: str
    kind: ApprovalKind
    user_id: str
    granted_at_us: int
    revoked_at_us: int | None
    """When it or its approval was taken back."""


def give(tx: Tx, approval: Approval, grants: Sequence[Grant], context: Context | None) -> None:
    """Store an approval and what it grants.

    Args:
        tx: the unit's transaction.
        approval: by whom, for which session and how long.
        grants: each names the approval.
        context: of the event that tells it; None where another event of the unit does.

    Raises:
        TooLarge: the session would have more than `MAX_SESSION_GRANTS`.
    """
    count = tx.row("grant_count_of_session", {"session_id": approval.session_id}) if context is not None else None
    have = int(count[0] or 0) if count else 0
    if have + len(grants) > MAX_SESSION_GRANTS:
        raise TooLarge(kind="grants", limit=MAX_SESSION_GRANTS, session_id=approval.session_id)
    record = msgspec.structs.asdict(approval)
    tx.run("approval_insert", record)
    for one in grants:
        tx.run("grant_insert", _columns(one))
    if context is not None:
        mark(tx, _owners(grants, approval.role), f"give {approval.approval_id}")
        tx.append(_told(approval, grants), context)


def count_use(tx: Tx, grants: Iterable[str], *, bytes_: int = 0, amount: int = 0) -> None:
    """Count one call against those of the grants that have something to count.

    Args:
        tx: the unit's transaction.
        grants: ids, as a ruling names them; those of policy are no rows.
        bytes_: what the call sends, in bytes.
        amount: what it spends, in the smallest unit of its tool.
    """
    ids = msgspec.json.encode(list(grants)).decode()
    rows: list[Any] = tx.rows("grant_counted", {"grant_ids": ids})
    for *columns, role in rows:
        one = grant_of(tuple(columns))
        if one.is_counted:
            tx.run("grant_use", {"grant_id": one.grant_id, "bytes": bytes_, "amount": amount})
            used = f"use {one.grant_id} {one.uses + 1} {one.bytes + bytes_} {one.amount + amount}"
            mark(tx, _owners([one], role), used)


def call_approval(reader: Reader, session_id: SessionId, call_sha256: str, *, now_us: int) -> Approval | None:
    """Return the approval of exactly this call that has not been used, revoked or run out, or None.

    However long it lasts for calls like the one that was shown, for what is asked about each time anew it is good once.
    """
    row = reader.row("approval_of_call", {"session_id": session_id, "call_sha256": call_sha256, "now_us": now_us})
    return None if row is None else _approval_of(row)


def use_approval(tx: Tx, approval_id: str) -> bool:
    """Use the approval of one call up; return whether it was still there to be used.

    Source:
        capability.lifetime.ends (02 §1).
    """
    return tx.run("approval_use", {"approval_id": approval_id, "now_us": tx.now_us}) == 1


def revoke(tx: Tx, one_id: str, *, by: str) -> str:
    """Take back an approval with all that rests on it, or a single grant; doing it twice is the same.

    Returns:
        The id of the session that it concerned.

    Raises:
        NotFound: nothing has this id.
        StateConflict: it is the model of a session, which is ended or paused instead.

    Source:
        capability.revoke.acts_at_once (02 §1).
    """
    row = tx.row("grant_get", {"grant_id": one_id}) if is_uuid(one_id) else None
    if row is not None:
        one = grant_of(row)
        if one.grant_id == one.session_id:
            raise StateConflict(
                session_id=one.session_id,
                reason="model_of_session",
                hint="Pause or cancel the session; its other grants can be revoked one by one.",
            )
        approval = _approval(tx, one.approval_id)
        changed = tx.run("grant_revoke", {"grant_id": one_id, "now_us": tx.now_us, "by": by})
        owners = _owners([one], approval.role)
    else:
        approval = _approval(tx, one_id)
        changed = tx.run("approval_revoke", {"approval_id": one_id, "now_us": tx.now_us, "by": by})
        owners = _owners_of_approval(tx, one_id)
    if changed:
        mark(tx, owners, f"revoke {one_id}")
        tx.append(
            CapabilityRevoked(
                approval_id=approval.approval_id,
                grant_id=one_id if row is not None else None,
                session_id=approval.session_id,
                user_id=by,
            ),
            Context(actor=Actor.HUMAN, actor_id=by, model_session_id=approval.session_id),
        )
    return approval.session_id


def listed(
    reader: Reader,
    *,
    session_id: SessionId | None = None,
    after: str = "",
    limit: int | None = None,
    revoked: bool = False,
) -> list[GrantView]:
    """Return grants in order of their ids, after the id `after`; with `revoked` those that were taken back too."""
    rows = reader.rows(
        "grant_page", {"session_id": session_id, "after": after, "limit": page_limit(limit), "all": int(revoked)}
    )
    return [_view(row) for row in rows]


def of_session(reader: Reader, session_id: SessionId) -> list[Grant]:
    """Return all grants of a session that nobody revoked, in order of their ids."""
    rows = reader.rows("grant_live_of_session", {"session_id": session_id, "limit": MAX_SESSION_GRANTS})
    return [grant_of(row) for row in rows]


def mark(tx: Tx, owners: Iterable[str], change: str) -> None:
    """Move the mark of everyone whom a change concerns."""
    for owner in owners:
        row = tx.row("authority_mark_get", {"owner": owner})
        before = str(row[0]) if row else ""
        after = hashlib.sha256(f"{before} {change}".encode()).hexdigest()
        tx.run("authority_mark_put", {"owner": owner, "mark": after})


def _owners(grants: Iterable[Grant], role: str) -> list[str]:
    found = dict.fromkeys(
        owner_of_work_packet(one.wp_id, role)
        if one.lifetime is Lifetime.WORK_PACKET and one.wp_id is not None
        else one.session_id
        for one in grants
    )
    found.update(dict.fromkeys(one.session_id for one in grants))
    return list(found)


def _owners_of_approval(tx: Tx, approval_id: str) -> list[str]:
    found: dict[str, None] = {}
    rows: list[Any] = tx.rows("grant_owners", {"approval_id": approval_id})
    for session_id, wp_id, role in rows:
        found[session_id] = None
        if wp_id is not None:
            found[owner_of_work_packet(wp_id, role)] = None
    return list(found)


def _approval(reader: Reader, approval_id: str) -> Approval:
    row = reader.row("approval_get", {"approval_id": approval_id}) if is_uuid(approval_id) else None
    if row is None:
        raise NotFound(kind="approval", approval_id=approval_id)
    return _approval_of(row)


def _approval_of(row: Row) -> Approval:
    return msgspec.convert(dict(zip(Approval.__struct_fields__, row, strict=True)), Approval)


def _view(row: Row) -> GrantView:
    found: Any = row
    *columns, role, kind, user_id, granted_at_us, revoked_at_us = found
    return GrantView(grant_of(tuple(columns)), role, ApprovalKind(kind), user_id, granted_at_us, revoked_at_us)


def _columns(one: Grant) -> dict[str, object]:
    bounds = "{}" if one.constraints == UNCONSTRAINED else msgspec.json.encode(one.constraints).decode()
    return {
        "grant_id": one.grant_id,
        "approval_id": one.approval_id,
        "session_id": one.session_id,
        "capability": str(one.capability),
        "use": one.use,
        "held": int(one.held),
        "delegable": int(one.delegable),
        "constraints": bounds,
        "lifetime": one.lifetime,
        "turn_id": one.turn_id,
        "wp_id": one.wp_id,
        "settles_ask": int(one.settles_ask),
    }


def _told(approval: Approval, grants: Sequence[Grant]) -> CapabilityGranted:
    return CapabilityGranted(
        approval_id=approval.approval_id,
        capabilities=shown(one.capability for one in grants[:MAX_REFS]),
        capability_registry_version=REGISTRY_VERSION,
        grant_count=len(grants),
        kind=approval.kind.value,
        lifetime=approval.lifetime.value,
        session_id=approval.session_id,
        user_id=approval.user_id,
    )
