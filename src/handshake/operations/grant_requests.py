"""Grant requests: from what a person writes to the grants that a session is to have.

As text: a capability, with `ask:` or `delegate_only:` before it where that is its use, or a JSON object with the fields
of `GrantRequest`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from handshake.kernel import glob
from handshake.kernel.approval import Approval, ApprovalKind
from handshake.kernel.capability import SHIPPED, Capability
from handshake.kernel.errors import InvalidRequest
from handshake.kernel.grant import Condition, Constraints, Exact, Glob, Grant, Lifetime, OneOf, Use
from handshake.kernel.grant_settings import (
    MAX_CAPABILITY_CHARS,
    MAX_CONSTRAINT_CHARS,
    MAX_CONSTRAINT_VALUES,
    MAX_GRANT_CONSTRAINTS,
    MAX_SESSION_GRANTS,
)
from handshake.kernel.ids import SessionId, TurnId
from handshake.kernel.narrowing import Wanted, require_delegable_held
from handshake.kernel.session import Session
from handshake.kernel.units import MAX_SAFE_INTEGER

_MAX_DEPTH = 8
"""Nesting of a value that an argument must have."""


class GrantRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A grant as a person asks for it."""

    capability: str
    use: Use = Use.ALLOW
    delegable: bool = True
    args: Mapping[str, Any] = {}
    """By JSON pointer, what an argument must be: a value, `{"glob": PATTERN}` or `{"one_of": [VALUES]}`."""
    max_uses: int | None = None
    max_bytes: int | None = None
    max_amount: int | None = None
    expires_at_us: int | None = None


Requested = str | GrantRequest


def wanted(grants: Sequence[Requested], delegable: Sequence[Requested] | None = None) -> tuple[Wanted, ...]:
    """Return the grants that are asked for.

    Args:
        grants: what is held.
        delegable: what may be passed on; None is all that is held and does not say otherwise.

    Raises:
        UnknownCapability: one names what no registry knows.
        InvalidRequest: one is malformed, or there are too many.
        CapabilityMissing: something is to be passed on that is not held.
    """
    if len(grants) + len(delegable or ()) > MAX_SESSION_GRANTS:
        raise InvalidRequest(field="grants", reason="too_many", limit=MAX_SESSION_GRANTS)
    held = [_wanted(_request(one), may_delegate=delegable is None) for one in grants]
    passed = [_wanted(_request(one), held=False, may_delegate=True) for one in delegable or ()]
    for place, one in enumerate(held):
        same = next((other for other in passed if _is_same(one, other)), None)
        if same is not None:
            held[place] = msgspec.structs.replace(one, delegable=True)
            passed.remove(same)
    found = (*held, *passed)
    require_delegable_held(found)
    return found


def to_grants(
    approval: Approval, session: Session, asked: Sequence[Wanted], ids: Iterator[str], *, turn_id: TurnId | None = None
) -> list[Grant]:
    """Return what an approval gives a session of what is asked for, for as long as the approval says."""
    return [
        Grant(
            grant_id=next(ids),
            approval_id=approval.approval_id,
            session_id=session.session_id,
            capability=one.capability,
            use=one.use,
            held=one.held,
            delegable=one.delegable,
            constraints=_ending(one.constraints, approval.expires_at_us),
            lifetime=approval.lifetime,
            turn_id=turn_id if approval.lifetime is Lifetime.TURN else None,
            wp_id=session.wp_id if approval.lifetime is Lifetime.WORK_PACKET else None,
        )
        for one in asked
    ]


def for_calls_like(
    approval: Approval,
    session: Session,
    required: Sequence[Capability],
    sinks: Mapping[str, Any],
    ids: Iterator[str],
    *,
    turn_id: TurnId | None = None,
) -> list[Grant]:
    """Return what approving one call for longer than once gives: calls that need no more, and go nowhere else.

    Args:
        approval: of the call; one for once gives nothing, as it is used up by the call itself.
        session: whose call it is.
        required: what the call needs.
        sinks: by pointer, what its sinks are; calls with others are not like it.
        ids: of the grants.
        turn_id: of the call.
    """
    if approval.lifetime is Lifetime.ONCE:
        return []
    bounds = Constraints(args={pointer: Exact(value) for pointer, value in sinks.items()})
    asked = [Wanted(capability=one, constraints=bounds) for one in required]
    given = to_grants(approval, session, asked, ids, turn_id=turn_id)
    return [msgspec.structs.replace(one, settles_ask=True) for one in given]


