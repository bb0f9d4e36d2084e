"""Tests of narrowing: a child gets what its parent may pass on, bounds included, or nothing."""

from __future__ import annotations

from typing import Any

import pytest

from handshake.kernel.capability import CapabilityRegistry
from handshake.kernel.errors import CapabilityMissing
from handshake.kernel.grant import Constraints, Exact, Glob, Grant, Lifetime, Use
from handshake.kernel.ids import SessionId
from handshake.kernel.narrowing import CAPABILITY_WIDENING, Wanted, narrow, require_delegable_held
from tests.requirement import requirement

REGISTRY = CapabilityRegistry()


def held(text: str, **fields: Any) -> Grant:
    given = {"grant_id": text, "approval_id": "p", "session_id": SessionId("s"), "delegable": True, **fields}
    return Grant(capability=REGISTRY.parse_rule(text), **given)


def wanted(text: str, **fields: Any) -> Wanted:
    return Wanted(capability=REGISTRY.parse_rule(text), **fields)


@requirement("capability.child.within_parent_held")
@pytest.mark.parametrize(
    ("parent", "child"),
    [
        (held("fs.write:src", delegable=False), wanted("fs.write:src")),
        (held("fs.write:src"), wanted("fs.write")),
        (held("fs.write:src"), wanted("fs.write:**")),
        (held("fs.write:src"), wanted("fs.write:src2")),
        (held("fs.write:src"), wanted("fs.read:src")),
        (held("fs.write:src"), wanted("fs.write:docs", held=False, delegable=True)),
        (held("fs.write:src", approval_id=""), wanted("fs.write:src")),
        (held("fs.write:src", lifetime=Lifetime.ONCE), wanted("fs.write:src")),
        (held("fs.write:src", lifetime=Lifetime.TURN), wanted("fs.write:src")),
        (
            held("fs.write:src", constraints=Constraints(max_uses=1)),
            wanted("fs.write:src", constraints=Constraints(max_uses=2)),
        ),
        (
            held("mailbox.send", constraints=Constraints(args={"/to": Exact("a")})),
            wanted("mailbox.send", constraints=Constraints(args={"/to": Glob("*")})),
        ),
    ],
)
def test_a_child_that_asks_for_more_gets_nothing(parent: Grant, child: Wanted) -> None:
    with pytest.raises(CapabilityMissing) as refused:
        narrow([parent, held("net.http")], [wanted("net.http:GET h.example"), child])
    assert refused.value.context["reason"] == CAPABILITY_WIDENING
    assert refused.value.context["missing"] == [str(child.capability)]


def test_a_child_gets_its_share_with_the_bounds_of_the_parents_grant() -> None:
    bounds = Constraints(max_uses=5, args={"/to": Glob("a*")})
    parent = [held("fs.write:src", use=Use.DELEGATE_ONLY), held("mailbox.send", constraints=bounds)]
    asked = Constraints(max_uses=2)
    write, send = narrow(parent, [wanted("fs.write:src/a"), wanted("mailbox.send:coder", constraints=asked)])
    assert (str(write.wanted.capability), write.wanted.use, write.source) == ("fs.write:src/a/**", Use.ALLOW, parent[0])
    assert send.wanted.constraints == Constraints(max_uses=2, args={"/to": Glob("a*")})
    (inherited,) = narrow(parent, [wanted("mailbox.send")])
    assert inherited.wanted.constraints == bounds


def test_what_is_passed_on_is_held() -> None:
    require_delegable_held([wanted("fs.write:src"), wanted("fs.write:src/a", held=False, delegable=True)])
    require_delegable_held([wanted("fs.write:src", delegable=True)])
    for loose in (wanted("fs.write", held=False, delegable=True), wanted("fs.read:src", held=False, delegable=True)):
        with pytest.raises(CapabilityMissing):
            require_delegable_held([wanted("fs.write:src"), loose])
    bounded = wanted("fs.write:src", constraints=Constraints(max_uses=1))
    with pytest.raises(CapabilityMissing):
        require_delegable_held([bounded, wanted("fs.write:src", held=False, delegable=True)])
