"""Write scopes: what a session may write is its own while it lives; each function is a step of another unit of work.

A session takes all of its write scope with its first call that may write, and holds it until it ends. One that comes
second is BLOCKED, holds nothing of it, and goes on in its turn when the holder has let go (decision 0031).

Source:
    gate.workspace.no_overlap (02 §7; INV-MM-003).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from handshake.kernel.catalogue import WorkspaceDenied
from handshake.kernel.errors import ScopeOverlap, TooLarge
from handshake.kernel.event import Actor
from handshake.kernel.ids import SessionId
from handshake.kernel.queue import RunQueue
from handshake.kernel.session import Session, may_dispatch
from handshake.kernel.settings import MAX_WRITE_SCOPES
from handshake.kernel.write_scope import Holding, admitted, holder_of
from handshake.operations import records
from handshake.operations.moving import about, facts_of, move
from handshake.ports.store import Reader, Row, Tx

OVERLAPS = "write_scope_overlap"
FREE = "write_scope_free"


class Held(msgspec.Struct, frozen=True, gc=False):
    """How a session stands with its write scope."""

    scopes: tuple[str, ...]
    """What it holds."""
    waits_for: SessionId | None = None
    """Who holds what it waits for."""


def holder(reader: Reader, session_id: SessionId, scopes: Sequence[str]) -> SessionId | None:
    """Return who holds one of the scopes that a session would take with its next call, or None if nobody does.

    Raises:
        TooLarge: more than `MAX_WRITE_SCOPES`.
    """
    if len(scopes) > MAX_WRITE_SCOPES:
        raise TooLarge(field="write_scopes", limit=MAX_WRITE_SCOPES)
    wanted = _wanted(reader, session_id, scopes)
    if not wanted:
        return None
    found = holder_of(wanted, _of_others(reader, session_id))
    return None if found is None else found.session_id


def take(tx: Tx, session: Session, scopes: Sequence[str]) -> SessionId | None:
    """Give `session` its write scopes, all of them or none; return who holds one of them, None if it has them now.

    A session that does not get them is BLOCKED, which is told, until they are free; the caller holds it back in the
    queue, as the last step of its unit. Taking what it has is the same.

    Args:
        tx: the unit of work; it also records the call that wants to write.
        session: as it is stored.
        scopes: workspace-relative globs, as its effective grants have them.

    Raises:
        TooLarge: more than `MAX_WRITE_SCOPES`.
    """
    found = holder(tx, session.session_id, scopes)
    wanted = sorted(_wanted(tx, session.session_id, scopes))
    if found is None:
        for scope in wanted:
            tx.run("write_scope_take", {"session_id": session.session_id, "scope": scope, "now_us": tx.now_us})
        return None
    tx.append(
        WorkspaceDenied(holder_session_id=found, reason=ScopeOverlap.code, session_id=session.session_id),
        about(session, Actor.SYSTEM),
    )
    before = tx.rows("write_scope_waiting_of", {"session_id": session.session_id})
    if not before:
        after = msgspec.structs.replace(session, blockers=session.blockers + 1)
        move(tx, session, after, reason=OVERLAPS, actor=Actor.SYSTEM)
    tx.run("write_scope_wait_over", {"session_id": session.session_id})
    since_us = min((int(str(row[2])) for row in before), default=tx.now_us)
    for scope in wanted:
        waiting = {"session_id": session.session_id, "scope": scope, "holder_session_id": found}
        tx.run("write_scope_wait", {**waiting, "since_us": since_us})
    return found


def release(tx: Tx, queue: RunQueue, session_id: SessionId) -> None:
    """Take everything from a session that ended or lost its grants, and let in who waits for it.

    Touches the queue: it is the last step of its unit.
    """
    tx.run("write_scope_wait_over", {"session_id": session_id})
    if not tx.rows("write_scope_of", {"session_id": session_id}):
        return
    tx.run("write_scope_release", {"session_id": session_id})
    held = _holdings(tx.rows("write_scope_all"))
    waiting = _holdings(tx.rows("write_scope_waits"))
    let_in = admitted(waiting, held)
    free: list[SessionId] = []
    for one in let_in:
        for scope in one.scopes:
            tx.run("write_scope_take", {"session_id": one.session_id, "scope": scope, "now_us": tx.now_us})
        tx.run("write_scope_wait_over", {"session_id": one.session_id})
        session = records.session(tx, one.session_id)
        after = msgspec.structs.replace(session, blockers=session.blockers - 1)
        after = move(tx, session, after, reason=FREE, actor=Actor.SYSTEM)
        if may_dispatch(facts_of(msgspec.structs.replace(after, running=0))):
            free.append(one.session_id)
    _wait_for_others(tx, [one for one in waiting if one not in let_in], [*held, *let_in])
    for freed in free:
        queue.unhold(freed)


def held_by(reader: Reader, session_id: SessionId) -> Held:
    """Return how a session stands with its write scope."""
    scopes = tuple(str(scope) for (scope,) in reader.rows("write_scope_of", {"session_id": session_id}))
    waits = reader.rows("write_scope_waiting_of", {"session_id": session_id})
    return Held(scopes, SessionId(str(waits[0][1])) if waits else None)


def _wanted(reader: Reader, session_id: SessionId, scopes: Sequence[str]) -> set[str]:
    return set(scopes) - {str(scope) for (scope,) in reader.rows("write_scope_of", {"session_id": session_id})}


def _of_others(reader: Reader, session_id: SessionId) -> list[Holding]:
    return [one for one in _holdings(reader.rows("write_scope_all")) if one.session_id != session_id]


def _wait_for_others(tx: Tx, waiting: Iterable[Holding], held: Sequence[Holding]) -> None:
    """Name the present holder for those who still wait; the former one may be gone."""
    for one in waiting:
        holder = holder_of(one.scopes, (other for other in held if other.session_id != one.session_id))
        if holder is not None:
            tx.run("write_scope_wait_for", {"session_id": one.session_id, "holder_session_id": holder.session_id})


def _holdings(rows: Iterable[Row]) -> list[Holding]:
    """Return rows of scopes, in order of their sessions, by session."""
    scopes: dict[SessionId, list[str]] = {}
    since: dict[SessionId, int] = {}
    for session_id, scope, since_us in rows:
        owner = SessionId(str(session_id))
        scopes.setdefault(owner, []).append(str(scope))
        since[owner] = min(since.get(owner, int(str(since_us))), int(str(since_us)))
    return [Holding(owner, tuple(found), since[owner]) for owner, found in scopes.items()]
