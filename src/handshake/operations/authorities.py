"""Authorities: what each session may do now, read from the rows of its grants and of those above it.

Reading every grant at every call would cost more than the decision. So the layers of a session are kept by the mark of
its grants, which changes with each of them: marks are read at every check, and what they no longer fit is read again.

Source:
    capability.session.intersection, capability.revoke.acts_at_once (02 §1).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import msgspec

from handshake.kernel.authority import Authority, Layer, may_pass_on
from handshake.kernel.capability import SHIPPED, CapabilityRegistry
from handshake.kernel.errors import IntegrityBroken, NotFound
from handshake.kernel.grant import UNCONSTRAINED, Constraints, Grant, Lifetime, Use
from handshake.kernel.grant_settings import MAX_LINEAGE, MAX_SESSION_GRANTS, Missing, PolicyRules
from handshake.kernel.ids import SessionId, TurnId
from handshake.ports.store import Reader, Row

KEPT_SESSIONS = 4_096
"""Sessions whose layers are kept: those that call tools at one time."""

_ENCODED_NOTHING = "{}"


class Member(NamedTuple):
    """One session of a lineage, with what never changes of it."""

    session_id: SessionId
    role: str
    wp_id: str | None

    @property
    def owners(self) -> tuple[str, ...]:
        """Under which names changes of its grants are marked."""
        return (
            (self.session_id,) if self.wp_id is None else (self.session_id, owner_of_work_packet(self.wp_id, self.role))
        )


class _Kept(NamedTuple):
    marks: tuple[tuple[Any, ...], ...]
    authority: Authority


def owner_of_work_packet(wp_id: str, role: str) -> str:
    """Return the name under which changes of a work packet's grants to a role are marked."""
    return f"wp:{len(role)}:{role}:{wp_id}"


def policy_layer(rules: PolicyRules, registry: CapabilityRegistry = SHIPPED) -> Layer:
    """Return the layer that the workspace's policy is."""
    allow = None
    if rules.allow is not None:
        allow = tuple(
            Grant(
                grant_id=f"policy:{number}",
                approval_id="policy",
                session_id=SessionId(""),
                capability=registry.parse_rule(text),
            )
            for number, text in enumerate(rules.allow)
        )
    return Layer(
        name="policy",
        allow=allow,
        ask=tuple(registry.parse_rule(one) for one in rules.ask),
        deny=tuple(registry.parse_rule(one) for one in rules.deny),
    )


class Authorities:
    """Reads the authority of sessions under one policy; it may be asked from several threads."""

    def __init__(self, rules: PolicyRules, registry: CapabilityRegistry = SHIPPED) -> None:
        self._registry = registry
        self._policy = policy_layer(rules, registry)
        self._asks_for_missing = rules.missing is Missing.ASK
        self._lineages: OrderedDict[SessionId, tuple[Member, ...]] = OrderedDict()
        self._kept: OrderedDict[SessionId, _Kept] = OrderedDict()

    def of(self, reader: Reader, session_id: SessionId) -> Authority:
        """Return what a session may do, as the rows say now.

        Raises:
            NotFound: there is no such session.
            IntegrityBroken: its lineage does not end, or a grant cannot be read.
        """
        members = self._lineage(reader, session_id)
        owners = msgspec.json.encode([owner for one in members for owner in one.owners]).decode()
        marks = tuple(reader.rows("authority_marks", {"owners": owners}))
        kept = self._kept.get(session_id)
        if kept is not None and kept.marks == marks:
            return kept.authority
        authority = self._read(reader, members)
        _keep(self._kept, session_id, _Kept(marks, authority))
        return authority

    def _lineage(self, reader: Reader, session_id: SessionId) -> tuple[Member, ...]:
        found = self._lineages.get(session_id)
        if found is None:
            found = lineage(reader, session_id)
            _keep(self._lineages, session_id, found)
        return found

    def _read(self, reader: Reader, members: tuple[Member, ...]) -> Authority:
        own, *above = (live_grants(reader, one, self._registry) for one in members)
        layers = [
            Layer(name="session", allow=own, is_own=True),
            *(may_pass_on(grants, "parent") for grants in above),
            self._policy,
        ]
        return Authority(
            session_id=members[0].session_id, layers=tuple(layers), asks_for_missing=self._asks_for_missing
        )


def lineage(reader: Reader, session_id: SessionId) -> tuple[Member, ...]:
    """Return a session and those above it, the nearest first.

    Raises:
        NotFound: there is no such session.
        IntegrityBroken: it has no end.
    """
    members: list[Member] = []
    above: str | None = session_id
    while above is not None:
        row: Any = reader.row("session_lineage", {"session_id": above})
        if row is None:
            raise NotFound(kind="session", session_id=session_id)
        parent, role, wp_id = row
        members.append(Member(SessionId(above), role, wp_id))
        if len(members) > MAX_LINEAGE:
            raise IntegrityBroken(subject="session", reason="endless_lineage", session_id=session_id)
        above = parent
    return tuple(members)


def live_grants(reader: Reader, member: Member, registry: CapabilityRegistry = SHIPPED) -> tuple[Grant, ...]:
    """Return the grants that a session has, and those of its work packet for its role, that nobody revoked."""
    rows = reader.rows("grant_live_of_session", {"session_id": member.session_id, "limit": MAX_SESSION_GRANTS})
    if member.wp_id is not None:
        rows += reader.rows(
            "grant_live_of_work_packet",
            {"session_id": member.session_id, "wp_id": member.wp_id, "role": member.role, "limit": MAX_SESSION_GRANTS},
        )
    return tuple(grant_of(row, registry) for row in rows)


def grant_of(row: Row, registry: CapabilityRegistry = SHIPPED) -> Grant:
    """Return the grant that a row is."""
    found: Any = row
    (grant_id, approval_id, session_id, capability, use, held, delegable, constraints, lifetime, turn_id, wp_id,
     settles_ask, uses, used_bytes, amount) = found  # fmt: skip
    bounds = UNCONSTRAINED if constraints == _ENCODED_NOTHING else msgspec.json.decode(constraints, type=Constraints)
    return Grant(
        grant_id=grant_id,
        approval_id=approval_id,
        session_id=SessionId(session_id),
        capability=registry.parse(capability),
        use=Use(use),
        held=bool(held),
        delegable=bool(delegable),
        constraints=bounds,
        lifetime=Lifetime(lifetime),
        turn_id=None if turn_id is None else TurnId(turn_id),
        wp_id=wp_id,
        settles_ask=bool(settles_ask),
        uses=uses,
        bytes=used_bytes,
        amount=amount,
    )


def _keep(kept: OrderedDict[SessionId, Any], session_id: SessionId, value: object) -> None:
    """Keep a value, and forget the oldest beyond `KEPT_SESSIONS`."""
    kept[session_id] = value
    if len(kept) > KEPT_SESSIONS:
        kept.popitem(last=False)
