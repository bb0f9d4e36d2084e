"""Tests of turns: what a request is built from, and how an attempt ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any

import msgspec
import pytest

from handshake.gate.egress import Finished, TextPiece, ThreadMessage, ToolSchema
from handshake.kernel.errors import HandshakeError, StoreFailed, Unsupported
from handshake.kernel.ids import ModelId
from handshake.kernel.job import JobState
from handshake.kernel.retry import Fault, FaultKind
from handshake.kernel.settings import MAX_REQUEST_BYTES, OFF_LOOP_BYTES
from handshake.kernel.usage import TokenUsage
from handshake.kernel.waiting import WaitReason
from handshake.operations import turns as turns_module
from handshake.operations.feed import Over, Piece, Retrying, Started, Text
from handshake.testing.memory_store import MemoryStore
from handshake.testing.scripted_model import ScriptedModel, Step
from handshake.testing.virtual_clock import VirtualClock
from handshake.workspace import TurnHandle
from tests.requirement import requirement
from tests.running import FINAL, PASSING, Scene, scene, settings_of
from tests.unit.operations.acting_model import Acting, left_by

HOUR_US = 3_600_000_000


async def all_of(turn: TurnHandle) -> list[Piece]:
    return [piece async for piece in turn]


def said(model: ScriptedModel) -> list[list[str]]:
    """Return the texts of every request."""
    return [[one["text"] for one in msgspec.json.decode(body)["thread"]] for body in model.bodies]


def by_word(**steps: Sequence[Step]) -> ScriptedModel:
    """Return a model that does what is given for the first word of the last message, and else says `re: TEXT`."""
    return ScriptedModel(lambda text: steps.get(text.split()[0], ("re: ", text)))


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
        def render(
            self,
            model_id: ModelId,
            thread: Sequence[ThreadMessage],
            *,
            max_output_tokens: int | None,
            tools: Sequence[ToolSchema] = (),
        ) -> bytes:
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


@pytest.mark.parametrize("figure", [-1, 2**53, 2**70])
async def test_an_impossible_figure_is_unknown(figure: int) -> None:
    async def act() -> AsyncGenerator[TextPiece | Finished, None]:
        yield TextPiece("a")
        yield Finished("stop", TokenUsage(figure, 4, figure))

    async with scene(Acting(act)) as one:
        result = await (await (await one.create()).send("a")).result()
        assert result.usage == TokenUsage(None, 4, None)
        one.check()


# -- a store that fails -----------------------------------------------------------------------------------------


def failing_store(one: Scene, failures: list[HandshakeError]) -> None:
    """Let the next outcomes fail, each with one of `failures`."""
    store = one.runtime.store
    write = store.write

    async def failing(unit: Any, **named: Any) -> Any:
        if named.get("outcome") and failures:
            raise failures.pop(0)
        return await write(unit, **named)

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


@requirement("recovery.outcome.never_lost")
async def test_an_outcome_is_tried_as_long_as_the_runtime_lives_and_then_left_to_the_next_start() -> None:
    memory = MemoryStore(clock=VirtualClock())
    async with scene(memory=memory) as one:
        session, other = await one.create(), await one.create()
        failing_store(one, [StoreFailed(reason="disk_full")] * 1_000)
        turn = await session.send("a")
        for _ in range(100):
            await one.pass_time(HOUR_US)
        assert one.runtime.dispatcher.live_count == 1
        job = await one.workspace.job(turn.job_id)
        assert (job.state, job.holds_slot) == (JobState.RUNNING, True)
        waiting = await other.send("b")
        await one.pass_time(HOUR_US)
        (item,) = (await one.workspace.queue()).items
        assert (item.job_id, item.wait_reason) == (waiting.job_id, WaitReason.STORE_FULL)
    async with scene(memory=memory) as one:
        await one.settle()
        assert (await one.workspace.job(turn.job_id)).state is JobState.COMPLETED
        one.check()
