"""Grants: the Python face of what sessions may do: given, listed and taken back by people."""

from __future__ import annotations

from collections.abc import Sequence

from handshake.bootstrap import Runtime
from handshake.kernel.approval import Approval, ApprovalKind, lasting
from handshake.kernel.event import Actor, Context
from handshake.kernel.ids import SessionId
from handshake.kernel.session import Session, require_open
from handshake.operations import grant_requests, grants, records
from handshake.operations.grant_requests import Requested
from handshake.operations.grants import GrantView
from handshake.ports.store import Tx

OPERATOR = "operator"


class Grants:
    """The grants of a workspace's sessions, with the approvals that they rest on."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def list(
        self, session_id: str | None = None, *, after: str = "", limit: int | None = None, revoked: bool = False
    ) -> list[GrantView]:
        """Return grants of one session or of all, in order of their ids, after the id `after`.

        Args:
            session_id: whose; None for all sessions.
            after: the last id of the page before.
            limit: how many.
            revoked: whether those that were taken back are told too.
        """
        wanted = None if session_id is None else SessionId(session_id)
        return await self._runtime.store.read(
            lambda reader: grants.listed(reader, session_id=wanted, after=after, limit=limit, revoked=revoked)
        )

    async def give(self, session_id: str, *requested: Requested, lasts: str = "until") -> Sequence[str]:
        """Give a session grants, as the operator; return their ids.

        Args:
            session_id: whose they are.
            requested: capabilities as text, or `GrantRequest`.
            lasts: once, turn, session, wp, until (a day), until_revoked, or a span such as `2h`. What ends only when
                somebody revokes it is easily forgotten: say `until_revoked` only if nothing else will do.

        Raises:
            UnknownCapability, InvalidRequest: a grant or its lifetime is malformed.
            NotFound, InvalidTransition: there is no such session, or it has ended.
            TooLarge: it would have too many.
        """
        runtime = self._runtime
        asked = grant_requests.wanted(requested)
        ids = list(zip(range(len(asked) + 1), runtime.new_id.several(), strict=False))

        def unit(tx: Tx) -> list[str]:
            session = records.session(tx, SessionId(session_id))
            require_open(session)
            approval = _approval(session, ids[0][1], lasts, tx.now_us)
            given = grant_requests.to_grants(approval, session, asked, iter([one for _, one in ids[1:]]))
            context = Context(
                actor=Actor.HUMAN,
                actor_id=OPERATOR,
                model_session_id=session.session_id,
                wp_id=session.wp_id,
                mt_id=session.mt_id,
            )
            grants.give(tx, approval, given, context)
            return [one.grant_id for one in given]

        return await runtime.store.write(unit)

    async def revoke(self, one_id: str) -> str:
        """Take back an approval with all that rests on it, or one grant; it acts at the next check.

        Returns:
            The id of the session that it concerned.

        Raises:
            NotFound: nothing has this id.
            StateConflict: it is the model of a session.
        """
        return await self._runtime.store.write(lambda tx: grants.revoke(tx, one_id, by=OPERATOR))


def _approval(session: Session, approval_id: str, lasts: str, now_us: int) -> Approval:
    span = lasting(lasts, now_us=now_us)
    return Approval(
        approval_id=approval_id,
        session_id=session.session_id,
        role=session.role,
        kind=ApprovalKind.OPERATOR,
        lifetime=span.lifetime,
        user_id=OPERATOR,
        created_at_us=now_us,
        expires_at_us=span.expires_at_us,
    )
