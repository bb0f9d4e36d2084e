"""Authority: what a session may do, as layers that must all agree, and the decision whether a call is within it.

Deny beats ask beats allow. A capability is held if every layer that says something covers it: a layer can only take
away.

Source:
    capability.default.denies, capability.session.intersection, capability.deny.is_explicit (02 §1, §3).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from itertools import chain, islice
from typing import NamedTuple

import msgspec

from handshake.kernel.capability import Capability, shown
from handshake.kernel.containment import covers, home, homes, is_closed, is_literal, overlaps
from handshake.kernel.grant import CallFacts, Grant, Reason, Use, hindrance
from handshake.kernel.ids import SessionId

MAX_SHOWN = 20
"""Capabilities of each list of a ruling: what an error and an event may carry."""


class Outcome(StrEnum):
    """What is decided about a call, strongest first."""

    DENY = "deny"
    ASK = "ask"
    ALLOW = "allow"


class _Held(NamedTuple):
    """The held grants of one axis: of all of it, and of scopes by their homes."""

    whole: tuple[Grant, ...]
    scoped: Mapping[str, tuple[Grant, ...]]


class Layer(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One source of authority: a session's own grants, its parent's delegable ones, or the workspace's policy."""

    name: str
    allow: tuple[Grant, ...] | None = None
    """None says nothing; an empty one allows nothing."""
    ask: tuple[Capability, ...] = ()
    deny: tuple[Capability, ...] = ()
    is_own: bool = False
    """Whether these are the session's own grants: what is missing here alone, a person may be asked for."""

    @cached_property
    def index(self) -> Mapping[str, _Held]:
        """Held grants by axis, and there by where they are looked up."""
        whole: dict[str, list[Grant]] = {}
        scoped: dict[str, dict[str, list[Grant]]] = {}
        for one in self.allow or ():
            axis = one.capability.axis
            if one.held and one.capability.scope is None:
                whole.setdefault(axis, []).append(one)
            elif one.held:
                scoped.setdefault(axis, {}).setdefault(home(one.capability), []).append(one)
        return {
            axis: _Held(
                tuple(whole.get(axis, ())), {place: tuple(ones) for place, ones in scoped.get(axis, {}).items()}
            )
            for axis in (*whole, *(one for one in scoped if one not in whole))
        }

    def held(self, axis: str) -> Iterator[Grant]:
        """Return the held grants of one axis, those of all of it first."""
        found = self.index.get(axis)
        return iter(()) if found is None else chain(found.whole, *found.scoped.values())

    def covering(self, wanted: Capability) -> list[Grant]:
        """Return the grants that cover `wanted`, whether or not they carry a call now."""
        found: list[Grant] = []
        held = self.index.get(wanted.axis)
        if held is not None:
            found += held.whole
            if wanted.scope is not None:
                for place in homes(wanted):
                    for one in held.scoped.get(place, ()):
                        if covers(one.capability, wanted):
                            found.append(one)
        if self.families:
            found += [one for one in self.families if covers(one.capability, wanted)]
        return found

    @cached_property
    def passing(self) -> frozenset[str]:
        """Axes of which something held depends on the call or its moment."""
        return frozenset(one.capability.axis for one in self.allow or () if one.held and not one.is_steady)

    @cached_property
    def families(self) -> tuple[Grant, ...]:
        """Held grants of whole families of ids."""
        return tuple(one for one in self.allow or () if one.held and one.capability.axis.endswith(".*"))


