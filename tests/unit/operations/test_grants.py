"""Tests of grants: each rests on an approval, acts and ends at once, and is bounded by all that stands above it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from handshake.kernel.approval import Approval, ApprovalKind, lasting
from handshake.kernel.authority import Outcome, Ruling, decide
from handshake.kernel.capability import SHIPPED
from handshake.kernel.errors import CapabilityMissing, InvalidRequest, NotFound, StateConflict, UnknownCapability
from handshake.kernel.event import Context
from handshake.kernel.grant import CallFacts, Grant, Lifetime, Reason, Use
from handshake.kernel.grant_settings import GRANT_DEFAULT_S, MAX_SESSION_GRANTS, PolicyRules
from handshake.kernel.ids import SessionId, TurnId
from handshake.kernel.session import Session
from handshake.kernel.units import US_PER_S
from handshake.operations import grant_requests, grants
from handshake.operations.authorities import Authorities
from handshake.operations.grant_requests import GrantRequest, Requested, wanted
from handshake.ports.store import Tx
from tests.requirement import requirement
from tests.running import Stage


async def ruling(
    stage: Stage, session_id: SessionId, need: str, rules: PolicyRules | None = None, **facts: Any
) -> Ruling:
    """Return what is decided about a call now, read from the rows."""
    authorities = Authorities(rules or PolicyRules())
    call = CallFacts(now_us=stage.clock.now_us(), **facts)
    authority = await stage.store.read(lambda reader: authorities.of(reader, session_id))
    return decide(authority, [SHIPPED.parse(need)], call)


async def give(
    stage: Stage, session_id: SessionId, *requested: Requested, lasts: str = "session", turn: str | None = None
) -> Approval:
    """Give a session grants."""
    session, now_us = stage.session(session_id), stage.clock.now_us()
    span = lasting(lasts, now_us=now_us)
    approval = Approval(
        approval_id=stage.new_id(), session_id=session_id, role=session.role, kind=ApprovalKind.OPERATOR,
        lifetime=span.lifetime, expires_at_us=span.expires_at_us, user_id="operator", created_at_us=now_us,
    )  # fmt: skip
    ids = [stage.new_id() for _ in requested]
    given = grant_requests.to_grants(
        approval, session, wanted(requested), iter(ids), turn_id=None if turn is None else TurnId(turn)
    )
    await stage.store.write(lambda tx: grants.give(tx, approval, given, Context(model_session_id=session_id)))
    return approval


async def held_by(stage: Stage, session_id: SessionId) -> list[Grant]:
    """Return the grants of a session that nobody revoked."""
    return await stage.store.read(lambda reader: grants.of_session(reader, session_id))


async def count(stage: Stage, found: Ruling, **taken: int) -> None:
    """Count a call against the grants that carry it."""
    await stage.store.write(lambda tx: grants.count_use(tx, found.grants, **taken))


async def child_of(stage: Stage, parent: SessionId, *requested: Requested, **given: Any) -> SessionId:
    """Make a session below another, with grants of its own: as wide as somebody might wrongly make them."""
    child = await stage.create(grants=wanted(requested), **given)
    row = msgspec.structs.replace(stage.session(child), session_id=SessionId(stage.new_id()), parent_session_id=parent)

    def unit(tx: Tx) -> Session:
        tx.run("session_insert", msgspec.structs.asdict(row))
        approval, model = grant_requests.of_model(row, "operator")
        ids = iter([stage.new_id() for _ in requested])
        own = grant_requests.to_grants(approval, row, wanted(requested), ids)
        grants.give(tx, approval, [model, *own], Context(model_session_id=row.session_id))
        return row

    return (await stage.store.write(unit)).session_id


@requirement("capability.default.denies")
async def test_a_session_holds_its_model_and_nothing_else() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    (model,) = await held_by(stage, session_id)
    assert (str(model.capability), model.approval_id, model.delegable) == ("model.local:desk/tiny", session_id, True)
    assert (await ruling(stage, session_id, "model.local:desk/tiny")).outcome is Outcome.ALLOW
    for need in (
        "model.local:desk/other",
        "model.cloud:desk/tiny",
        "fs.read:a",
        "proc.exec:ls",
        "net.http:GET h.example/",
    ):
        found = await ruling(stage, session_id, need)
        assert (found.outcome, found.reason, found.missing) == (Outcome.DENY, Reason.NOT_GRANTED, (need,))
    assert not list(stage.check().of("capability.granted"))


@requirement("capability.grant.traces_to_token")
async def test_a_session_is_made_with_grants_that_rest_on_its_making() -> None:
    stage = await Stage.open()
    asked = wanted(["fs.write:src", "ask:fs.read", "delegate_only:net.http:GET h.example/*"], ["fs.write:src/a"])
    session_id = await stage.create(grants=asked)
    held = await held_by(stage, session_id)
    assert {(str(one.capability), one.use, one.held, one.delegable) for one in held} == {
        ("model.local:desk/tiny", Use.ALLOW, True, True),
        ("fs.write:src/**", Use.ALLOW, True, False),
        ("fs.read", Use.ASK, True, False),
        ("net.http:GET h.example/*", Use.DELEGATE_ONLY, True, False),
        ("fs.write:src/a/**", Use.ALLOW, False, True),
    }
    assert {one.approval_id for one in held} == {session_id}
    assert (await ruling(stage, session_id, "fs.write:src/x")).outcome is Outcome.ALLOW
    assert (await ruling(stage, session_id, "fs.read:x")).outcome is Outcome.ASK
    assert (await ruling(stage, session_id, "net.http:GET h.example/a")).reason is Reason.DELEGATE_ONLY
    (event,) = stage.check().of("capability.granted")
    assert (event.session_id, event.payload["kind"], event.payload["grant_count"]) == (session_id, "session", 5)


@requirement("capability.revoke.acts_at_once")
async def test_what_is_revoked_is_refused_at_the_next_check() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    authorities = Authorities(PolicyRules())
    first = await give(stage, session_id, "fs.read", "fs.write:src")
    second = await give(stage, session_id, "fs.write:docs")

    async def allowed(need: str) -> bool:
        authority = await stage.store.read(lambda reader: authorities.of(reader, session_id))
        return decide(authority, [SHIPPED.parse(need)], CallFacts(now_us=1)).outcome is Outcome.ALLOW

    needs = ("fs.read:x", "fs.write:src/x", "fs.write:docs/x")
    assert [await allowed(need) for need in needs] == [True, True, True]
    held = await held_by(stage, session_id)
    (one,) = [grant for grant in held if str(grant.capability) == "fs.write:src/**"]
    assert await stage.store.write(lambda tx: grants.revoke(tx, one.grant_id, by="operator")) == session_id
    assert [await allowed(need) for need in needs] == [True, False, True]
    for _ in range(2):
        await stage.store.write(lambda tx: grants.revoke(tx, first.approval_id, by="operator"))
        assert [await allowed(need) for need in needs] == [False, False, True]
    told = [
        (event.payload["approval_id"], event.payload["grant_id"]) for event in stage.check().of("capability.revoked")
    ]
    assert told == [(first.approval_id, one.grant_id), (first.approval_id, None)]
    listed = await stage.store.read(lambda reader: grants.listed(reader, session_id=session_id, revoked=True))
    assert {view.grant.approval_id for view in listed if view.revoked_at_us is not None} == {first.approval_id}
    live = await stage.store.read(grants.listed)
    assert {view.grant.approval_id for view in live} == {session_id, second.approval_id}


async def test_a_sessions_model_is_not_taken_from_it() -> None:
    stage = await Stage.open()
    session_id = await stage.create(grants=wanted(["fs.read"]))
    with pytest.raises(StateConflict):
        await stage.store.write(lambda tx: grants.revoke(tx, session_id, by="operator"))
    with pytest.raises(NotFound):
        await stage.store.write(lambda tx: grants.revoke(tx, stage.new_id(), by="operator"))


@requirement("capability.lifetime.ends")
async def test_grants_end_when_they_say() -> None:
    stage = await Stage.open()
    session_id = await stage.create(wp_id="W")
    await give(stage, session_id, "fs.read:once", lasts="once")
    await give(stage, session_id, "fs.read:turn", lasts="turn", turn="t")
    await give(stage, session_id, "fs.read:span", lasts="2s")
    await give(stage, session_id, "fs.read:day", lasts="until")
    await give(stage, session_id, "fs.read:ever", lasts="until_revoked")

    async def open_now(**facts: Any) -> list[str]:
        names = ("once", "turn", "span", "day", "ever")
        found = [(name, await ruling(stage, session_id, f"fs.read:{name}/x", **facts)) for name in names]
        for name, one in found:
            if name == "once" and one.outcome is Outcome.ALLOW and facts.get("turn_id"):
                await count(stage, one)
        return [name for name, one in found if one.outcome is Outcome.ALLOW]

    assert await open_now(turn_id=TurnId("t")) == ["once", "turn", "span", "day", "ever"]
    assert await open_now(turn_id=TurnId("t")) == ["turn", "span", "day", "ever"]
    assert await open_now(turn_id=TurnId("u")) == ["span", "day", "ever"]
    stage.clock.advance(2 * US_PER_S)
    assert await open_now() == ["day", "ever"]
    stage.clock.advance(GRANT_DEFAULT_S * US_PER_S)
    assert await open_now() == ["ever"]


@requirement("capability.lifetime.ends")
async def test_what_is_given_to_a_work_packet_is_its_sessions_of_the_role() -> None:
    stage = await Stage.open()
    first = await stage.create(wp_id="W")
    same, elsewhere = await stage.create(wp_id="W"), await stage.create(wp_id="V")
    other_role, without = await stage.create(wp_id="W", role="validator"), await stage.create()
    approval = await give(stage, first, "fs.read:a", lasts="wp")

    async def open_to(wp_id: str) -> list[bool]:
        everyone = (first, same, elsewhere, other_role, without)
        return [(await ruling(stage, one, "fs.read:a/x", wp_id=wp_id)).outcome is Outcome.ALLOW for one in everyone]

    assert await open_to("W") == [True, True, False, False, False]
    await stage.store.write(lambda tx: grants.revoke(tx, approval.approval_id, by="operator"))
    assert await open_to("W") == [False] * 5


@requirement("capability.sinks.are_constrained")
async def test_uses_bytes_and_amounts_are_counted_and_then_spent() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    request = GrantRequest(
        capability="mailbox.send", args={"/to": "a", "/cc": {"one_of": ["b"]}, "/re": {"glob": "x*"}}, max_uses=3,
        max_bytes=10, max_amount=7,
    )  # fmt: skip
    await give(stage, session_id, request)
    args = {"to": "a", "cc": "b", "re": "xy"}

    async def use(bytes_: int, amount: int, **changed: str) -> Reason:
        found = await ruling(
            stage, session_id, "mailbox.send:coder", args={**args, **changed}, bytes=bytes_, amount=amount
        )
        if found.outcome is Outcome.ALLOW:
            assert found.fixed == {"/to", "/cc"}
            await count(stage, found, bytes_=bytes_, amount=amount)
        return found.reason

    assert await use(1, 1, to="b") is Reason.ARGUMENT_DIFFERS
    assert await use(6, 1) is Reason.GRANTED
    assert await use(5, 1) is Reason.BYTES_SPENT
    assert await use(4, 6) is Reason.GRANTED
    assert await use(0, 1) is Reason.AMOUNT_SPENT
    assert await use(0, 0) is Reason.GRANTED
    assert await use(0, 0) is Reason.USES_SPENT


async def test_what_a_policy_carries_is_no_row_to_count() -> None:
    stage = await Stage.open()
    session_id = await stage.create(grants=wanted(["fs.read"]))
    found = await ruling(stage, session_id, "fs.read:a", PolicyRules(allow=("fs.read",)))
    assert "policy:0" in found.grants
    await count(stage, found)
    assert (await ruling(stage, session_id, "fs.read:a")).outcome is Outcome.ALLOW


@requirement("capability.session.intersection")
async def test_policy_binds_whatever_is_granted() -> None:
    stage = await Stage.open()
    one, other = await stage.create(grants=wanted(["fs.read", "fs.write"])), await stage.create()
    rules = PolicyRules(allow=("fs.read", "fs.write:src"), ask=("fs.write:src/a",), deny=("fs.read:secret",))
    cases = {
        "fs.read:x": Reason.GRANTED, "fs.read:secret/x": Reason.DENIED_BY_RULE, "fs.write:src/b": Reason.GRANTED,
        "fs.write:docs/x": Reason.OUTSIDE_LAYER, "fs.write:src/a/x": Reason.ASKED_BY_RULE,
    }  # fmt: skip
    assert {need: (await ruling(stage, one, need, rules)).reason for need in cases} == cases
    assert (await ruling(stage, other, "fs.read:x", rules)).outcome is Outcome.DENY


@requirement("capability.child.within_parent_held")
async def test_a_child_may_nothing_that_its_parent_may_not_pass_on_now() -> None:
    stage = await Stage.open()
    parent = await stage.create(grants=wanted(["fs.read", "delegate_only:fs.write:src"], ["fs.write:src"]))
    child = await child_of(stage, parent, "fs.read", "fs.write")
    grandchild = await child_of(stage, child, "fs.write", role="validator")
    assert (await ruling(stage, child, "fs.write:src/a")).outcome is Outcome.ALLOW
    assert (await ruling(stage, grandchild, "fs.write:src/a")).outcome is Outcome.ALLOW
    assert (await ruling(stage, child, "fs.write:docs/a")).reason is Reason.OUTSIDE_LAYER
    assert (await ruling(stage, child, "fs.read:a")).reason is Reason.OUTSIDE_LAYER
    held = await held_by(stage, parent)
    (passed,) = [one for one in held if one.delegable and str(one.capability) == "fs.write:src/**"]
    await stage.store.write(lambda tx: grants.revoke(tx, passed.grant_id, by="operator"))
    for one in (child, grandchild):
        assert (await ruling(stage, one, "fs.write:src/a")).reason is Reason.OUTSIDE_LAYER


async def test_approving_a_call_for_longer_settles_calls_like_it_and_no_others() -> None:
    stage = await Stage.open()
    session_id = await stage.create(grants=wanted(["ask:mailbox.send"]))
    session = stage.session(session_id)
    approval = Approval(
        approval_id=stage.new_id(), session_id=session_id, role=session.role, kind=ApprovalKind.CALL,
        lifetime=Lifetime.SESSION, call_sha256="0" * 64, user_id="operator", created_at_us=1,
    )  # fmt: skip
    need = [SHIPPED.parse("mailbox.send:coder")]
    given = grant_requests.for_calls_like(approval, session, need, {"/to": "coder"}, iter([stage.new_id()]))
    await stage.store.write(lambda tx: grants.give(tx, approval, given, Context(model_session_id=session_id)))
    assert (await ruling(stage, session_id, "mailbox.send:coder", args={"to": "coder"})).reason is Reason.GRANTED
    assert (await ruling(stage, session_id, "mailbox.send:coder", args={"to": "eve"})).outcome is Outcome.ASK
    assert (await ruling(stage, session_id, "mailbox.send:eve", args={"to": "coder"})).outcome is Outcome.ASK
    exact = await stage.store.read(lambda reader: grants.call_approval(reader, session_id, "0" * 64, now_us=2))
    assert exact is not None, "the very call that was shown is approved whatever asks about it, once"
    assert [await stage.store.write(lambda tx: grants.use_approval(tx, approval.approval_id)) for _ in "ab"] == [
        True,
        False,
    ]
    once = msgspec.structs.replace(approval, lifetime=Lifetime.ONCE)
    assert grant_requests.for_calls_like(once, session, need, {}, iter(())) == []


@requirement("capability.lifetime.ends")
async def test_the_approval_of_one_call_is_used_once() -> None:
    stage = await Stage.open()
    session_id, other = await stage.create(), await stage.create()
    approvals = [
        Approval(
            approval_id=stage.new_id(), session_id=session_id, role="coder", kind=ApprovalKind.CALL, user_id="operator",
            lifetime=Lifetime.ONCE, call_sha256=sha256 * 64, created_at_us=1, expires_at_us=100,
        )
        for sha256 in "ab"
    ]  # fmt: skip

    def unit(tx: Tx) -> None:
        for one in approvals:
            grants.give(tx, one, [], None)

    await stage.store.write(unit)

    async def found(sha256: str, of: SessionId = session_id, now_us: int = 50) -> str | None:
        one = await stage.store.read(lambda reader: grants.call_approval(reader, of, sha256 * 64, now_us=now_us))
        return None if one is None else one.approval_id

    first, second = (one.approval_id for one in approvals)
    assert [await found("a"), await found("b"), await found("c")] == [first, second, None]
    assert [await found("a", other), await found("a", now_us=100)] == [None, None]
    assert [await stage.store.write(lambda tx: grants.use_approval(tx, first)) for _ in range(2)] == [True, False]
    await stage.store.write(lambda tx: grants.revoke(tx, second, by="operator"))
    assert [await found("a"), await found("b")] == [None, None]
    assert not await stage.store.write(lambda tx: grants.use_approval(tx, second))


async def test_a_change_that_did_not_commit_does_not_act() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    authorities = Authorities(PolicyRules())
    approval = Approval(
        approval_id=stage.new_id(), session_id=session_id, role="coder", kind=ApprovalKind.OPERATOR,
        lifetime=Lifetime.SESSION, user_id="operator", created_at_us=1,
    )  # fmt: skip
    given = grant_requests.to_grants(approval, stage.session(session_id), wanted(["fs.read"]), iter([stage.new_id()]))

    def failing(tx: Tx) -> None:
        grants.give(tx, approval, given, Context(model_session_id=session_id))
        assert len(authorities.of(tx, session_id).layers[0].allow or ()) == 2
        raise StateConflict(reason="test")

    with pytest.raises(StateConflict):
        await stage.store.write(failing)
    authority = await stage.store.read(lambda reader: authorities.of(reader, session_id))
    assert len(authority.layers[0].allow or ()) == 1


async def test_grants_that_are_too_many_or_unknown_are_refused() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    with pytest.raises(InvalidRequest):
        wanted(["fs.read"] * (MAX_SESSION_GRANTS + 1))
    with pytest.raises(UnknownCapability):
        wanted(["fs.raed"])
    with pytest.raises(CapabilityMissing):
        wanted(["fs.read:src"], ["fs.read"])
    with pytest.raises(NotFound):
        await ruling(stage, SessionId(stage.new_id()), "fs.read:x")
    assert (await ruling(stage, session_id, "fs.read:x")).outcome is Outcome.DENY
