"""Tests of runs that use tools, on a whole runtime in memory: calls, results, approvals, cuts and restarts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from handshake.kernel.desk import DeskState
from handshake.kernel.errors import InvalidTransition, StateConflict
from handshake.kernel.job import JobState, JobStep
from handshake.kernel.message import MessageRole
from handshake.kernel.session import SessionState
from handshake.kernel.session_checkpoint import Trigger
from handshake.kernel.settings import DESK_TOOL_APPROVAL_EXPIRY_S
from handshake.kernel.tool import Idempotency
from handshake.kernel.tool_call import ToolCallState
from handshake.kernel.tool_message import CalledTool, read_answer, read_call
from handshake.kernel.units import US_PER_S
from handshake.operations import cancelling, records, tool_calls, views
from handshake.operations.feed import AwaitingUser, Over, ToolEnded, ToolStarted
from handshake.ports.tool import ToolContext, ToolFailed, ToolResult
from handshake.testing.scripted_model import ScriptedModel, Step
from handshake.testing.scripted_tool import ScriptedTool, defined
from handshake.workspace import SessionHandle
from tests.requirement import requirement
from tests.running import Scene, scene

WRITE = "notes__write"


def call(path: str = "src/a.md", number: int = 0) -> CalledTool:
    return CalledTool(f"call_{number}", WRITE, json.dumps({"path": path}))


def trusted_tool() -> ScriptedTool:
    """Return a tool whose results taint nobody."""
    return ScriptedTool(lambda args, context: ToolResult({"said": str(args["path"])}, is_trusted=True))


def asking(*calls: CalledTool) -> ScriptedModel:
    """Return a model that asks for `calls` when it is spoken to, and tells what it heard of the last one."""

    def script(text: str) -> Sequence[Step]:
        if not text.startswith("{"):
            return ("I will.", *calls)
        answer = read_answer(text)
        return (f"error {json.loads(answer.content)['code']}" if answer.is_error else f"heard {answer.content}",)

    return ScriptedModel(script)


async def roles(session: SessionHandle) -> list[MessageRole]:
    return [one.message.role for one in await session.messages()]


async def jobs(stage: Scene, session: SessionHandle) -> list[tuple[JobState, JobStep]]:
    found = stage.runtime.store.read_now(lambda reader: views.jobs(reader, session_id=session.session_id))
    return [(one.state, one.step) for one in found]


async def answered(stage: Scene, session: SessionHandle, text: str = "Go.") -> str | None:
    turn = await session.send(text)
    await stage.settle()
    return (await turn.result()).text


@requirement("gate.result.correlated")
async def test_each_result_answers_its_call_in_the_thread_and_the_turn_goes_on() -> None:
    model, tool = asking(call("src/a.md", 0), call("src/b.md", 1)), trusted_tool()
    async with scene(model, tool=tool) as stage:
        session = await stage.create(grants=["fs.write:src/**"])
        turn = await session.send("Go.")
        await stage.settle()
        result = await turn.result()
        assert result.text == 'heard {"said":"src/b.md"}'
        assert result.state is JobState.COMPLETED
        assert [args["path"] for _, args, _ in tool.calls] == ["src/a.md", "src/b.md"]
        said = await session.messages()
        assert [one.message.role.value for one in said] == [
            "USER", "ASSISTANT", "TOOL_CALL", "TOOL_CALL", "TOOL_RESULT", "TOOL_RESULT", "ASSISTANT",
        ]  # fmt: skip
        asked = [read_call(one.text).call_id for one in said if one.message.role is MessageRole.TOOL_CALL]
        told = [read_answer(one.text).call_id for one in said if one.message.role is MessageRole.TOOL_RESULT]
        assert asked == told == ["call_0", "call_1"]
        assert await jobs(stage, session) == [
            (JobState.COMPLETED, JobStep.TOOLS),
            (JobState.COMPLETED, JobStep.CALL),
        ]
        assert (await session.show()).state is SessionState.IDLE
        stage.check()


async def test_who_listens_to_a_turn_hears_its_tools_and_the_run_that_goes_on() -> None:
    async with scene(asking(call()), tool=trusted_tool()) as stage:
        session = await stage.create(grants=["fs.write:src/**"])
        turn = await session.send("Go.")
        await stage.settle()
        pieces = [piece async for piece in turn]
        assert [type(one) for one in pieces if isinstance(one, ToolStarted | ToolEnded | Over)].count(Over) == 1
        assert [one.tool_id for one in pieces if isinstance(one, ToolStarted)] == ["notes.write"]
        assert [one.error_code for one in pieces if isinstance(one, ToolEnded)] == [None]
        assert "heard" in "".join(getattr(one, "text", "") for one in pieces)


@requirement("recovery.checkpoint.points")
async def test_every_completed_call_is_a_checkpoint() -> None:
    async with scene(asking(call("src/a.md", 0), call("src/b.md", 1)), tool=trusted_tool()) as stage:
        session = await stage.create(grants=["fs.write:src/**"])
        await answered(stage, session)
        made = [one.payload["trigger"] for one in stage.check().of("checkpoint.created")]
        assert made.count(Trigger.TOOL_CALL.value) == 2


async def test_a_session_without_grants_is_offered_no_tool_and_a_call_of_one_is_denied() -> None:
    model, tool = asking(call()), trusted_tool()
    async with scene(model, tool=tool) as stage:
        assert await answered(stage, await stage.create()) == "error HSK-403-CAPABILITY"
        assert not tool.calls
        assert b"tools" not in model.bodies[0]
        other = await stage.create(grants=["fs.write:src/**"])
        await answered(stage, other)
        assert json.loads(model.bodies[-1])["tools"] == [WRITE]


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (CalledTool("call_0", "nobody__knows", "{}"), "HSK-404-NOT-FOUND"),
        (CalledTool("call_0", WRITE, "{"), "HSK-400-INVALID-REQUEST"),
        (CalledTool("call_0", WRITE, '{"path":"a","path":"b"}'), "HSK-400-INVALID-REQUEST"),
        (CalledTool("call_0", WRITE, '{"path":1}'), "HSK-400-INVALID-REQUEST"),
        (CalledTool("call_0", WRITE, '{"path":"../a"}'), "HSK-400-INVALID-REQUEST"),
        (CalledTool("call_0", WRITE, '{"path":"docs/a"}'), "HSK-403-CAPABILITY"),
        (CalledTool("call_0", "x" * 5_000, "{}"), "HSK-404-NOT-FOUND"),
    ],
)
async def test_a_call_that_is_refused_is_an_error_for_its_model_and_the_turn_goes_on(
    wrong: CalledTool, code: str
) -> None:
    tool = trusted_tool()
    async with scene(asking(wrong), tool=tool) as stage:
        session = await stage.create(grants=["fs.write:src/**"])
        assert await answered(stage, session) == f"error {code}"
        assert not tool.calls
        assert len(stage.check().of("tool_call")) == 1


async def test_what_a_tool_fails_with_is_told_to_its_model() -> None:
    def fail(args: Mapping[str, Any], context: ToolContext) -> ToolResult:
        raise ToolFailed("no_room", "There is no room.")

    async with scene(asking(call()), tool=ScriptedTool(fail)) as stage:
        assert await answered(stage, await stage.create(grants=["fs.write:src/**"])) == "error no_room"


@requirement("gate.approval.resumes_work", "gate.approval.bound_to_call")
async def test_an_approved_call_is_made_once_and_the_run_goes_on() -> None:
    model, tool = asking(call()), trusted_tool()
    async with scene(model, tool=tool) as stage:
        session = await stage.create(grants=["ask:fs.write:src/**"])
        turn = await session.send("Go.")
        await stage.settle()
        assert (await session.show()).state is SessionState.BLOCKED
        assert await jobs(stage, session) == [(JobState.AWAITING_USER, JobStep.TOOLS)]
        assert stage.runtime.queue.usage.total == 0
        assert not tool.calls
        (question,) = await stage.workspace.desk.waiting()
        assert question.item.tool_id == "notes.write"
        stage.check()
        with pytest.raises(StateConflict):
            await question.approve(shown="0" * 64)
        await question.approve(shown=question.sha256)
        await stage.settle()
        assert (await turn.result()).text == 'heard {"said":"src/a.md"}'
        assert len(tool.calls) == 1
        assert len(model.bodies) == 2, "resuming does not call the provider again"
        with pytest.raises(InvalidTransition):
            await question.approve(shown=question.sha256)
        await session.send("Again.")
        await stage.settle()
        (again,) = await stage.workspace.desk.waiting()
        assert again.item.call_sha256 == question.item.call_sha256
        assert len(tool.calls) == 1, "once is once"
        stage.check()


@requirement("gate.approval.resumes_work")
async def test_a_denied_call_is_an_error_for_its_model_and_its_run_goes_on() -> None:
    tool = trusted_tool()
    async with scene(asking(call("src/a.md", 0), call("docs/b.md", 1)), tool=tool) as stage:
        session = await stage.create(grants=["ask:fs.write:src/**", "fs.write:docs/**"])
        turn = await session.send("Go.")
        await stage.settle()
        (question,) = await stage.workspace.desk.waiting()
        await question.deny()
        await stage.settle()
        assert (await turn.result()).text == 'heard {"said":"docs/b.md"}'
        assert [args["path"] for _, args, _ in tool.calls] == ["docs/b.md"]
        said = [one for one in await session.messages() if one.message.role is MessageRole.TOOL_RESULT]
        assert [read_answer(one.text).is_error for one in said] == [True, False]
        assert "denied_by_person" in said[0].text
        stage.check()


async def test_a_question_that_nobody_answers_is_a_refusal_in_the_end() -> None:
    async with scene(asking(call()), tool=trusted_tool()) as stage:
        session = await stage.create(grants=["ask:fs.write:src/**"])
        turn = await session.send("Go.")
        await stage.settle()
        for _ in range(26):
            await stage.pass_time(3_600 * US_PER_S)
        assert DESK_TOOL_APPROVAL_EXPIRY_S < 26 * 3_600
        assert (await turn.result()).text == "error approval_expired"
        assert await stage.workspace.desk.waiting() == []
        stage.check()


@pytest.mark.parametrize(("words", "asked_again"), [("once", True), ("turn", True), ("session", False), ("2h", False)])
async def test_an_approval_lasts_as_long_as_the_person_said(words: str, asked_again: bool) -> None:
    tool = trusted_tool()
    async with scene(asking(call()), tool=tool) as stage:
        session = await stage.create(grants=["ask:fs.write:src/**"])
        await session.send("Go.")
        await stage.settle()
        (question,) = await stage.workspace.desk.waiting()
        await question.approve(shown=question.sha256, lasting=words)
        await stage.settle()
        await session.send("Again.")
        await stage.settle()
        assert bool(await stage.workspace.desk.waiting()) is asked_again
        assert len(tool.calls) == (1 if asked_again else 2)
        stage.check()


@requirement("capability.revoke.acts_at_once")
async def test_what_is_revoked_while_a_person_thinks_is_not_made() -> None:
    tool = trusted_tool()
    async with scene(asking(call()), tool=tool) as stage:
        session = await stage.create(grants=["ask:fs.write:src/**"])
        turn = await session.send("Go.")
        await stage.settle()
        (question,) = await stage.workspace.desk.waiting()
        (grant,) = [one for one in await session.grants() if str(one.capability).startswith("fs.")]
        await stage.workspace.grants.revoke(grant.grant_id)
        await question.approve(shown=question.sha256)
        await stage.settle()
        assert (await turn.result()).text == "error HSK-403-CAPABILITY"
        assert not tool.calls


async def test_cancelling_cuts_the_tool_that_is_at_work() -> None:
    async def hang(args: Mapping[str, Any], context: ToolContext) -> ToolResult:
        await asyncio.Event().wait()
        raise AssertionError("nothing sets it")

    tool = ScriptedTool(hang)
    async with scene(asking(call("src/a.md", 0), call("src/b.md", 1)), tool=tool) as stage:
        session = await stage.create(grants=["fs.write:src/**"])
        turn = await session.send("Go.")
        await stage.settle()
        assert tool.running == 1
        await turn.cancel()
        await stage.settle()
        assert tool.running == 0
        assert (await turn.result()).state is JobState.CANCELLED
        calls = stage.runtime.store.read_now(lambda reader: tool_calls.calls(reader, session.session_id))
        assert [one.state for one in calls] == [ToolCallState.ENDED, ToolCallState.ENDED]
        assert stage.runtime.queue.usage.total == 0
        stage.check()


@requirement("scheduler.cancel.checked_at_tool_boundary")
@pytest.mark.parametrize("cut", [True, False], ids=["told", "not told"])
async def test_a_cancel_between_two_calls_prevents_the_second(cut: bool) -> None:
    """The flag in the store is enough: also if nobody told the attempt, the gate looks before it begins a call."""
    held: list[Scene] = []

    async def cancel(args: Mapping[str, Any], context: ToolContext) -> ToolResult:
        runtime = held[0].runtime
        assert context.job_id is not None
        job_id = context.job_id
        result = await runtime.store.write(
            lambda tx: cancelling.cancel_run(
                tx, runtime.queue, records.job(tx, job_id), reason="operator", by="operator"
            )
        )
        if cut:
            runtime.dispatcher.cut(job_id, result.open_attempt or 0)
        return ToolResult({"said": "first"}, is_trusted=True)

    tool = ScriptedTool(cancel)
    async with scene(asking(call("src/a.md", 0), call("src/b.md", 1)), tool=tool) as stage:
        held.append(stage)
        session = await stage.create(grants=["fs.write:src/**"])
        turn = await session.send("Go.")
        await stage.settle()
        assert [args["path"] for _, args, _ in tool.calls] == ["src/a.md"]
        job = stage.runtime.store.read_now(lambda reader: records.job(reader, turn.job_id))
        assert job.state is JobState.CANCELLED
        calls = stage.runtime.store.read_now(lambda reader: tool_calls.calls(reader, session.session_id))
        assert [one.state for one in calls] == [ToolCallState.ENDED, ToolCallState.ENDED]
        assert await stage.workspace.job(turn.job_id) == job
        assert [one.message.role for one in await session.messages()][-1] is MessageRole.TOOL_CALL
        stage.check()


async def test_cancelling_a_turn_that_waits_for_a_person_withdraws_the_question() -> None:
    async with scene(asking(call()), tool=trusted_tool()) as stage:
        session = await stage.create(grants=["ask:fs.write:src/**"])
        turn = await session.send("Go.")
        await stage.settle()
        (question,) = await stage.workspace.desk.waiting()
        await turn.cancel()
        await stage.settle()
        assert (await stage.workspace.desk.show(question.item.item_id)).item.state is DeskState.WITHDRAWN
        assert (await session.show()).state is SessionState.IDLE
        calls = stage.runtime.store.read_now(lambda reader: tool_calls.calls(reader, session.session_id))
        assert [one.state for one in calls] == [ToolCallState.ENDED]
        stage.check()


@pytest.mark.parametrize("repeatable", [True, False])
@requirement("recovery.checkpoint.points")
async def test_a_call_that_a_dead_runtime_had_begun_is_made_again_only_if_it_may_be(repeatable: bool) -> None:
    hold = asyncio.Event()

    async def hang(args: Mapping[str, Any], context: ToolContext) -> ToolResult:
        await hold.wait()
        return ToolResult({"said": "late"})

    kind = Idempotency.IDEMPOTENT if repeatable else Idempotency.NON_IDEMPOTENT
    definitions = (defined(idempotency=kind),)
    first = ScriptedTool(hang)
    async with scene(asking(call()), tool=first, definitions=definitions) as stage:
        session = await stage.create(grants=["fs.write:src/**"])
        turn = await session.send("Go.")
        await stage.settle()
        assert first.running == 1
        second = trusted_tool()
        async with scene(asking(call()), memory=stage.memory, tool=second, definitions=definitions) as after:
            await after.settle()
            job = after.runtime.store.read_now(lambda reader: records.job(reader, turn.job_id))
            if repeatable:
                assert job.state is JobState.COMPLETED
            else:
                assert job.state is JobState.STALLED
                assert not second.calls
                (question,) = await after.workspace.desk.waiting()
                assert question.item.reason == "outcome_unknown"
                await question.approve(shown=question.sha256)
                await after.settle()
            assert len(second.calls) == 1
            hold.set()
            await after.settle()
            after.check()


async def test_awaiting_is_told_to_who_listens() -> None:
    async with scene(asking(call()), tool=trusted_tool()) as stage:
        session = await stage.create(grants=["ask:fs.write:src/**"])
        turn = await session.send("Go.")
        await stage.settle()
        (question,) = await stage.workspace.desk.waiting()
        await question.approve(shown=question.sha256)
        await stage.settle()
        waits = [one async for one in turn if isinstance(one, AwaitingUser)]
        assert [one.reason for one in waits] == ["asked_by_grant"]
