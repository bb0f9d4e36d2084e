"""Tests of turns: what a request is built from, how an attempt ends, and what a cancel meets at each point."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Any

import msgspec
import pytest

from handshake.gate.egress import CallLimits, Finished, TextPiece, ThreadMessage
from handshake.kernel.errors import HandshakeError, InvalidTransition, StoreFailed, Unsupported
from handshake.kernel.ids import ModelId
from handshake.kernel.job import Backend, JobState
from handshake.kernel.retry import Fault, FaultKind
from handshake.kernel.settings import MAX_REQUEST_BYTES, OFF_LOOP_BYTES, OUTCOME_RETRIES
from handshake.kernel.usage import TokenUsage
from handshake.operations import turns as turns_module
from handshake.operations.feed import Over, Piece, Retrying, Started, Text
from handshake.ports.model import EgressPass, ModelCall
from handshake.testing.memory_store import MemoryStore
from handshake.testing.scripted_model import ScriptedModel, Step
from handshake.testing.virtual_clock import VirtualClock
from handshake.workspace import TurnHandle
from tests.requirement import requirement
from tests.running import FINAL, PASSING, Scene, scene, settings_of

HOUR_US = 3_600_000_000


class Acting(ScriptedModel):
    """A local model that does what the test says, once it was asked."""

    def __init__(self, act: Callable[[], AsyncGenerator[TextPiece | Finished, None]]) -> None:
        super().__init__()
        self._act = act
        self.limits: list[CallLimits] = []

    async def answer(self, egress_pass: EgressPass, call: ModelCall) -> AsyncGenerator[TextPiece | Finished, None]:
        egress_pass.spend()
        self.limits.append(call.limits)
        async for piece in self._act():
            yield piece


async def all_of(turn: TurnHandle) -> list[Piece]:
    return [piece async for piece in turn]


def said(model: ScriptedModel) -> list[list[str]]:
    """Return the texts of every request."""
    return [[one["text"] for one in msgspec.json.decode(body)["thread"]] for body in model.bodies]


def by_word(**steps: Sequence[Step]) -> ScriptedModel:
    """Return a model that does what is given for the first word of the last message, and else says `re: TEXT`."""
    return ScriptedModel(lambda text: steps.get(text.split()[0], ("re: ", text)))


def left_by(one: Scene) -> list[Any]:
    """Return what attempts left besides their answers."""
    db = one.memory.opened.db
    return db.execute("SELECT kind, data FROM job_artifact JOIN artifact ON artifact_id = sha256").fetchall()


# -- requests ---------------------------------------------------------------------------------------------------


async def test_a_turn_is_answered_piece_by_piece() -> None:
    async with scene() as one:
        session = await one.create()
        turn = await session.send("Hello")
        assert await all_of(turn) == [Started(1), Text("You said: Hello"), Over(JobState.COMPLETED)]
        result = await turn.result()
        assert (result.text, result.usage, result.attempts) == ("You said: Hello", TokenUsage(1, 2, 3), 1)
        assert [(m.message.role, m.text) for m in await session.messages()] == [
            ("USER", "Hello"),
            ("ASSISTANT", "You said: Hello"),
        ]
        one.check()


@requirement("message.thread.rebuilds_same_bytes")
async def test_a_reloaded_thread_builds_the_same_bytes() -> None:
    texts = ["Grüße", "fail now", "e\u0301 \u202e 🙂\x00", "x" * (OFF_LOOP_BYTES + 1), "last", "{}"]

    async def bodies(*, reload: bool) -> list[bytes]:
        memory, session_id, sent = MemoryStore(clock=VirtualClock()), "", []
        for part in [[text] for text in texts] if reload else [texts]:
            model = by_word(fail=(FINAL,))
            async with scene(model, memory=memory) as one:
                session = one.workspace.sessions.get(session_id) if session_id else await one.create()
                session_id = session.session_id
                for text in part:
                    await (await session.send(text, max_output_tokens=7)).result()
            sent += model.bodies
        return sent

    once = await bodies(reload=False)
    assert await bodies(reload=True) == once
    assert len(set(once)) == len(texts)


@requirement("message.thread.rebuilds_same_bytes")
async def test_every_attempt_of_a_run_sends_the_same_bytes() -> None:
    model = by_word(retry=(PASSING,))
    async with scene(model) as one:
        session = await one.create()
        await (await session.send("before")).result()
        turn = await session.send("retry this")
        later = await session.send("later")
        for _ in range(4):
            await one.pass_time(HOUR_US)
        assert (await turn.result()).attempts == 4
        await later.result()
    assert model.bodies[1] == model.bodies[2] == model.bodies[3] == model.bodies[4]
    assert said(model)[1] == ["before", "re: before", "retry this"]


@requirement("scheduler.session.head_only")
async def test_a_request_holds_its_own_turn_and_earlier_ones_that_were_answered() -> None:
    hold = asyncio.Event()
    model = by_word(wait=("partial", hold), fail=(FINAL,))
    async with scene(model) as one:
        session = await one.create()
        turns = [await session.send(text) for text in ("wait", "fail", "drop", "c")]
        await turns[2].cancel()
        hold.set()
        await turns[-1].result()
        assert said(model) == [["wait"], ["wait", "partial", "fail"], ["wait", "partial", "c"]]
        cancelled = await session.send("wait again")
        hold.clear()
        await one.settle()
        await cancelled.cancel()
        await (await session.send("d")).result()
        assert said(model)[-1] == ["wait", "partial", "c", "re: c", "d"]


async def test_bounds_of_the_call_are_handed_on() -> None:
    async def act() -> AsyncGenerator[TextPiece | Finished, None]:
        yield Finished(None, None)

    model = Acting(act)
    async with scene(model) as one:
        session = await one.create()
        await (await session.send("a", timeout_ms=1_234)).result()
        await (await session.send("b", timeout_ms=10_000_000)).result()
        await (await session.send("c")).result()
    calls = settings_of().calls
    assert [limit.total_ms for limit in model.limits] == [1_234, 10_000_000, calls.local_timeout_ms]
    assert [limit.first_byte_ms for limit in model.limits] == [1_234, calls.first_byte_ms, calls.local_timeout_ms]
    assert [limit.idle_ms for limit in model.limits] == [1_234, calls.idle_ms, calls.local_timeout_ms]
    assert {limit.max_response_bytes for limit in model.limits} == {calls.max_response_bytes}


@pytest.mark.parametrize("limit", ["request", "thread"])
async def test_a_request_that_is_too_large_is_not_sent(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ScriptedModel()
    async with scene(model) as one:
        session = await one.create()
        size = 60 if limit == "request" else 20
        monkeypatch.setattr(turns_module, "MAX_REQUEST_BYTES", size)
        monkeypatch.setattr(turns_module, "OFF_LOOP_BYTES", 10)
        result = await (await session.send("x" * 40)).result()
        assert (result.state, result.error_code) == (JobState.FAILED, "HSK-413-TOO-LARGE")
        assert model.bodies == []
        one.check()
    assert MAX_REQUEST_BYTES > OFF_LOOP_BYTES


async def test_a_thread_that_cannot_be_rendered_fails_before_anything_is_sent() -> None:
    class Refusing(ScriptedModel):
        def render(self, model_id: ModelId, thread: Sequence[ThreadMessage], *, max_output_tokens: int | None) -> bytes:
            raise Unsupported(field="role")

    model = Refusing()
    async with scene(model) as one:
        result = await (await (await one.create()).send("a")).result()
        assert (result.state, result.reason, result.error_code) == (JobState.FAILED, "refused", "HSK-501-UNSUPPORTED")
        assert model.open_calls == len(model.bodies) == 0
        one.check()


# -- ends -------------------------------------------------------------------------------------------------------


@requirement("scheduler.retry.transient_only")
async def test_a_fault_that_passes_is_tried_again_and_told() -> None:
    faults: Iterator[Sequence[Step]] = iter([(PASSING,), (Fault(FaultKind.CONNECT),), ("fine",)])
    async with scene(ScriptedModel(lambda _: next(faults))) as one:
        turn = await (await one.create()).send("a")
        reading = asyncio.ensure_future(all_of(turn))
        await one.pass_time(HOUR_US)
        await one.pass_time(HOUR_US)
        pieces = await reading
        assert [type(piece) for piece in pieces] == [Started, Retrying, Started, Retrying, Started, Text, Over]
        assert [piece.fault for piece in pieces if isinstance(piece, Retrying)] == ["status", "connect"]
        assert (await turn.result()).attempts == 3
        one.check()


@requirement("scheduler.retry.not_after_bytes")
async def test_a_fault_after_text_ends_the_run_and_keeps_the_text() -> None:
    model = ScriptedModel(lambda _: ("Once ", "upon", Fault(FaultKind.RESET, sent=True)))
    async with scene(model) as one:
        turn = await (await one.create()).send("a")
        result = await turn.result()
        assert (result.state, result.text, result.reason, result.attempts) == (JobState.FAILED, None, "reset", 1)
        await one.pass_time(HOUR_US)
        assert len(model.bodies) == 1
        assert left_by(one) == [("partial_answer", b"Once upon")]
        one.check()


@requirement("scheduler.queue.never_drops")
@pytest.mark.parametrize("bug", [KeyError("content of a message"), RuntimeError("x"), UnicodeError("x")])
async def test_a_bug_of_an_adapter_ends_its_run_and_tells_no_content(bug: Exception) -> None:
    async def act() -> AsyncGenerator[TextPiece | Finished, None]:
        yield TextPiece("half")
        raise bug

    async with scene(Acting(act), settings_of(1, each=1)) as one:
        session = await one.create()
        for _ in range(2):
            result = await (await session.send("a")).result()
            assert (result.state, result.error_code) == (JobState.FAILED, "HSK-500-INTEGRITY")
        assert one.runtime.queue.usage.largest() == {}
        assert one.runtime.dispatcher.live_count == 0
        assert "content of a message" not in str(one.check().events)


async def test_an_adapter_that_does_not_end_its_answer_has_failed() -> None:
    async def act() -> AsyncGenerator[TextPiece | Finished, None]:
        yield TextPiece("half")

    async with scene(Acting(act)) as one:
        result = await (await (await one.create()).send("a")).result()
        assert (result.state, result.error_code) == (JobState.FAILED, "HSK-500-INTEGRITY")
        one.check()


async def test_half_a_character_from_an_adapter_does_not_lose_the_answer() -> None:
    async with scene(ScriptedModel(lambda _: ("a\ud800b",))) as one:
        result = await (await (await one.create()).send("a")).result()
        assert (result.state, result.text) == (JobState.COMPLETED, "a?b")
        one.check()


@requirement("provider.usage.missing_is_null")
@pytest.mark.parametrize("figure", [-1, 2**53, 2**70])
async def test_an_impossible_figure_is_unknown(figure: int) -> None:
    async def act() -> AsyncGenerator[TextPiece | Finished, None]:
        yield TextPiece("a")
        yield Finished("stop", TokenUsage(figure, 4, figure))

    async with scene(Acting(act)) as one:
        result = await (await (await one.create()).send("a")).result()
        assert result.usage == TokenUsage(None, 4, None)
        one.check()


# -- cancels ----------------------------------------------------------------------------------------------------


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


# -- a store that fails -----------------------------------------------------------------------------------------


def failing_store(one: Scene, failures: list[HandshakeError]) -> None:
    """Let the next outcomes fail, each with one of `failures`."""
    store = one.runtime.store
    write = store.write

    async def failing(unit: Any, *, outcome: bool = False) -> Any:
        if outcome and failures:
            raise failures.pop(0)
        return await write(unit, outcome=outcome)

    store.write = failing  # type: ignore[method-assign]


async def test_an_outcome_is_stored_as_soon_as_the_store_takes_it() -> None:
    async with scene() as one:
        session = await one.create()
        failures: list[HandshakeError] = [StoreFailed(reason="disk_full")] * 7
        failing_store(one, failures)
        turn = await session.send("a")
        for _ in range(8):
            assert (await one.workspace.job(turn.job_id)).state is not JobState.FAILED
            await one.pass_time(HOUR_US)
        assert failures == []
        assert (await turn.result()).state is JobState.COMPLETED
        one.check()


async def test_an_outcome_that_is_never_stored_leaves_its_run_to_recovery() -> None:
    memory = MemoryStore(clock=VirtualClock())
    async with scene(memory=memory) as one:
        session = await one.create()
        failing_store(one, [StoreFailed(reason="disk_full")] * (OUTCOME_RETRIES + 1))
        turn = await session.send("a")
        for _ in range(OUTCOME_RETRIES + 1):
            await one.pass_time(HOUR_US)
        assert one.runtime.dispatcher.live_count == 0
        job = await one.workspace.job(turn.job_id)
        assert (job.state, job.holds_slot) == (JobState.RUNNING, True)
    async with scene(memory=memory) as one:
        await one.settle()
        assert (await one.workspace.job(turn.job_id)).state is JobState.COMPLETED
        one.check()