def of_model(session: Session, user_id: str) -> tuple[Approval, Grant]:
    """Return the approval that making a session is, and its grant: that session's model, which it may pass on.

    Both have the session's id.
    """
    approval = Approval(
        approval_id=session.session_id,
        session_id=session.session_id,
        role=session.role,
        kind=ApprovalKind.SESSION,
        lifetime=Lifetime.SESSION,
        user_id=user_id,
        created_at_us=session.created_at_us,
    )
    model = Capability(f"model.{session.backend.value}", f"{session.provider_id}/{session.model_id}")
    grant = Grant(
        grant_id=session.session_id,
        approval_id=session.session_id,
        session_id=SessionId(session.session_id),
        capability=model,
        delegable=True,
    )
    return approval, grant


def _request(one: Requested) -> GrantRequest:
    if isinstance(one, GrantRequest):
        return one
    if len(one) > MAX_CAPABILITY_CHARS:
        raise InvalidRequest(field="grant", reason="too_long", limit_chars=MAX_CAPABILITY_CHARS)
    if one.startswith("{"):
        try:
            return msgspec.json.decode(one, type=GrantRequest)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            hint = f"a JSON object with {', '.join(GrantRequest.__struct_fields__)}"
            raise InvalidRequest(field="grant", reason="malformed", hint=hint) from None
    for use in (Use.ASK, Use.DELEGATE_ONLY):
        if one.startswith(f"{use.value}:"):
            return GrantRequest(capability=one.partition(":")[2], use=use)
    return GrantRequest(capability=one)


def _wanted(request: GrantRequest, *, held: bool = True, may_delegate: bool) -> Wanted:
    for name in ("max_uses", "max_bytes", "max_amount", "expires_at_us"):
        most = getattr(request, name)
        if most is not None and not 0 <= most <= MAX_SAFE_INTEGER:
            raise InvalidRequest(field=name, reason="out_of_range", low=0, high=MAX_SAFE_INTEGER)
    if len(request.args) > MAX_GRANT_CONSTRAINTS:
        raise InvalidRequest(field="args", reason="too_many", limit=MAX_GRANT_CONSTRAINTS)
    bounds = Constraints(
        args={_pointer(pointer): _condition(value) for pointer, value in request.args.items()},
        max_uses=request.max_uses,
        max_bytes=request.max_bytes,
        max_amount=request.max_amount,
        expires_at_us=request.expires_at_us,
    )
    return Wanted(
        capability=SHIPPED.parse_rule(request.capability),
        use=request.use,
        held=held,
        delegable=may_delegate and request.delegable,
        constraints=bounds,
    )


def _pointer(text: str) -> str:
    if not text.startswith("/") or len(text) > MAX_CONSTRAINT_CHARS or "~" in text.replace("~0", "").replace("~1", ""):
        raise InvalidRequest(field="args", reason="not_a_pointer", hint="a JSON pointer, as /to or /items/0/id")
    return text


def _condition(value: object) -> Condition:
    if isinstance(value, dict) and set(value) == {"glob"}:
        pattern = value["glob"]
        if not isinstance(pattern, str) or len(pattern) > MAX_CONSTRAINT_CHARS:
            raise InvalidRequest(field="args", reason="not_a_pattern", limit_chars=MAX_CONSTRAINT_CHARS)
        return Glob(pattern) if glob.WILD in pattern else Exact(pattern)
    if isinstance(value, dict) and set(value) == {"one_of"}:
        values = value["one_of"]
        if not isinstance(values, list | tuple) or len(values) > MAX_CONSTRAINT_VALUES:
            raise InvalidRequest(field="args", reason="not_a_list", limit=MAX_CONSTRAINT_VALUES)
        return OneOf(tuple(_plain(one) for one in values))
    return Exact(_plain(value))


def _plain(value: object, depth: int = _MAX_DEPTH) -> object:
    """Return a JSON value that is small enough to stand in a grant."""
    if depth and isinstance(value, dict) and len(value) <= MAX_CONSTRAINT_VALUES:
        return {str(name): _plain(inner, depth - 1) for name, inner in value.items()}
    if depth and isinstance(value, list | tuple) and len(value) <= MAX_CONSTRAINT_VALUES:
        return [_plain(inner, depth - 1) for inner in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str) and len(value) <= MAX_CONSTRAINT_CHARS:
        return value
    raise InvalidRequest(field="args", reason="not_a_value", limit_chars=MAX_CONSTRAINT_CHARS)


def _is_same(one: Wanted, other: Wanted) -> bool:
    return one.capability == other.capability and one.constraints == other.constraints


def _ending(bounds: Constraints, until_us: int | None) -> Constraints:
    """Return constraints that end at the earlier of two moments."""
    ends = [one for one in (bounds.expires_at_us, until_us) if one is not None]
    return msgspec.structs.replace(bounds, expires_at_us=min(ends)) if ends else bounds
