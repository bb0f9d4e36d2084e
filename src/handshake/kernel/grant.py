"""Grant: a capability that a session holds or may pass on, by whose approval, for how long, and for which calls.

Source:
    capability.grant.traces_to_token, capability.lifetime.ends, capability.sinks.are_constrained (02 §1).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from handshake.kernel import glob
from handshake.kernel.capability import Capability
from handshake.kernel.grant_settings import MAX_CONSTRAINT_CHARS
from handshake.kernel.ids import SessionId, TurnId
from handshake.kernel.pointer import found


class Use(StrEnum):
    """What the holder of a grant may do with it, loosest first."""

    ALLOW = "allow"
    ASK = "ask"
    """Each use needs a person."""
    DELEGATE_ONLY = "delegate_only"
    """Pass it on, never use it."""


class Lifetime(StrEnum):
    """When a grant ends, besides being revoked (02 §1)."""

    ONCE = "once"
    TURN = "turn"
    SESSION = "session"
    WORK_PACKET = "work_packet"
    UNTIL = "until"
    UNTIL_REVOKED = "until_revoked"


class Reason(StrEnum):
    """Why a capability may or may not be used now; the closed set that decisions carry."""

    GRANTED = "granted"
    NOTHING_REQUIRED = "nothing_required"
    DENIED_BY_RULE = "denied_by_rule"
    RUNTIME_FOLDER = "runtime_folder"
    NOT_GRANTED = "not_granted"
    OUTSIDE_LAYER = "outside_layer"
    """Granted, but a layer above does not allow it."""
    DELEGATE_ONLY = "delegate_only"
    NO_APPROVAL = "no_approval"
    EXPIRED = "expired"
    TURN_ENDED = "turn_ended"
    WORK_PACKET_DIFFERS = "work_packet_differs"
    ARGUMENT_DIFFERS = "argument_differs"
    USES_SPENT = "uses_spent"
    BYTES_SPENT = "bytes_spent"
    AMOUNT_SPENT = "amount_spent"
    ASKED_BY_RULE = "asked_by_rule"
    ASKED_BY_GRANT = "asked_by_grant"


class Exact(msgspec.Struct, frozen=True, tag="exact"):
    """The argument is this value."""

    value: Any


class Glob(msgspec.Struct, frozen=True, tag="glob"):
    """The argument is a text that the pattern matches; `*` is any run of characters."""

    pattern: str


class OneOf(msgspec.Struct, frozen=True, tag="one_of"):
    """The argument is one of these values."""

    values: tuple[Any, ...]


Condition = Exact | Glob | OneOf


class Constraints(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a call must be like to be carried by a grant. Bytes and amounts are sums over all of its calls."""

    args: Mapping[str, Condition] = {}
    """By JSON pointer; an argument that is absent is not what it must be, a list is if each of its items is."""
    max_uses: int | None = None
    max_bytes: int | None = None
    max_amount: int | None = None
    """In the smallest unit of what the tool counts."""
    expires_at_us: int | None = None

    @property
    def is_counted(self) -> bool:
        """Whether each use changes what is left."""
        return any(most is not None for most in (self.max_uses, self.max_bytes, self.max_amount))

    @property
    def fixed(self) -> frozenset[str]:
        """Arguments for which a person named the values."""
        return frozenset(pointer for pointer, one in self.args.items() if not isinstance(one, Glob))


UNCONSTRAINED = Constraints()


