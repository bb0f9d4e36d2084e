"""No two live sessions write the same: the gate gives a call its session's write scope, or says who holds it."""

from __future__ import annotations

import asyncio

import pytest

from handshake.kernel.htc import CallError
from handshake.kernel.ids import SessionId
from handshake.kernel.session import SessionState
from handshake.operations import write_scopes
from tests.gating import LOCAL, Door
from tests.requirement import requirement
from tests.running import Stage


def holds(door: Door, session_id: str) -> write_scopes.Held:
    return door.store.read_now(lambda reader: write_scopes.held_by(reader, SessionId(session_id)))


@requirement("gate.workspace.no_overlap")
async def test_the_second_session_that_would_write_the_same_is_refused_and_blocked() -> None:
    door = await Door.open()
    first, second = await door.session("fs.write:src/**"), await door.session("fs.write")
    assert (await door.call(first)).ok
    refused = await door.call(second, {"path": "docs/a"})
    assert isinstance(refused.error, CallError)
    assert (refused.error.code, refused.error.kind, refused.error.retryable) == ("CX-MM-002", "policy", True)
    assert len(door.tool.calls) == 1
    assert door.stage.session(SessionId(second)).state is SessionState.BLOCKED
    (denied,) = door.told("workspace.denied")
    assert denied == {"holder_session_id": first, "reason": "CX-MM-002", "session_id": second}
    assert [one["ok"] for one in door.told("tool_call")] == [True, False]
    assert door.told("capability.decision")[-1]["reason"] == "write_scope_held"


@requirement("gate.workspace.no_overlap")
async def test_it_goes_on_when_the_first_has_ended() -> None:
    door = await Door.open()
    first, second = await door.session("fs.write"), await door.session("fs.write")
    assert (await door.call(first)).ok
    assert not (await door.call(second)).ok
    await door.stage.batch(door.stage.completing(SessionId(first)))
    assert door.stage.session(SessionId(second)).state is SessionState.CREATED
    assert (await door.call(second)).ok
    assert holds(door, second).scopes == ("**",)


@requirement("gate.workspace.no_overlap")
async def test_of_calls_at_once_one_gets_the_scope() -> None:
    door = await Door.open()
    sessions = [await door.session("fs.write:src/**") for _ in range(4)]
    answers = await asyncio.gather(*(door.call(one) for one in sessions))
    assert sorted(one.ok for one in answers) == [False, False, False, True]
    assert sum(bool(holds(door, one).scopes) for one in sessions) == 1


async def test_a_blocked_session_starts_no_run_until_then() -> None:
    door = await Door.open(await Stage.open())
    first, second = await door.session("fs.write"), await door.session("fs.write")
    assert (await door.call(first)).ok
    assert not (await door.call(second)).ok
    await door.stage.send(SessionId(second))
    await door.stage.look()
    assert door.stage.performed == []
    await door.stage.batch(door.stage.completing(SessionId(first)))
    await door.stage.look()
    assert len(door.stage.performed) == 1


@requirement("capability.explain.equals_gate")
@pytest.mark.parametrize("is_dry", [True, False])
async def test_explaining_and_trying_say_the_same_and_take_nothing(is_dry: bool) -> None:
    door = await Door.open()
    first, second = await door.session("fs.write"), await door.session("fs.write")
    assert (await door.call(first, dry_run=is_dry)).ok
    assert bool(holds(door, first).scopes) is not is_dry
    _, verdict = await door.gate.explain(door.envelope(second), LOCAL)
    assert (verdict.reason == "write_scope_held") is not is_dry
    assert (await door.call(second, dry_run=True)).ok is is_dry
    assert holds(door, second) == write_scopes.Held(())
    assert door.stage.session(SessionId(second)).state is SessionState.CREATED
