"""Tests of grants: they carry a call only while they last, only within their bounds, only on a live approval."""

from __future__ import annotations

from typing import Any

import pytest

from handshake.kernel.capability import CapabilityRegistry
from handshake.kernel.grant import (
    CallFacts,
    Condition,
    Constraints,
    Exact,
    Glob,
    Grant,
    Lifetime,
    OneOf,
    Reason,
    hindrance,
    is_within,
    satisfies,
)
from handshake.kernel.ids import SessionId, TurnId
from tests.requirement import requirement

CALL = CallFacts(
    args={"to": "a@b.example", "n": 3, "items": [{"id": 1}, {"id": 2}]},
    bytes=10,
    amount=5,
    turn_id=TurnId("t"),
    wp_id="w",
    now_us=100,
)


def granted(**fields: Any) -> Grant:
    given = {"grant_id": "g", "approval_id": "p", "session_id": SessionId("s"), **fields}
    return Grant(capability=CapabilityRegistry().parse("mailbox.send"), **given)


@requirement("capability.lifetime.ends")
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"lifetime": Lifetime.SESSION}, None),
        ({"lifetime": Lifetime.UNTIL_REVOKED}, None),
        ({"lifetime": Lifetime.ONCE}, None),
        ({"lifetime": Lifetime.ONCE, "uses": 1}, Reason.USES_SPENT),
        ({"lifetime": Lifetime.TURN, "turn_id": "t"}, None),
        ({"lifetime": Lifetime.TURN, "turn_id": "u"}, Reason.TURN_ENDED),
        ({"lifetime": Lifetime.TURN}, Reason.TURN_ENDED),
        ({"lifetime": Lifetime.WORK_PACKET, "wp_id": "w"}, None),
        ({"lifetime": Lifetime.WORK_PACKET, "wp_id": "v"}, Reason.WORK_PACKET_DIFFERS),
        ({"lifetime": Lifetime.WORK_PACKET}, Reason.WORK_PACKET_DIFFERS),
        ({"lifetime": Lifetime.UNTIL, "constraints": Constraints(expires_at_us=101)}, None),
        ({"lifetime": Lifetime.UNTIL, "constraints": Constraints(expires_at_us=100)}, Reason.EXPIRED),
        ({"lifetime": Lifetime.UNTIL}, Reason.EXPIRED),
        ({"lifetime": Lifetime.SESSION, "constraints": Constraints(expires_at_us=99)}, Reason.EXPIRED),
    ],
)
def test_a_grant_ends_when_it_says(fields: dict[str, Any], reason: Reason | None) -> None:
    assert hindrance(granted(**fields), CALL) is reason


@requirement("capability.grant.traces_to_token")
def test_a_grant_without_an_approval_grants_nothing() -> None:
    assert hindrance(granted(approval_id=""), CALL) is Reason.NO_APPROVAL


def test_a_grant_of_a_turn_or_work_packet_needs_one() -> None:
    nowhere = CallFacts(now_us=100)
    assert hindrance(granted(lifetime=Lifetime.TURN), nowhere) is Reason.TURN_ENDED
    assert hindrance(granted(lifetime=Lifetime.WORK_PACKET), nowhere) is Reason.WORK_PACKET_DIFFERS


@requirement("capability.sinks.are_constrained")
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"constraints": Constraints(args={"/to": Exact("a@b.example")})}, None),
        ({"constraints": Constraints(args={"/to": Exact("a@b.example.evil")})}, Reason.ARGUMENT_DIFFERS),
        ({"constraints": Constraints(args={"/to": Glob("*@b.example")})}, None),
        ({"constraints": Constraints(args={"/to": Glob("*@c.example")})}, Reason.ARGUMENT_DIFFERS),
        ({"constraints": Constraints(args={"/to": OneOf(("x", "a@b.example"))})}, None),
        ({"constraints": Constraints(args={"/to": OneOf(("x",))})}, Reason.ARGUMENT_DIFFERS),
        ({"constraints": Constraints(args={"/cc": Exact(None)})}, Reason.ARGUMENT_DIFFERS),
        ({"constraints": Constraints(args={"/items/*/id": OneOf((1, 2))})}, None),
        ({"constraints": Constraints(args={"/items/*/id": Exact(1)})}, Reason.ARGUMENT_DIFFERS),
        ({"constraints": Constraints(args={"/to": Glob("*"), "/n": Exact(4)})}, Reason.ARGUMENT_DIFFERS),
        ({"constraints": Constraints(max_uses=2), "uses": 1}, None),
        ({"constraints": Constraints(max_uses=2), "uses": 2}, Reason.USES_SPENT),
        ({"constraints": Constraints(max_bytes=20), "bytes": 10}, None),
        ({"constraints": Constraints(max_bytes=20), "bytes": 11}, Reason.BYTES_SPENT),
        ({"constraints": Constraints(max_amount=5)}, None),
        ({"constraints": Constraints(max_amount=5), "amount": 1}, Reason.AMOUNT_SPENT),
    ],
)
def test_a_grant_carries_only_calls_within_its_bounds(fields: dict[str, Any], reason: Reason | None) -> None:
    assert hindrance(granted(**fields), CALL) is reason