class Authority(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """All layers of one session, as they stand at one moment."""

    session_id: SessionId
    layers: tuple[Layer, ...]
    asks_for_missing: bool = False
    """Whether policy puts a call that the session's own grants do not carry before a person, instead of denying it."""

    @cached_property
    def steady_reach(self) -> dict[str, tuple[str, ...]]:
        """What `reach_of` found of axes where it is the same for every call."""
        return {}


class Ruling(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What was decided about a call, and on which grounds."""

    outcome: Outcome
    reason: Reason
    missing: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    """Of the axes that are missing, what the session does hold."""
    grants: tuple[str, ...] = ()
    """Ids of the grants that carry the call, in every layer."""
    fixed: frozenset[str] = frozenset()
    """Arguments whose values a carrying grant names."""
    literal: frozenset[str] = frozenset()
    """Required capabilities that a carrying grant names exactly: this path, this host and path, this recipient."""
    is_settled: bool = False
    """Whether a person gave a carrying grant of each in answer to a question about such calls."""


class _Finding(msgspec.Struct, frozen=True, gc=False):
    """What one layer, or all of them, say of one required capability."""

    outcome: Outcome
    reason: Reason
    grant: Grant | None = None
    is_missing: bool = False


_NOTHING = Ruling(outcome=Outcome.ALLOW, reason=Reason.NOTHING_REQUIRED)
_GRANTED = _Finding(Outcome.ALLOW, Reason.GRANTED)
_ASKED_BY_RULE = _Finding(Outcome.ASK, Reason.ASKED_BY_RULE)
_ASKED_BY_GRANT = _Finding(Outcome.ASK, Reason.ASKED_BY_GRANT)
_DENIED = _Finding(Outcome.DENY, Reason.DENIED_BY_RULE)
_CLOSED = _Finding(Outcome.DENY, Reason.RUNTIME_FOLDER, is_missing=True)
_NOT_GRANTED = _Finding(Outcome.DENY, Reason.NOT_GRANTED, is_missing=True)
_OUTSIDE = _Finding(Outcome.DENY, Reason.OUTSIDE_LAYER, is_missing=True)
_RANK = {Outcome.DENY: 0, Outcome.ASK: 1, Outcome.ALLOW: 2}


def decide(authority: Authority, required: Sequence[Capability], call: CallFacts) -> Ruling:
    """Decide whether a session may make a call that needs all of `required`.

    Source:
        capability.default.denies, capability.session.intersection, capability.axis.contains_scopes (02 §1, §3).
    """
    if not required:
        return _NOTHING
    worst = _GRANTED
    missing: list[Capability] = []
    carrying: dict[str, Grant] = {}
    literal: set[str] = set()
    is_settled = True
    for wanted in required:
        finding, grants = _weigh(authority, wanted, call)
        if finding.is_missing:
            missing.append(wanted)
        if _RANK[finding.outcome] < _RANK[worst.outcome]:
            worst = finding
        is_settled = is_settled and any(one.settles_ask for one in grants)
        for one in grants:
            carrying[one.grant_id] = one
            if is_literal(one.capability):
                literal.add(str(wanted))
    return Ruling(
        outcome=worst.outcome,
        reason=worst.reason,
        missing=shown(missing[:MAX_SHOWN]),
        held=_held(authority, missing) if missing else (),
        grants=tuple(carrying),
        fixed=frozenset().union(*(one.constraints.fixed for one in carrying.values() if one.constraints.args)),
        literal=frozenset(literal),
        is_settled=is_settled,
    )


def may_pass_on(grants: Sequence[Grant], name: str, *, deny: tuple[Capability, ...] = ()) -> Layer:
    """Return the layer that a session's grants are to its children: what is delegable, whatever its own use is.

    Source:
        capability.child.within_parent_held (TRUST-003).
    """
    passed = tuple(
        msgspec.structs.replace(one, use=Use.ALLOW, held=True, settles_ask=False) for one in grants if one.delegable
    )
    return Layer(name=name, allow=passed, deny=deny)


def reach_of(authority: Authority, call: CallFacts, axes: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """Return per axis the scopes that every layer allows now without asking; the empty scope is the whole axis.

    Where two layers share only a part that neither names, that part is left out.
    """
    reach: dict[str, tuple[str, ...]] = {}
    for axis in axes:
        kept = authority.steady_reach.get(axis)
        if kept is None:
            kept = _reach(authority, call, axis)
            if not any(axis in layer.passing for layer in authority.layers):
                authority.steady_reach[axis] = kept
        reach[axis] = kept
    return reach


def _reach(authority: Authority, call: CallFacts, axis: str) -> tuple[str, ...]:
    agreed: list[Capability] | None = None
    for layer in authority.layers:
        if layer.allow is not None:
            live = _live(layer, axis, call)
            agreed = live if agreed is None else _shared(agreed, live)
    rules = [one for layer in authority.layers for one in (*layer.deny, *layer.ask)]
    kept = (one for one in agreed or () if not any(overlaps(rule, one) for rule in rules))
    return tuple(dict.fromkeys(one.scope or "" for one in kept))


def _weigh(authority: Authority, wanted: Capability, call: CallFacts) -> tuple[_Finding, list[Grant]]:
    """Return the strongest finding about one capability, and the grants that carry it."""
    if is_closed(wanted):
        return _CLOSED, []
    spoken = settled = False
    asked: _Finding | None = None
    short: _Finding | None = None
    carrying: list[Grant] = []
    for layer in authority.layers:
        if layer.deny and any(overlaps(rule, wanted) for rule in layer.deny):
            return _DENIED, []
        if layer.ask and any(overlaps(rule, wanted) for rule in layer.ask):
            asked = _ASKED_BY_RULE
        if layer.allow is None:
            continue
        spoken = True
        finding = _carried(layer, wanted, call)
        if finding.grant is None:
            short = _short(authority, layer, finding, short)
            continue
        carrying.append(finding.grant)
        settled = settled or finding.grant.settles_ask
        if finding.outcome is Outcome.ASK:
            asked = asked or _ASKED_BY_GRANT
    if short is not None or not spoken:
        return short or _NOT_GRANTED, carrying
    return (_GRANTED if asked is None or settled else asked), carrying


def _short(authority: Authority, layer: Layer, finding: _Finding, before: _Finding | None) -> _Finding:
    """Return what follows from a layer that does not carry a call, beside what a layer before it gave."""
    if not layer.is_own:
        now = _OUTSIDE
    elif authority.asks_for_missing and finding.reason is not Reason.DELEGATE_ONLY:
        now = _Finding(Outcome.ASK, finding.reason, is_missing=True)
    else:
        now = finding
    return now if before is None or _RANK[now.outcome] < _RANK[before.outcome] else before


def _carried(layer: Layer, wanted: Capability, call: CallFacts) -> _Finding:
    """Return the grant of one layer that carries the call, or why none does; what is counted is spared."""
    reason = Reason.NOT_GRANTED
    asking: Grant | None = None
    plain: Grant | None = None
    for one in layer.covering(wanted):
        if one.use is Use.DELEGATE_ONLY:
            why: Reason | None = Reason.DELEGATE_ONLY
        else:
            why = hindrance(one, call)
        if why is not None:
            reason = why if reason is Reason.NOT_GRANTED else reason
        elif one.settles_ask:
            return _Finding(Outcome.ALLOW, Reason.GRANTED, one)
        elif one.use is Use.ASK:
            asking = asking or one
        elif plain is None or (plain.is_counted and not one.is_counted):
            plain = one
    if asking is not None:
        return _Finding(Outcome.ASK, Reason.ASKED_BY_GRANT, asking)
    if plain is not None:
        return _Finding(Outcome.ALLOW, Reason.GRANTED, plain)
    return _NOT_GRANTED if reason is Reason.NOT_GRANTED else _Finding(Outcome.DENY, reason, is_missing=True)


def _held(authority: Authority, missing: Sequence[Capability]) -> tuple[str, ...]:
    """Return what the session itself holds of the axes that are missing."""
    own = (
        one.capability
        for axis in dict.fromkeys(one.axis for one in missing)
        for layer in authority.layers
        if layer.is_own
        for one in layer.held(axis)
    )
    return shown(dict.fromkeys(islice(own, MAX_SHOWN)))


def _live(layer: Layer, axis: str, call: CallFacts) -> list[Capability]:
    """Return what a layer allows of an axis to this call."""
    return [one.capability for one in layer.held(axis) if one.use is Use.ALLOW and hindrance(one, call) is None]


def _shared(some: Sequence[Capability], others: Sequence[Capability]) -> list[Capability]:
    """Return the capabilities of either side that the other covers."""
    mine = [one for one in some if any(covers(other, one) for other in others)]
    return mine + [other for other in others if other not in mine and any(covers(one, other) for one in some)]
