"""Tests of calls that wait for a person: of runs and of others, side by side, asked again, and left behind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from handshake.kernel.desk import DeskState
from handshake.kernel.htc import CallError, ToolResponse
from handshake.kernel.job import JobState
from handshake.kernel.session import SessionState
from handshake.kernel.settings import MAX_ASKED_CALLS_PER_SESSION
from handshake.kernel.tool_call import ToolCallState
from handshake.kernel.tool_message import CalledTool
from handshake.operations import desk, tool_calls
from handshake.ports.tool import ToolContext, ToolResult
from handshake.scheduler import recovery
from handshake.testing.scripted_model import ScriptedModel, Step
from handshake.testing.scripted_tool import ScriptedTool
from handshake.workspace import SessionHandle
from tests.gating import LOCAL, Door
from tests.requirement import requirement
from tests.running import Scene, scene

WRITE = "notes__write"
PATH = "src/quiet-place.md"


def writing(**args: Any) -> CalledTool:
    return CalledTool("call_0", WRITE, json.dumps({"path": PATH} | args))


def acting(*answers: CalledTool) -> ScriptedModel:
    """Return a model that asks for one call after another, whatever it hears, and then says that it is done."""
    left = list(answers)

    def script(text: str) -> tuple[Step, ...]:
        return ("I will.", left.pop(0)) if left else ("Done.",)

    return ScriptedModel(script)


def vouched() -> ScriptedTool:
    return ScriptedTool(lambda args, context: ToolResult({"said": str(args["path"])}, is_trusted=True))


def reason(response: ToolResponse) -> object:
    assert isinstance(response.error, CallError)
    return response.error.details["reason"]


def open_calls(stage: Scene, session: SessionHandle) -> int:
    return len(stage.runtime.store.read_now(lambda reader: tool_calls.open_calls(reader, session.session_id)))


async def outside(stage: Scene, session: SessionHandle, path: str = PATH) -> ToolResponse:
    """Call the tool as a client does, without a run."""
    return await stage.workspace.tools.call(session.session_id, "notes.write", {"path": path})


@requirement("gate.approval.resumes_work")
@pytest.mark.parametrize("approved", [True, False])
async def test_the_same_call_of_a_client_and_of_a_run_are_two_questions(approved: bool) -> None:
    tool = vouched()
    async with scene(acting(writing()), tool=tool) as stage:
        session = await stage.create(grants=["ask:fs.write:src/**"])
        assert reason(await outside(stage, session)) == "asked_by_grant"
        turn = await session.send("Go.")
        await stage.settle()
        clients, runs = await stage.workspace.desk.waiting()
        assert clients.item.job_id is None
        assert runs.item.job_id is not None
        stage.check()
        await (clients.approve(shown=clients.sha256) if approved else clients.deny())
        await stage.settle()
        assert (await session.show()).state is SessionState.BLOCKED, "the answer to a client is none to the run"
        stage.check()
        await (runs.approve(shown=runs.sha256) if approved else runs.deny())
        await stage.settle()
        assert (await turn.result()).state is JobState.COMPLETED
        assert len(tool.calls) == int(approved)
        assert (await outside(stage, session)).ok is approved, "each answer is good for one call"
        assert len(tool.calls) == 2 * approved
        stage.check()


async def test_a_client_that_asks_again_and_again_leaves_one_call_that_waits() -> None:
    async with scene(acting(), tool=vouched()) as stage:
        session = await stage.create(grants=["ask:fs.write:src/**"])
        for _ in range(5):
            assert reason(await outside(stage, session)) == "asked_by_grant"
        assert open_calls(stage, session) == 1
        (question,) = await stage.workspace.desk.waiting()
        assert len(stage.check().of("tool_call")) == 5
        await question.approve(shown=question.sha256)
        assert (await outside(stage, session)).ok
        stage.check()


async def test_a_session_asks_about_so_many_calls_at_one_time_and_no_more() -> None:
    async with scene(acting(), tool=vouched()) as stage:
        session = await stage.create(grants=["ask:fs.write:src/**"])
        for number in range(MAX_ASKED_CALLS_PER_SESSION):
            await outside(stage, session, f"src/{number}")
        for path in ("src/more", "src/other"):
            refused = await outside(stage, session, path)
            assert reason(refused) == "too_many_questions"
            assert isinstance(refused.error, CallError)
            assert (refused.error.code, refused.error.retryable) == ("HSK-429-RATE-LIMIT", True)
        assert reason(await outside(stage, session, "src/0")) == "asked_by_grant", "what waits is asked about already"
        other = await stage.create(grants=["ask:fs.write:docs/**"])
        assert reason(await outside(stage, other, "docs/a")) == "asked_by_grant"
        question, *_ = await stage.workspace.desk.waiting()
        await question.deny()
        assert reason(await outside(stage, session, "src/more")) == "asked_by_grant"
        stage.check()


@pytest.mark.parametrize("cancelled", [True, False])
async def test_a_session_that_ends_leaves_nothing_that_waits_for_a_person(cancelled: bool) -> None:
    async with scene(acting(), tool=vouched()) as stage:
        session = await stage.create(grants=["ask:fs.write:src/**"])
        await outside(stage, session)
        await (session.cancel() if cancelled else session.complete())
        assert await stage.workspace.desk.waiting() == []
        assert open_calls(stage, session) == 0
        items = stage.runtime.store.read_now(desk.items)
        assert [(one.state, one.decided_by) for one in items] == [(DeskState.WITHDRAWN, "operator")]
        (asked, ended) = stage.check().of("tool_call")
        assert (asked.payload["decision"], ended.payload["decision"]) == ("ask", "deny")


@requirement("gate.event.on_every_path")
async def test_a_call_that_a_dead_runtime_began_for_nobodys_run_is_told_by_the_next() -> None:
    door = await Door.open()
    session = await door.session("fs.write")
    asked = door.reader.envelope(door.envelope(session, idempotency_key="k"), LOCAL)
    await door.records.begin(asked, has_sandbox=True, deadline_us=2**60, settle=None)
    assert door.told("tool_call") == []
    await recovery.recover(door.store, door.stage.queue, door.stage.settings, door.stage.new_id)
    (row,) = door.rows(session)
    assert (row.state, row.reason, row.error_code) == (ToolCallState.ENDED, "outcome_unknown", "outcome_unknown")
    (told,) = door.told("tool_call")
    assert (told["tool_call_id"], told["ok"]) == (row.tool_call_id, False)
    again = await door.call(session, idempotency_key="k")
    assert reason(again) == "outcome_unknown", "a repeat with its key is no second effect"
    assert door.tool.calls == []


@requirement("trust.taint.asks_for_unbounded")
async def test_what_is_told_of_a_refusal_in_a_tainted_session_vouches_for_nothing() -> None:
    tool = ScriptedTool()  # what it gives is untrusted
    laundering = writing(path="src/first.md", **{PATH: "a name that the schema does not know is in what it says"})
    async with scene(acting(writing(path="src/first.md"), laundering, writing()), tool=tool) as stage:
        session = await stage.create(grants=["fs.write:src/**"])
        await session.send("Write src/first.md please.")
        await stage.settle()
        (question,) = await stage.workspace.desk.waiting()
        assert question.item.reason == "tainted_argument"
        assert json.loads(await question.arguments())["path"] == PATH
        assert [args["path"] for _, args, _ in tool.calls] == ["src/first.md"]
        stage.check()


@requirement("trust.taint.asks_for_unbounded", "gate.approval.bound_to_call")
async def test_what_was_approved_once_in_a_tainted_session_does_not_vouch_for_the_next_call() -> None:
    def script(args: Mapping[str, Any], context: ToolContext) -> ToolResult:
        return ToolResult({"said": f"wrote {args['path']} now"}, is_trusted=args["path"] == PATH)

    tool = ScriptedTool(script)
    calls = (writing(path="src/first.md"), writing(text="one"), writing(text="two"))
    async with scene(acting(*calls), tool=tool) as stage:
        session = await stage.create(grants=["fs.write:src/**"])
        await session.send("Write src/first.md please.")
        await stage.settle()
        (first,) = await stage.workspace.desk.waiting()
        await first.approve(shown=first.sha256)
        await stage.settle()
        (second,) = await stage.workspace.desk.waiting()
        assert json.loads(await second.arguments())["text"] == "two"
        assert second.item.reason == "tainted_argument"
        assert len(tool.calls) == 2
        stage.check()
