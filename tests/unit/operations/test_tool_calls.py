"""Tool calls in the store: counted at once, asked for once, and never lost sight of."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from handshake.gate.call_reading import ModelCall
from handshake.gate.tool_gate import Origin, Settled
from handshake.gate.tool_records import Begun
from handshake.kernel.approval import Approval, ApprovalKind
from handshake.kernel.asked_call import AskedCall
from handshake.kernel.capability import SHIPPED
from handshake.kernel.catalogue.tools import Transport
from handshake.kernel.errors import IntegrityBroken, InvalidTransition
from handshake.kernel.event import Context
from handshake.kernel.grant import Constraints, Grant, Lifetime, Use
from handshake.kernel.htc import CallError
from handshake.kernel.ids import SessionId
from handshake.kernel.judgement import Reason
from handshake.kernel.tool_call import ToolCallState
from handshake.operations import grants, tool_calls
from handshake.operations.tool_records import StoredToolRecords
from handshake.ports.store import Unit
from handshake.testing.granted_policy import GrantedPolicy
from tests.gating import LOCAL, TRACE, Door
from tests.requirement import requirement
from tests.running import content_of


async def give(door: Door, session_id: SessionId, call_sha256: str | None = None, **fields: Any) -> str:
    new_id, lifetime = door.stage.new_id, Lifetime.SESSION if call_sha256 is None else Lifetime.ONCE
    approval = Approval(
        approval_id=new_id(), session_id=session_id, role="coder",
        kind=ApprovalKind.SESSION if call_sha256 is None else ApprovalKind.CALL, lifetime=lifetime,
        call_sha256=call_sha256, user_id="operator", created_at_us=1, expires_at_us=None,
    )  # fmt: skip
    given = []
    if call_sha256 is None:
        whole: dict[str, Any] = {"capability": SHIPPED.parse_rule("fs.write"), "lifetime": lifetime} | fields
        named: dict[str, Any] = {"grant_id": new_id(), "approval_id": approval.approval_id, "session_id": session_id}
        given.append(Grant(**named, **whole))
    context = Context(model_session_id=session_id)
    await door.store.write(lambda tx: grants.give(tx, approval, given, context))
    return approval.approval_id


@requirement("capability.sinks.are_constrained", "capability.lifetime.ends")
async def test_uses_are_counted_at_once_however_many_calls_come_together() -> None:
    door = await Door.open(policy=GrantedPolicy())
    session = await door.stage.create()
    await give(door, session, capability=SHIPPED.parse_rule("fs.write:src/**"), constraints=Constraints(max_uses=3))
    answers = await asyncio.gather(*(door.call(session) for _ in range(12)))
    assert sum(one.ok for one in answers) == len(door.tool.calls) == 3
    once = await door.stage.create()
    await give(door, once, capability=SHIPPED.parse_rule("fs.write:docs/**"), lifetime=Lifetime.ONCE)
    answers = await asyncio.gather(*(door.call(once, {"path": "docs/a"}) for _ in range(5)))
    assert sum(one.ok for one in answers) == 1
    door.stage.check()


@requirement("capability.revoke.acts_at_once")
async def test_what_is_revoked_between_two_calls_carries_the_second_no_more() -> None:
    door = await Door.open(policy=GrantedPolicy())
    session = await door.stage.create()
    approval_id = await give(door, session)
    assert (await door.call(session)).ok
    await door.store.write(lambda tx: grants.revoke(tx, approval_id, by="operator"))
    assert not (await door.call(session)).ok
    assert len(door.tool.calls) == 1


@requirement("gate.approval.bound_to_call")
async def test_approval_of_a_call_lets_one_of_many_equal_calls_pass() -> None:
    door = await Door.open(policy=(policy := GrantedPolicy()))
    session = await door.stage.create()
    await give(door, session, use=Use.ASK)
    await door.call(session)
    [(question, _)] = policy.questions
    await give(door, session, question.call_sha256)
    answers = await asyncio.gather(*(door.call(session) for _ in range(6)))
    assert sum(one.ok for one in answers) == len(door.tool.calls) == 1
    assert not (await door.call(session, {"path": "src/other"})).ok
    other = await door.stage.create()
    await give(door, other, use=Use.ASK)
    assert not (await door.call(other)).ok, "an approval is of one session"


@requirement("gate.idempotency.returns_recorded")
async def test_equal_calls_with_one_key_have_one_effect() -> None:
    door = await Door.open(policy=GrantedPolicy())
    session = await door.stage.create()
    await give(door, session)
    answers = await asyncio.gather(*(door.call(session, idempotency_key="k") for _ in range(8)))
    assert len(door.tool.calls) == 1
    assert sum(one.ok for one in answers) >= 1
    assert (await door.call(session, idempotency_key="k")).ok
    assert len(door.tool.calls) == 1


def asked_by_model(door: Door, session: str, call_id: str, place: int, arguments: str = '{"path":"a"}') -> ModelCall:
    origin = Origin(transport=Transport.LOCAL, job_id=None, place=place)
    return ModelCall(
        origin=origin, session_id=session, trace_id=TRACE, tool_call_id=call_id, tool_id="notes.write",
        arguments=arguments, model_id="tiny",
    )  # fmt: skip


def requesting(door: Door, asked: AskedCall) -> Unit[int]:
    content = content_of(asked.shown or b"")
    return lambda tx: tool_calls.request(tx, asked, content, epoch=door.stage.epoch)


async def test_requested_calls_wait_in_their_order_and_are_the_ones_that_run() -> None:
    door = await Door.open(policy=GrantedPolicy())
    session = await door.stage.create()
    await give(door, session)
    asked = [asked_by_model(door, session, f"m{place}", place) for place in (1, 2, 3)]
    for one in asked:
        read = door.gate._reader.model_call(one)
        await door.store.write(requesting(door, read))
    assert door.tool.calls == []
    waiting = door.store.read_now(lambda reader: tool_calls.open_calls(reader, session))
    assert [(one.place, one.state) for one in waiting] == [(place, ToolCallState.REQUESTED) for place in (1, 2, 3)]
    settled = await door.gate.call_of_model(asked[1])
    assert settled.response.ok
    waiting = door.store.read_now(lambda reader: tool_calls.open_calls(reader, session))
    assert [one.place for one in waiting] == [1, 3]
    assert [one.state for one in door.rows(session)].count(ToolCallState.ENDED) == 1
    assert not (await door.gate.call_of_model(asked[1])).response.ok, "its id was used"


async def test_call_that_waits_for_a_person_is_refused_once() -> None:
    door = await Door.open(policy=(policy := GrantedPolicy()))
    session = await door.stage.create()
    await give(door, session, use=Use.ASK)
    await door.call(session)
    [row] = door.rows(session)
    asked = policy.questions[0][0]
    context = Context(model_session_id=session)
    settled = await door.store.write(lambda tx: tool_calls.refuse(tx, asked, row, context, Reason.DENIED_BY_PERSON))
    error = settled.response.error
    assert isinstance(error, CallError)
    assert (error.code, error.kind.value) == ("denied_by_person", "policy")
    [row] = door.rows(session)
    assert (row.state, row.error_code) == (ToolCallState.ENDED, "denied_by_person")
    with pytest.raises(InvalidTransition):
        await door.store.write(lambda tx: tool_calls.refuse(tx, asked, row, context, Reason.APPROVAL_EXPIRED))
    assert [one["decision"] for one in door.told("tool_call")] == ["ask", "deny"]


@requirement("gate.idempotency.returns_recorded", "gate.failure.denies")
async def test_call_whose_runtime_died_is_unknown_until_somebody_decides() -> None:
    door = await Door.open(policy=(policy := GrantedPolicy()))
    session = await door.stage.create()
    await give(door, session)
    asked = door.gate._reader.envelope(door.envelope(session, idempotency_key="k"), LOCAL)
    begun = await door.records.begin(asked, has_sandbox=True, deadline_us=2**60, settle=None)
    assert begun.settled is None
    door.records = StoredToolRecords(
        door.store, door.stage.queue, policy, door.keeping, door.stage.clock, door.stage.epoch + 1
    )
    door.gate._records = door.records
    again = await door.call(session, idempotency_key="k")
    assert isinstance(again.error, CallError)
    assert (again.error.code, again.error.details["reason"]) == ("outcome_unknown", "outcome_unknown")
    [lost, *_] = door.store.read_now(lambda reader: tool_calls.open_calls(reader, session))
    assert (lost.state, lost.runtime_epoch, lost.tool_call_id) == (
        ToolCallState.STARTED, door.stage.epoch, asked.tool_call_id
    )  # fmt: skip
    assert door.tool.calls == []


def ending(door: Door, asked: AskedCall, begun: Begun) -> Unit[Settled]:
    outcome, content = door.gate_outcome(), content_of(b"{}")
    return lambda tx: tool_calls.end(tx, asked, begun, outcome, content, epoch=door.stage.epoch, settle=None)


async def test_outcome_counts_for_the_call_that_was_begun_and_once() -> None:
    door = await Door.open(policy=GrantedPolicy())
    session = await door.stage.create()
    await give(door, session)
    asked = door.gate._reader.envelope(door.envelope(session), LOCAL)
    begun = await door.records.begin(asked, has_sandbox=True, deadline_us=2**60, settle=None)
    await door.records.end(asked, begun, door.gate_outcome(), settle=None)
    for other in (begun, msgspec.structs.replace(begun, call_seq=99)):
        with pytest.raises(IntegrityBroken):
            await door.store.write(ending(door, asked, other))
    assert len(door.told("tool_call")) == 1
