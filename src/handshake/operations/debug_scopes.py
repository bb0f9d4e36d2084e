"""Debug scopes: an operator relaxes the questions of policy for one session, for a while, in everybody's sight.

Source:
    trust.debug.scoped (02 §6, TRUST-004).
"""

from __future__ import annotations

from handshake.kernel.catalogue import DebugScopeOpened, PolicyChanged
from handshake.kernel.debug_scope import RISKS, DebugScope, Relaxation, require_openable
from handshake.kernel.event import Actor
from handshake.kernel.ids import SessionId
from handshake.kernel.moment import rfc3339
from handshake.kernel.session import require_open
from handshake.kernel.settings import AutomationLevel
from handshake.kernel.tool import Risk
from handshake.kernel.units import US_PER_S
from handshake.operations import records
from handshake.operations.moving import about
from handshake.ports.store import Reader, Row, Tx


def relax(tx: Tx, session_id: SessionId, *, for_s: int, by: str, level: AutomationLevel) -> DebugScope:
    """Relax the questions of policy for one session from now on; a second time replaces the first.

    Raises:
        NotFound: no such session.
        InvalidTransition: it has ended.
        InvalidRequest, GovernanceLocked: as `kernel.debug_scope.require_openable`.
    """
    require_openable(for_s, level)
    session = records.session(tx, session_id)
    require_open(session)
    scope = DebugScope(session_id, Relaxation.POLICY_QUESTIONS, tx.now_us + for_s * US_PER_S, by)
    tx.run(
        "debug_scope_open",
        {
            "session_id": session_id,
            "relaxation": scope.relaxation,
            "now_us": tx.now_us,
            "expires_at_us": scope.expires_at_us,
            "by": by,
        },
    )
    tx.append(
        DebugScopeOpened(
            expires_at=rfc3339(scope.expires_at_us), relaxation=scope.relaxation, session_id=session_id, user_id=by
        ),
        about(session, Actor.HUMAN),
    )
    return scope


def restore(tx: Tx, session_id: SessionId, *, by: str) -> bool:
    """End a relaxation before its time; return whether there was one.

    Raises:
        NotFound: no such session.
    """
    session = records.session(tx, session_id)
    scope = open_scope(tx, session_id, now_us=tx.now_us)
    if scope is None:
        return False
    tx.run("debug_scope_close", {"session_id": session_id, "now_us": tx.now_us})
    tx.append(
        PolicyChanged(from_=scope.relaxation, key="debug_scope", to=None, user_id=by), about(session, Actor.HUMAN)
    )
    return True


def relaxed(reader: Reader, session_id: SessionId, *, now_us: int) -> frozenset[Risk]:
    """Return the risks of calls of this session about which policy asks nobody now."""
    scope = open_scope(reader, session_id, now_us=now_us)
    return RISKS[scope.relaxation] if scope is not None else frozenset()


def open_scope(reader: Reader, session_id: SessionId, *, now_us: int) -> DebugScope | None:
    """Return the relaxation of a session that has not expired."""
    row = reader.row("debug_scope_of", {"session_id": session_id, "now_us": now_us})
    return None if row is None else _scope((session_id, *row))


def open_scopes(reader: Reader, *, now_us: int) -> list[DebugScope]:
    """Return the relaxations of all sessions that live, for whoever looks at the workspace."""
    return [_scope(row) for row in reader.rows("debug_scopes_open", {"now_us": now_us})]


def _scope(row: Row) -> DebugScope:
    session_id, relaxation, expires_at_us, opened_by = row
    return DebugScope(SessionId(str(session_id)), Relaxation(str(relaxation)), int(str(expires_at_us)), str(opened_by))
