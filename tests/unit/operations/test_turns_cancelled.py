"""Tests of turns that are cancelled: what a cancel meets at each point of an attempt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from handshake.gate.egress import Finished, TextPiece
from handshake.kernel.errors import InvalidTransition
from handshake.kernel.ids import ModelId
from handshake.kernel.job import Backend, JobState
from handshake.ports.model import EgressPass, ModelCall
from handshake.testing.scripted_model import ScriptedModel
from handshake.workspace import TurnHandle
from tests.requirement import requirement
from tests.running import Scene, scene, settings_of
from tests.unit.operations.acting_model import Acting, left_by


class Slow(ScriptedModel):
    """A model that takes its time at every point, and closes only when it may."""

    def __init__(self) -> None:
        super().__init__(lambda _: ("one ", "two ", self.middle, "three"))
        self.placing, self.middle, self.closing = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.placing.set()
        self.closing.set()
        self.closed = 0

    async def backend(self, model_id: ModelId) -> Backend:
        await self.placing.wait()
        return await super().backend(model_id)

    async def answer(self, egress_pass: EgressPass, call: ModelCall) -> AsyncGenerator[TextPiece | Finished, None]:
        pieces = super().answer(egress_pass, call)
        try:
            async for piece in pieces:
                yield piece
        finally:
            await pieces.aclose()
            await self.closing.wait()
            self.closed += 1


async def started(one: Scene, *, opened: bool = True) -> TurnHandle:
    turn = await (await one.create()).send("a")
    if opened:
        await one.settle()
    return turn


async def expect_cancelled(one: Scene, turn: TurnHandle, *, sent: int) -> None:
    result = await turn.result()
    await one.settle()
    assert (result.state, result.reason, result.error_code, result.text) == (JobState.CANCELLED, "operator", None, None)
    assert one.runtime.dispatcher.live_count == 0
    assert one.runtime.queue.usage.largest() == {}
    assert one.runtime.queue.usage.total == 0
    found = one.check()
    assert [event.type for event in found.events].count("session_scheduler.cancelled") == 1
    assert found.of("llm_inference") == []
    assert sent == len(found.of("session_scheduler.dispatch"))


@requirement("scheduler.cancel.is_prompt")
async def test_a_cancel_before_the_attempt_began_opens_nothing() -> None:
    model = Slow()
    async with scene(model) as one:
        turn = await started(one, opened=False)
        assert one.runtime.dispatcher.cut(turn.job_id, 1)  # the task was made, and has not run yet
        await turn.cancel()
        await expect_cancelled(one, turn, sent=1)
        assert model.bodies == []


@requirement("scheduler.cancel.is_prompt")
async def test_a_cancel_while_the_call_is_being_opened_sends_nothing() -> None:
    model = Slow()
    async with scene(model) as one:
        session = await one.create()
        model.placing.clear()
        turn = await session.send("a")
        await one.settle()
        await turn.cancel()
        await expect_cancelled(one, turn, sent=1)
        assert model.bodies == []


@requirement("scheduler.cancel.is_prompt", "scheduler.cancel.is_deterministic")
async def test_a_cancel_in_the_middle_of_a_stream_closes_the_connection() -> None:
    model = Slow()
    async with scene(model) as one:
        turn = await started(one)
        assert model.open_calls == 1
        result = await turn.cancel()
        assert (result.cancelled, result.may_have_left, result.open_attempt) == (True, True, 1)
        await expect_cancelled(one, turn, sent=1)
        assert (model.open_calls, model.closed) == (0, 1)
        assert left_by(one) == [("late_answer", b"one two ")]
        again = await turn.cancel()
        assert again.cancelled


@requirement("scheduler.cancel.is_prompt", "scheduler.limit.is_never_exceeded")
async def test_slots_of_the_provider_stay_taken_while_the_connection_does_not_close() -> None:
    model = Slow()
    async with scene(model, settings_of(each=1)) as one:
        turn = await started(one)
        model.closing.clear()
        await turn.cancel()
        assert (await turn.result()).state is JobState.CANCELLED
        other = await (await one.create()).send("b")
        await one.settle()
        assert (await one.workspace.job(other.job_id)).state is JobState.QUEUED
        assert one.runtime.queue.usage.total == 0
        model.middle.set()
        model.closing.set()
        assert (await other.result()).state is JobState.COMPLETED
        one.check()


@requirement("scheduler.cancel.is_deterministic", "session.state.terminal_is_sticky")
@pytest.mark.parametrize("first", ["cancel", "answer"])
async def test_a_cancel_beside_the_whole_answer_is_decided_by_who_came_first(first: str) -> None:
    turns: list[TurnHandle] = []
    cancels: list[asyncio.Task[Any]] = []

    async def act() -> AsyncGenerator[TextPiece | Finished, None]:
        yield TextPiece("whole")
        cancels.append(asyncio.ensure_future(turns[0].cancel()))
        if first == "cancel":
            await asyncio.sleep(0)
        yield Finished("stop", None)

    async with scene(Acting(act)) as one:
        turns.append(await (await one.create()).send("a"))
        result = await turns[0].result()
        (outcome,) = await asyncio.gather(*cancels, return_exceptions=True)
        await one.settle()
        assert result.state is (JobState.CANCELLED if first == "cancel" else JobState.COMPLETED)
        assert isinstance(outcome, InvalidTransition) is (first == "answer")
        assert left_by(one) == ([("late_answer", b"whole")] if first == "cancel" else [])
        assert one.runtime.queue.usage.largest() == {}
        one.check()


async def test_cancelling_a_session_cuts_its_call_and_ends_all_its_turns() -> None:
    model = Slow()
    async with scene(model) as one:
        session = await one.create()
        turns = [await session.send(text) for text in "abc"]
        await one.settle()
        ended = await session.cancel()
        assert len(ended.job_ids) == 3
        assert [(await turn.result()).state for turn in turns] == [JobState.CANCELLED] * 3
        await one.settle()
        assert (model.open_calls, one.runtime.queue.usage.largest()) == (0, {})
        one.check()


async def test_a_loop_that_stops_without_the_runtime_loses_no_run() -> None:
    model = Slow()
    async with scene(model) as one:
        turn = await started(one)
        (live,) = one.runtime.dispatcher._live.values()
        live.task.cancel()
        await one.settle()
        job = await one.workspace.job(turn.job_id)
        assert (job.state, job.attempt) == (JobState.RUNNING, 2)
        model.middle.set()
        assert (await turn.result()).state is JobState.COMPLETED
        one.check()