class Grant(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One capability of one session, with the approval that it rests on."""

    grant_id: str
    approval_id: str
    """Of a live approval; a grant without one grants nothing."""
    session_id: SessionId
    capability: Capability
    use: Use = Use.ALLOW
    held: bool = True
    delegable: bool = False
    constraints: Constraints = UNCONSTRAINED
    lifetime: Lifetime = Lifetime.SESSION
    turn_id: TurnId | None = None
    wp_id: str | None = None
    settles_ask: bool = False
    """Whether a person gave it in answer to the question that a rule or another grant asks about such calls."""
    uses: int = 0
    bytes: int = 0
    amount: int = 0

    @property
    def is_counted(self) -> bool:
        """Whether each use changes what is left of it."""
        return self.lifetime is Lifetime.ONCE or self.constraints.is_counted

    @property
    def is_steady(self) -> bool:
        """Whether it carries every call or none, whatever the call and the moment."""
        return not self.approval_id or (
            self.constraints == UNCONSTRAINED and self.lifetime in (Lifetime.SESSION, Lifetime.UNTIL_REVOKED)
        )


class CallFacts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """All that a grant may depend on besides the capability. Times in microseconds since 1970."""

    args: Any = None
    """Parsed JSON."""
    sinks: tuple[str, ...] = ()
    bytes: int = 0
    amount: int = 0
    turn_id: TurnId | None = None
    wp_id: str | None = None
    now_us: int


def hindrance(grant: Grant, call: CallFacts) -> Reason | None:
    """Return why a grant does not carry the call although it covers the capability, or None.

    Source:
        capability.lifetime.ends, capability.sinks.are_constrained (02 §1).
    """
    bounds = grant.constraints
    if not grant.approval_id:
        return Reason.NO_APPROVAL
    if bounds is UNCONSTRAINED and grant.lifetime is Lifetime.SESSION:
        return None
    ended = _ended(grant, call)
    if ended is not None:
        return ended
    for pointer, condition in bounds.args.items():
        values = [value for _, value in found(pointer, call.args)]
        if not values or not all(satisfies(condition, value) for value in values):
            return Reason.ARGUMENT_DIFFERS
    if bounds.max_uses is not None and grant.uses >= bounds.max_uses:
        return Reason.USES_SPENT
    if bounds.max_bytes is not None and grant.bytes + call.bytes > bounds.max_bytes:
        return Reason.BYTES_SPENT
    if bounds.max_amount is not None and grant.amount + call.amount > bounds.max_amount:
        return Reason.AMOUNT_SPENT
    return None


def satisfies(condition: Condition, value: object) -> bool:
    """Return whether an argument is what a condition says; of a list, each item, and at least one."""
    if isinstance(condition, Exact) and same(condition.value, value):
        return True
    if isinstance(value, list):
        return bool(value) and all(not isinstance(one, list) and satisfies(condition, one) for one in value)
    if isinstance(condition, Glob):
        return (
            isinstance(value, str)
            and len(value) <= MAX_CONSTRAINT_CHARS
            and glob.WILD not in value
            and glob.matches(condition.pattern, value)
        )
    return isinstance(condition, OneOf) and any(same(one, value) for one in condition.values)


def same(one: object, other: object) -> bool:
    """Return whether two JSON values are the same; `1`, `1.0` and `true` are three values."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(same(*pair) for pair in zip(one, other, strict=True))
    return type(one) is type(other) and one == other


def is_within(inner: Constraints, outer: Constraints) -> bool:
    """Return whether every call that `inner` lets pass, `outer` lets pass too; False where that is not plain."""
    return all(
        pointer in inner.args and _implies(inner.args[pointer], condition) for pointer, condition in outer.args.items()
    ) and all(
        most is None or (mine is not None and mine <= most)
        for mine, most in (
            (inner.max_uses, outer.max_uses),
            (inner.max_bytes, outer.max_bytes),
            (inner.max_amount, outer.max_amount),
            (inner.expires_at_us, outer.expires_at_us),
        )
    )


def _implies(inner: Condition, outer: Condition) -> bool:
    if isinstance(inner, Glob):
        return isinstance(outer, Glob) and glob.matches(outer.pattern, inner.pattern)
    values = (inner.value,) if isinstance(inner, Exact) else inner.values
    return all(satisfies(outer, value) for value in values)


def _ended(grant: Grant, call: CallFacts) -> Reason | None:
    """Return by what a grant's life is over, or None."""
    until_us = grant.constraints.expires_at_us
    if until_us is not None and call.now_us >= until_us:
        return Reason.EXPIRED
    if grant.lifetime is Lifetime.UNTIL and until_us is None:
        return Reason.EXPIRED
    if grant.lifetime is Lifetime.ONCE and grant.uses:
        return Reason.USES_SPENT
    if grant.lifetime is Lifetime.TURN and (grant.turn_id is None or grant.turn_id != call.turn_id):
        return Reason.TURN_ENDED
    if grant.lifetime is Lifetime.WORK_PACKET and (grant.wp_id is None or grant.wp_id != call.wp_id):
        return Reason.WORK_PACKET_DIFFERS
    return None
