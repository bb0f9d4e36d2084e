"""Tool gate: however a call ends, its end is recorded: results, errors, repeats, cuts, and a gate that fails."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import msgspec
import pytest

from handshake.gate.tool_gate import ModelCall, Settled
from handshake.kernel.errors import StoreFailed
from handshake.kernel.htc import CallError, ToolResponse
from handshake.kernel.settings import GATE_DECISION_MS, MAX_INLINE_PAYLOAD_BYTES, MAX_TOOL_PAYLOAD_BYTES
from handshake.kernel.tool_call import ToolCallState
from handshake.ports.tool import ToolContext, ToolFailed, ToolResult, Touched
from handshake.testing.scripted_tool import defined
from tests.gating import LOCAL, SECRET, TRACE, Door
from tests.requirement import requirement

ELSEWHERE = "018f0000-0000-7000-8000-0000000000ff"


def fault(response: ToolResponse) -> tuple[str, str, object]:
    assert isinstance(response.error, CallError)
    return response.error.code, response.error.kind.value, response.error.details.get("reason")


@requirement("gate.redaction.before_hash")
async def test_secrets_are_hashed_and_stored_as_what_stands_for_them() -> None:
    door = await Door.open()
    session = await door.session("fs.write")
    door.tool.script = lambda args, context: ToolResult({"said": f"key {SECRET}"})
    response = await door.call(session, {"path": "a", "text": f"use {SECRET}"})
    assert door.tool.calls[0][1]["text"] == f"use {SECRET}"
    assert response.result == {"said": "key [REDACTED:secrets]"}
    [row] = door.rows(session)
    stored = b'{"path":"a","text":"use [REDACTED:secrets]"}'
    assert door.artifact(row.args_artifact_id) == stored
    [told] = door.told("tool_call")
    assert told["args_hash"] == hashlib.sha256(stored).hexdigest()
    assert told["result_hash"] == hashlib.sha256(b'{"said":"key [REDACTED:secrets]"}').hexdigest()
    assert SECRET not in str(told)


@requirement("gate.redaction.before_hash")
async def test_secret_across_parts_of_a_result_is_not_returned() -> None:
    door = await Door.open()
    session = await door.session("fs.write")
    door.tool.script = lambda args, context: ToolResult({"more": "hunter", "said": "x"})
    for secret in ('hunter","said":"x', '"more":"hunter",'):
        door.known.add(secret)
        assert fault(await door.call(session))[0] == "output_unredactable"
    assert all(one["result_hash"] is None for one in door.told("tool_call"))


@requirement("gate.payload.limit")
async def test_large_payloads_go_by_reference() -> None:
    door = await Door.open()
    session = await door.session("fs.write")
    long = {"path": "a", "text": "x" * MAX_INLINE_PAYLOAD_BYTES}
    assert fault(await door.call(session, long))[2] == "arguments_too_large"
    door.tool.script = lambda args, context: ToolResult({"said": "y" * MAX_INLINE_PAYLOAD_BYTES})
    first = await door.call(session)
    assert isinstance(first.result_ref, str)
    assert first.result is msgspec.UNSET
    data = door.artifact(first.result_ref)
    assert data == b'{"said":"' + b"y" * MAX_INLINE_PAYLOAD_BYTES + b'"}'
    door.define(defined(tool_id="notes.said", input_schema={"type": "object", "properties": {"said": {}, "path": {}}}))
    by_reference: dict[str, Any] = {"tool_id": "notes.said", "args": ..., "args_ref": first.result_ref}
    assert (await door.call(session, **by_reference)).ok
    assert door.tool.calls[-1][1] == msgspec.json.decode(data or b"")
    assert door.told("tool_call")[-1]["args_ref"] == first.result_ref
    other = await door.session("fs.write")
    assert fault(await door.call(other, **by_reference))[2] == "arguments_unknown"
    assert fault(await door.call(session, **by_reference | {"args_ref": "0" * 64}))[2] == "arguments_unknown"


@requirement("gate.payload.limit")
@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({"said": "z" * (MAX_TOOL_PAYLOAD_BYTES + 1)}, "output_too_large"),
        ({"said": 5}, "output_invalid"),
        ({}, "output_invalid"),
        ({"said": {1, 2}}, "output_invalid"),
        ({"said": "a", "b": float("nan")}, "output_invalid"),
    ],
)
async def test_result_that_does_not_fit_is_an_error(value: dict[str, Any], code: str) -> None:
    door = await Door.open()
    session = await door.session("fs.write")
    door.tool.script = lambda args, context: ToolResult(value, Touched(files=("a",)))
    assert fault(await door.call(session))[:2] == (code, "tool")
    [told] = door.told("tool_call")
    assert (told["ok"], told["error"]["code"], told["resources"]["files_count"]) == (False, code, 1)


@requirement("gate.idempotency.returns_recorded")
async def test_same_key_gives_the_recorded_result_without_a_second_effect() -> None:
    door = await Door.open()
    session = await door.session("fs.write:src/**")
    first = await door.call(session, idempotency_key="k", tool_call_id="one")
    again = await door.call(session, idempotency_key="k", tool_call_id="two")
    same = await door.call(session, idempotency_key="k", tool_call_id="one")
    assert first.result == again.result == same.result == {"said": "src/a.py"}
    assert len(door.tool.calls) == 1
    assert fault(await door.call(session, {"path": "src/b"}, idempotency_key="k"))[2] == "key_reused"
    assert [one["ok"] for one in door.told("tool_call")] == [True, True, True, False]
    other = await door.session("fs.write:docs/**")
    assert (await door.call(other, {"path": "docs/a"}, idempotency_key="k")).ok
    assert len(door.tool.calls) == 2


@requirement("gate.idempotency.returns_recorded")
async def test_key_of_a_failed_call_gives_its_error() -> None:
    door = await Door.open()
    session = await door.session("fs.write")
    door.tool.script = failing(ToolFailed("disk_full", "No room."))
    answers = [await door.call(session, idempotency_key="k") for _ in range(2)]
    assert [fault(one)[:2] for one in answers] == [("disk_full", "tool")] * 2
    assert len(door.tool.calls) == 1


@requirement("gate.idempotency.returns_recorded")
async def test_key_of_a_call_that_still_runs_is_in_use() -> None:
    door = await Door.open()
    session = await door.session("fs.write")
    going_on = asyncio.Event()

    async def slow(args: Any, context: ToolContext) -> ToolResult:
        await going_on.wait()
        return ToolResult({"said": "done"})

    door.tool.script = slow
    async with asyncio.TaskGroup() as group:
        first = group.create_task(door.call(session, idempotency_key="k"))
        await door.tool.reached.wait()
        assert fault(await door.call(session, idempotency_key="k"))[2] == "key_in_use"
        going_on.set()
    assert first.result().result == {"said": "done"}
    assert len(door.tool.calls) == 1


async def test_id_of_a_call_is_used_once() -> None:
    door = await Door.open()
    session = await door.session("fs.write:src/**")
    assert (await door.call(session, tool_call_id="one")).ok
    assert fault(await door.call(session, tool_call_id="one"))[2] == "call_id_repeated"
    other = await door.session("fs.write:docs/**")
    assert (await door.call(other, {"path": "docs/a"}, tool_call_id="one")).ok
    assert len(door.rows(session)) == 1
    assert len(door.told("tool_call")) == 3


async def test_revoked_grant_is_refused_at_the_next_check() -> None:
    door = await Door.open()
    session = await door.session("fs.write")
    assert (await door.call(session)).ok
    door.policy.revoke(session)
    assert fault(await door.call(session))[0] == "HSK-403-CAPABILITY"


@requirement("gate.failure.denies")
async def test_gate_that_raises_denies() -> None:
    door = await Door.open()
    session = await door.session("fs.write")
    door.policy.broken = RuntimeError("a policy that nobody can read")
    assert fault(await door.call(session)) == ("HSK-403-CAPABILITY", "policy", "policy_unreadable")
    assert [one["decision_outcome"] for one in door.told("capability.decision")] == ["deny"]
    assert len(door.told("tool_call")) == 1
    door.policy.broken = None
    del door.policy.spent
    assert fault(await door.call(session))[1:] == ("policy", "policy_unreadable")
    assert door.tool.calls == []


@requirement("gate.failure.denies")
async def test_store_that_fails_denies() -> None:
    door = await Door.open()
    session = await door.session("fs.write")
    await door.store.close()
    assert fault(await door.call(session))[:2] == ("HSK-507-STORE", "policy")
    call = ModelCall(
        origin=LOCAL, session_id=session, trace_id=TRACE, tool_call_id="m", tool_id="notes.write",
        arguments='{"path":"a"}', model_id="tiny",
    )  # fmt: skip
    with pytest.raises(StoreFailed):
        await door.gate.call_of_model(call)
    assert door.tool.calls == []


@requirement("gate.failure.denies")
async def test_gate_that_takes_too_long_denies() -> None:
    door = await Door.open()
    session = await door.session("fs.write")
    asked = door.gate._reader.envelope(door.envelope(session), LOCAL)
    begun = await door.records.begin(asked, has_sandbox=True, deadline_us=door.stage.clock.now_us() - 1, settle=None)
    assert begun.settled is not None
    assert fault(begun.settled.response) == ("HSK-403-CAPABILITY", "policy", "gate_timeout")
    write = door.store.write

    async def slow(unit: Any, **given: Any) -> Any:
        done = await write(unit, **given)
        door.stage.clock.advance(GATE_DECISION_MS * 1_000 + 1)
        return done

    door.store.write = slow  # type: ignore[method-assign]
    assert fault(await door.call(session))[2] == "gate_timeout"
    assert door.tool.calls == []
    assert [one.state for one in door.rows(session)] == [ToolCallState.ENDED] * 2


def failing(broken: Exception) -> Any:
    def script(args: Any, context: ToolContext) -> ToolResult:
        raise broken

    return script


@pytest.mark.parametrize(
    ("broken", "code", "kind"),
    [
        (ToolFailed("not_found", "No such file."), "not_found", "tool"),
        (ToolFailed("late", "Too late.", timeout=True, retryable=True), "late", "timeout"),
        (ToolFailed("odd code\n", ""), "odd_code_", "tool"),
        (StoreFailed(reason="x"), "HSK-507-STORE", "tool"),
        (ZeroDivisionError(), "adapter_failed", "tool"),
    ],
)
async def test_tool_that_fails_ends_its_call(broken: Exception, code: str, kind: str) -> None:
    door = await Door.open()
    session = await door.session("fs.write")
    door.tool.script = failing(broken)
    response = await door.call(session)
    assert fault(response)[:2] == (code, kind)
    [row] = door.rows(session)
    assert (row.state, row.error_code) == (ToolCallState.ENDED, code)
    assert [one["ok"] for one in door.told("tool_call")] == [False]


@pytest.mark.parametrize("is_stubborn", [False, True])
async def test_tool_that_does_not_end_is_cut_after_its_time(is_stubborn: bool) -> None:
    door = await Door.open()
    door.define(defined(tool_id="notes.slow", timeout_ms=5))
    session = await door.session("fs.write")

    async def forever(args: Any, context: ToolContext) -> ToolResult:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if not is_stubborn:
                raise
        return ToolResult({"said": "too late"})

    door.tool.script = forever
    assert fault(await door.call(session, tool_id="notes.slow"))[:2] == ("timeout", "timeout")
    assert door.tool.running == 0
    assert [one["error"]["kind"] for one in door.told("tool_call")] == ["timeout"]


async def test_cut_call_is_told_as_cancelled() -> None:
    door = await Door.open()
    session = await door.session("fs.write")

    async def forever(args: Any, context: ToolContext) -> ToolResult:
        await asyncio.Event().wait()
        raise AssertionError("it waits for ever")

    door.tool.script = forever
    settled: list[Settled] = []
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(door.call(session, settle=lambda tx, one: settled.append(one)))
        await door.tool.reached.wait()
        waiting.cancel()
    assert waiting.cancelled()
    assert door.tool.running == 0
    [row] = door.rows(session)
    assert (row.state, row.error_code) == (ToolCallState.ENDED, "canceled")
    assert [one["error"]["kind"] for one in door.told("tool_call")] == ["canceled"]
    assert [fault(one.response)[0] for one in settled] == ["canceled"]


async def test_call_that_is_cut_while_it_is_decided_about_is_not_left_begun() -> None:
    door = await Door.open()
    session = await door.session("fs.write")
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(door.call(session))
        await asyncio.sleep(0)
        waiting.cancel()
    assert door.tool.calls == []
    assert [one.state for one in door.rows(session)] in ([], [ToolCallState.ENDED])
    door.told("tool_call")
