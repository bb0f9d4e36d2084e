"""Tests of authority: every layer must agree, deny beats ask beats allow, and what is not granted is refused."""

from __future__ import annotations

from typing import Any

import pytest

from handshake.kernel.authority import Authority, Layer, Outcome, Ruling, decide, may_pass_on, reach_of
from handshake.kernel.capability import Capability, CapabilityRegistry
from handshake.kernel.grant import CallFacts, Constraints, Exact, Glob, Grant, Lifetime, Reason, Use
from handshake.kernel.ids import SessionId
from tests.requirement import requirement

REGISTRY = CapabilityRegistry()
CALL = CallFacts(args={"path": "src/a.py"}, now_us=100)
ALLOW, ASK, DENY = Outcome.ALLOW, Outcome.ASK, Outcome.DENY


def grant(text: str, grant_id: str = "", **fields: Any) -> Grant:
    given = {"approval_id": "p", "session_id": SessionId("s"), **fields}
    return Grant(grant_id=grant_id or text, capability=REGISTRY.parse_rule(text), **given)


def rules(*texts: str) -> tuple[Capability, ...]:
    return tuple(REGISTRY.parse_rule(one) for one in texts)


def own(*grants: Grant) -> Layer:
    return Layer(name="session", allow=grants, is_own=True)


def ruling(*layers: Layer, need: tuple[str, ...] = ("fs.write:src/a.py",), asks: bool = False) -> Ruling:
    authority = Authority(session_id=SessionId("s"), layers=layers, asks_for_missing=asks)
    return decide(authority, [REGISTRY.parse(one) for one in need], CALL)


@requirement("capability.default.denies")
@pytest.mark.parametrize(
    "layers", [(), (own(),), (Layer(name="policy"),), (Layer(name="policy", ask=rules("fs.read")),)]
)
def test_without_a_grant_nothing_is_allowed(layers: tuple[Layer, ...]) -> None:
    found = ruling(*layers)
    assert (found.outcome, found.reason) == (DENY, Reason.NOT_GRANTED)
    assert (found.missing, found.held, found.grants) == (("fs.write:src/a.py",), (), ())


@requirement("capability.deny.is_explicit")
def test_a_denial_names_what_is_missing_and_what_is_held() -> None:
    layer = own(grant("fs.write:docs"), grant("fs.read"), grant("net.http:GET h.example"))
    found = ruling(layer, need=("fs.read:x", "fs.write:src/a.py"))
    assert (found.outcome, found.reason) == (DENY, Reason.NOT_GRANTED)
    assert (found.missing, found.held) == (("fs.write:src/a.py",), ("fs.write:docs/**",))


def test_what_needs_nothing_is_allowed() -> None:
    assert ruling(own(), need=()) == Ruling(outcome=ALLOW, reason=Reason.NOTHING_REQUIRED)


@requirement("capability.axis.contains_scopes")
@pytest.mark.parametrize("text", ["fs.write", "fs.write:src", "fs.write:src/*.py", "fs.write:**", "fs.write:src/a.py"])
def test_a_grant_is_found_wherever_its_scope_begins(text: str) -> None:
    found = ruling(own(*(grant(f"fs.write:d{number}") for number in range(50)), grant(text, "it")))
    assert (found.outcome, found.reason, found.grants) == (ALLOW, Reason.GRANTED, ("it",))


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        ("net.http:GET *.example.org/*", "net.http:GET a.b.example.org/c"),
        ("net.http:GET *", "net.http:GET 10.0.0.1/"),
        ("proc.exec:pytest *", "proc.exec:pytest -q"),
        ("model.cloud:*/m", "model.cloud:p/m"),
        ("model.cloud:p/m", "model.cloud:p/m"),
        ("client.*", "client.read"),
        ("mcp.files.read", "mcp.files.read"),
        ("fs.read", "fs.read"),
    ],
)
def test_every_kind_of_grant_is_found(held: str, wanted: str) -> None:
    assert ruling(own(grant(held)), need=(wanted,)).outcome is ALLOW


