"""Narrowing: which of its parent's delegable grants a child session may have; never more, whoever asks.

Source:
    capability.child.within_parent_held, capability.child.never_wider (TRUST-003, INV-SPAWN-003; 02 §1).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from handshake.kernel.capability import Capability, shown
from handshake.kernel.containment import covers, is_closed
from handshake.kernel.errors import CapabilityMissing
from handshake.kernel.grant import UNCONSTRAINED, Constraints, Grant, Lifetime, Use, is_within

CAPABILITY_WIDENING = "capability_widening"
"""Why a child is refused that asks for more than its parent may pass on."""
MAX_SHOWN = 20


class Wanted(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A grant that somebody asks for."""

    capability: Capability
    use: Use = Use.ALLOW
    held: bool = True
    delegable: bool = False
    constraints: Constraints = UNCONSTRAINED


class Lent(msgspec.Struct, frozen=True, gc=False):
    """What a child gets: what was asked for, no wider than the parent's grant that it rests on."""

    wanted: Wanted
    source: Grant


def narrow(parent: Sequence[Grant], wanted: Sequence[Wanted]) -> tuple[Lent, ...]:
    """Return what a child gets of its parent's grants: all that it asks for, or nothing.

    Bounds that the child did not ask for are those of the parent's grant; an end that it has, the child's has too.

    Args:
        parent: grants of the parent that have not ended.
        wanted: held and delegable alike; each must be covered by one delegable grant, bounds included.

    Raises:
        CapabilityMissing: reason `capability_widening`, with what is missing and what the parent may pass on.
    """
    lent: list[Lent] = []
    missing: list[Capability] = []
    for one in wanted:
        source = next((held for held in parent if _lends(held, one)), None)
        if source is None:
            missing.append(one.capability)
        else:
            lent.append(Lent(_bounded(one, source), source))
    if missing:
        raise CapabilityMissing(
            held=list(shown(one.capability for one in parent if one.delegable)[:MAX_SHOWN]),
            missing=list(shown(missing[:MAX_SHOWN])),
            reason=CAPABILITY_WIDENING,
        )
    return tuple(lent)


def require_delegable_held(wanted: Sequence[Wanted]) -> None:
    """Refuse grants to pass on that are not held: delegable is always part of held.

    Raises:
        CapabilityMissing: reason `delegable_not_held`.
    """
    held = [one for one in wanted if one.held]
    loose = [
        one.capability
        for one in wanted
        if one.delegable
        and not any(
            covers(own.capability, one.capability) and is_within(one.constraints, own.constraints) for own in held
        )
    ]
    if loose:
        raise CapabilityMissing(missing=list(shown(loose[:MAX_SHOWN])), reason="delegable_not_held")


def _lends(held: Grant, wanted: Wanted) -> bool:
    if not held.delegable or not held.approval_id or is_closed(wanted.capability):
        return False
    if held.lifetime in (Lifetime.ONCE, Lifetime.TURN) or not covers(held.capability, wanted.capability):
        return False
    return wanted.constraints == UNCONSTRAINED or is_within(
        _merged(wanted.constraints, held.constraints), held.constraints
    )


def _bounded(wanted: Wanted, source: Grant) -> Wanted:
    merged = _merged(wanted.constraints, source.constraints)
    return msgspec.structs.replace(wanted, constraints=merged)


def _merged(inner: Constraints, outer: Constraints) -> Constraints:
    """Return `inner` with the bounds of `outer` where it has none of its own."""
    return Constraints(
        args={**outer.args, **inner.args},
        max_uses=outer.max_uses if inner.max_uses is None else inner.max_uses,
        max_bytes=outer.max_bytes if inner.max_bytes is None else inner.max_bytes,
        max_amount=outer.max_amount if inner.max_amount is None else inner.max_amount,
        expires_at_us=outer.expires_at_us if inner.expires_at_us is None else inner.expires_at_us,
    )