@requirement("capability.args.are_checked")
@pytest.mark.parametrize(
    ("condition", "value", "expected"),
    [
        (Exact(1), 1, True),
        (Exact(1), True, False),
        (Exact(1), 1.0, False),
        (Exact(1), "1", False),
        (Exact([1, {"a": None}]), [1, {"a": None}], True),
        (Exact([1]), [True], False),
        (Exact("a"), ["a", "a"], True),
        (Exact("a"), ["a", "b"], False),
        (Exact("a"), [], False),
        (Exact("a"), [["a"]], False),
        (Glob("a*"), "ab", True),
        (Glob("a*"), 1, False),
        (Glob("a*"), ["ab", "ac"], True),
        (Glob("a*"), ["ab", "b"], False),
        (Glob("a*"), "a*", False),
        (Glob("*"), None, False),
        (OneOf((1, "a")), "a", True),
        (OneOf((1, "a")), [1, "a"], True),
        (OneOf((1, "a")), [1, "b"], False),
        (OneOf(()), "a", False),
    ],
)
def test_a_condition_is_about_values_not_their_looks(condition: Condition, value: object, expected: bool) -> None:
    assert satisfies(condition, value) is expected


@requirement("capability.child.within_parent_held")
@pytest.mark.parametrize(
    ("inner", "outer", "expected"),
    [
        (Constraints(), Constraints(), True),
        (Constraints(max_uses=1), Constraints(), True),
        (Constraints(), Constraints(max_uses=1), False),
        (Constraints(max_uses=2), Constraints(max_uses=1), False),
        (Constraints(max_bytes=1), Constraints(max_bytes=1), True),
        (Constraints(max_amount=2), Constraints(max_amount=1), False),
        (Constraints(expires_at_us=2), Constraints(expires_at_us=1), False),
        (Constraints(), Constraints(args={"/to": Glob("*")}), False),
        (Constraints(args={"/to": Exact("ab")}), Constraints(args={"/to": Glob("a*")}), True),
        (Constraints(args={"/to": Glob("ab*")}), Constraints(args={"/to": Glob("a*")}), True),
        (Constraints(args={"/to": Glob("a*")}), Constraints(args={"/to": Exact("a")}), False),
        (Constraints(args={"/to": Glob("a*")}), Constraints(args={"/to": OneOf(("a", "ab"))}), False),
        (Constraints(args={"/to": OneOf(("a", "b"))}), Constraints(args={"/to": OneOf(("a",))}), False),
        (Constraints(args={"/to": OneOf(("a",))}), Constraints(args={"/to": OneOf(("b", "a"))}), True),
        (Constraints(args={"/cc": Exact("a")}), Constraints(args={"/to": Exact("a")}), False),
    ],
)
def test_bounds_are_within_others_only_if_they_are_no_looser(
    inner: Constraints, outer: Constraints, expected: bool
) -> None:
    assert is_within(inner, outer) is expected


def test_what_a_grant_fixes_is_what_a_person_named() -> None:
    bounds = Constraints(args={"/to": Exact("a"), "/cc": OneOf(("a",)), "/subject": Glob("*")})
    assert bounds.fixed == {"/to", "/cc"}
    assert granted(lifetime=Lifetime.ONCE).is_counted
    assert granted(constraints=Constraints(max_bytes=1)).is_counted
    assert not granted(constraints=bounds).is_counted