@requirement("capability.session.intersection")
def test_every_layer_that_says_something_must_agree() -> None:
    held = own(grant("fs.write:src"))
    policy = Layer(name="policy", allow=(grant("fs.write:src/a.py", "policy"),))
    assert ruling(held, policy).grants == ("fs.write:src", "policy")
    assert ruling(held, policy, Layer(name="silent")).outcome is ALLOW
    found = ruling(held, policy, need=("fs.write:src/b.py",))
    assert (found.outcome, found.reason, found.missing) == (DENY, Reason.OUTSIDE_LAYER, ("fs.write:src/b.py",))
    assert ruling(held, Layer(name="profile", allow=())).outcome is DENY


@pytest.mark.parametrize(
    ("layers", "outcome", "reason"),
    [
        ((own(grant("fs.write")), Layer(name="p", deny=rules("fs.write:src"))), DENY, Reason.DENIED_BY_RULE),
        (
            (Layer(name="p", deny=rules("fs.write:src/a.py"), ask=rules("fs.write")), own(grant("fs.write"))),
            DENY,
            Reason.DENIED_BY_RULE,
        ),
        ((own(grant("fs.write")), Layer(name="p", ask=rules("fs.write:src"))), ASK, Reason.ASKED_BY_RULE),
        ((own(grant("fs.write", use=Use.ASK)),), ASK, Reason.ASKED_BY_GRANT),
        ((own(grant("fs.write", use=Use.ASK), grant("fs.write:src")),), ASK, Reason.ASKED_BY_GRANT),
        ((own(grant("fs.write", use=Use.DELEGATE_ONLY)),), DENY, Reason.DELEGATE_ONLY),
        ((own(grant("fs.write", use=Use.DELEGATE_ONLY), grant("fs.write:src")),), ALLOW, Reason.GRANTED),
        ((own(grant("fs.write:src", held=False, delegable=True)),), DENY, Reason.NOT_GRANTED),
        ((own(grant("fs.write", approval_id="")),), DENY, Reason.NO_APPROVAL),
        ((own(grant("fs.write", lifetime=Lifetime.ONCE, uses=1)),), DENY, Reason.USES_SPENT),
        ((own(grant("fs.write", constraints=Constraints(args={"/path": Exact("x")}))),), DENY, Reason.ARGUMENT_DIFFERS),
    ],
)
def test_deny_beats_ask_beats_allow(layers: tuple[Layer, ...], outcome: Outcome, reason: Reason) -> None:
    found = ruling(*layers)
    assert (found.outcome, found.reason) == (outcome, reason)


def test_an_answer_settles_the_question_but_no_denial() -> None:
    asked = Layer(name="policy", ask=rules("fs.write"))
    answer = grant("fs.write:src/a.py", "answer", settles_ask=True)
    assert ruling(own(grant("fs.write", use=Use.ASK), answer), asked).grants == ("answer",)
    assert ruling(own(answer), asked, need=("fs.write:src/b.py",)).outcome is DENY
    assert ruling(own(answer), Layer(name="policy", deny=rules("fs.write"))).outcome is DENY
    assert ruling(own(answer), Layer(name="parent", allow=())).outcome is DENY
    ended = grant("fs.write:src/a.py", settles_ask=True, lifetime=Lifetime.ONCE, uses=1)
    assert ruling(own(grant("fs.write"), ended), asked).outcome is ASK


def test_policy_may_ask_for_what_is_missing_but_never_beyond_another_layer() -> None:
    assert ruling(own(), asks=True).outcome is ASK
    assert ruling(own(), asks=True).missing == ("fs.write:src/a.py",)
    assert ruling(own(), Layer(name="parent", allow=()), asks=True).reason is Reason.OUTSIDE_LAYER
    assert ruling(own(grant("fs.write", use=Use.DELEGATE_ONLY)), asks=True).outcome is DENY
    assert ruling(own(), Layer(name="policy", deny=rules("fs.write")), asks=True).outcome is DENY
    assert ruling(own(), need=("fs.write:.handshake/x",), asks=True).outcome is DENY


@requirement("capability.path.runtime_folder_closed")
def test_no_layer_opens_the_runtimes_folder() -> None:
    found = ruling(own(grant("fs.write"), grant("fs.write:**")), need=("fs.write:.handshake/state.db",))
    assert (found.outcome, found.reason) == (DENY, Reason.RUNTIME_FOLDER)


@requirement("capability.sinks.are_constrained")
def test_a_ruling_names_what_its_grants_fix() -> None:
    bounds = Constraints(args={"/path": Exact("src/a.py"), "/note": Glob("*")})
    call = CallFacts(args={"path": "src/a.py", "note": "x"}, now_us=100)
    held = own(grant("fs.write:src", constraints=bounds), grant("fs.read"))
    authority = Authority(session_id=SessionId("s"), layers=(held,))
    found = decide(authority, [REGISTRY.parse("fs.write:src/a.py"), REGISTRY.parse("fs.read:b")], call)
    assert (found.fixed, found.literal) == (frozenset({"/path"}), frozenset())
    exact = Layer(
        name="session",
        is_own=True,
        allow=(
            Grant(
                grant_id="g", approval_id="p", session_id=SessionId("s"), capability=REGISTRY.parse("fs.write:src/a.py")
            ),
        ),
    )
    assert ruling(exact).literal == {"fs.write:src/a.py"}


def test_what_is_counted_is_spared_where_something_else_carries_the_call() -> None:
    counted = grant("fs.write:src", "counted", constraints=Constraints(max_uses=1))
    assert ruling(own(counted, grant("fs.write", "plain"))).grants == ("plain",)
    assert ruling(own(counted)).grants == ("counted",)


@requirement("capability.child.within_parent_held")
def test_a_parent_is_to_its_child_what_it_may_pass_on() -> None:
    parent = (
        grant("fs.write:src", use=Use.DELEGATE_ONLY, delegable=True),
        grant("fs.write"),
        grant("fs.read", use=Use.ASK, delegable=True),
    )
    above = may_pass_on(parent, "parent", deny=rules("fs.write:src/secret"))
    child = own(grant("fs.write", "mine"), grant("fs.read", "read"))
    assert ruling(child, above).outcome is ALLOW
    assert ruling(child, above, need=("fs.read:x",)).outcome is ALLOW
    assert ruling(child, above, need=("fs.write:docs/x",)).reason is Reason.OUTSIDE_LAYER
    assert ruling(child, above, need=("fs.write:src/secret/x",)).reason is Reason.DENIED_BY_RULE
    assert ruling(above).outcome is ALLOW, (
        "as a layer it allows; a session without its own grants is made with an empty one"
    )
    assert ruling(own(), above).outcome is DENY


def test_reach_is_what_all_layers_allow_without_asking() -> None:
    held = own(grant("fs.write:src"), grant("fs.write:docs"), grant("fs.write:tmp", use=Use.ASK), grant("fs.read"))
    policy = Layer(
        name="policy",
        allow=(grant("fs.write:src/a/**"), grant("fs.write:docs"), grant("fs.read")),
        deny=rules("fs.write:docs/x"),
    )
    authority = Authority(session_id=SessionId("s"), layers=(held, policy))
    found = reach_of(authority, CALL, ["fs.write", "fs.read", "proc.exec"])
    assert found == {"fs.write": ("src/a/**",), "fs.read": ("",), "proc.exec": ()}


def test_reach_is_kept_only_where_no_call_changes_it() -> None:
    until = grant("fs.write:tmp", constraints=Constraints(expires_at_us=200), lifetime=Lifetime.UNTIL)
    authority = Authority(session_id=SessionId("s"), layers=(own(grant("fs.read:src"), grant("fs.write:src"), until),))
    later = CallFacts(now_us=200)
    for _ in range(2):
        assert reach_of(authority, CALL, ["fs.write"]) == {"fs.write": ("src/**", "tmp/**")}
        assert reach_of(authority, later, ["fs.write", "fs.read"]) == {"fs.write": ("src/**",), "fs.read": ("src/**",)}
    assert set(authority.steady_reach) == {"fs.read"}
