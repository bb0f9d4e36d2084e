"""Tests of operations that once went wrong: what is durable is told, and what cannot be stored is not forgotten."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from handshake.gate.egress import Finished, TextPiece
from handshake.kernel.errors import Draining, InvalidRequest, NotFound, StoreFailed
from handshake.kernel.job import JobState
from handshake.kernel.session import SessionState
from handshake.kernel.settings import MAX_CALL_TOKENS, MAX_INLINE_ARTIFACT_BYTES, MAX_MESSAGE_BYTES, MAX_REQUEST_BYTES
from handshake.kernel.usage import TokenUsage
from handshake.operations.feed import Feeds, NotStored, Started, Text
from handshake.testing.scripted_model import ScriptedModel
from handshake.workspace import TurnHandle
from tests.requirement import requirement
from tests.running import Scene, scene
from tests.unit.operations.acting_model import Acting

MINUTE_US = 60_000_000
LARGE = "x" * (MAX_INLINE_ARTIFACT_BYTES + 1)
LARGEST = "x" * MAX_MESSAGE_BYTES
TURNS_THAT_ARE_TOO_MUCH = MAX_REQUEST_BYTES // MAX_MESSAGE_BYTES + 1


async def gone_before_the_answer(cancel: Any) -> None:
    """Call `cancel` as a caller does who goes away between the hand-over and the commit."""
    caller = asyncio.ensure_future(cancel)
    await asyncio.sleep(0)
    caller.cancel()
    with suppress(asyncio.CancelledError):
        await caller
    assert caller.cancelled()


async def waiting(one: Scene) -> tuple[TurnHandle, asyncio.Event]:
    """Return a turn whose call waits for the event."""
    turn = await (await one.create()).send("a")
    await one.settle()
    return turn, asyncio.Event()


@requirement("scheduler.cancel.is_prompt")
async def test_a_call_is_cut_though_whoever_cancelled_it_went_away() -> None:
    model = ScriptedModel(lambda text: ("a", asyncio.Event()))
    async with scene(model) as one:
        turn, _ = await waiting(one)
        assert model.open_calls == 1
        await gone_before_the_answer(turn.cancel())
        await one.settle()
        assert model.open_calls == 0
        assert (await turn.result()).state is JobState.CANCELLED
        assert one.runtime.queue.usage.largest() == {}


@requirement("scheduler.cancel.is_prompt")
async def test_listeners_of_a_waiting_run_hear_its_end_though_whoever_cancelled_it_went_away() -> None:
    async with scene() as one:
        session = await one.create()
        await session.pause()
        turn = await session.send("a")
        await gone_before_the_answer(turn.cancel())
        assert (await turn.result()).state is JobState.CANCELLED


@requirement("scheduler.cancel.is_prompt")
async def test_calls_of_a_session_are_cut_though_whoever_cancelled_it_went_away() -> None:
    model = ScriptedModel(lambda text: ("a", asyncio.Event()))
    async with scene(model) as one:
        turn, _ = await waiting(one)
        session = one.workspace.sessions.get(turn.session_id)
        await gone_before_the_answer(session.cancel())
        await one.settle()
        assert model.open_calls == 0
        assert (await turn.result()).state is JobState.CANCELLED
        assert (await session.show()).state is SessionState.CANCELLED


async def test_a_large_answer_waits_for_room_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(ScriptedModel(lambda text: (LARGE,))) as one:
        files = one.memory.files
        room, full = files.write_new, [True]

        def write_new(path: Path, data: bytes) -> None:
            if full[0]:
                raise OSError(errno.ENOSPC, "no space")
            room(path, data)

        monkeypatch.setattr(files, "write_new", write_new)
        turn = await (await one.create()).send("a")
        await one.pass_time(MINUTE_US)
        assert (await one.workspace.job(turn.job_id)).state is JobState.RUNNING
        assert one.runtime.dispatcher.live_count == 1
        full[0] = False
        await one.pass_time(MINUTE_US)
        assert (await turn.result()).text == LARGE
        one.check()


async def test_listeners_hear_that_an_outcome_could_not_be_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(ScriptedModel(lambda text: (LARGE,))) as one:

        def write_new(path: Path, data: bytes) -> None:
            raise OSError(errno.ENOSPC, "no space")

        monkeypatch.setattr(one.memory.files, "write_new", write_new)
        turn = await (await one.create()).send("a")
        heard = aiter(turn)
        for _ in range(30):
            await one.pass_time(MINUTE_US)
        assert [type(await anext(heard)) for _ in range(3)] == [Started, Text, NotStored]
        await one.runtime.dispatcher.close(0, before_cut=one.runtime.turns.stop)
        with pytest.raises(StoreFailed):
            await anext(heard)
        for _ in range(2):  # who comes later
            with pytest.raises(StoreFailed) as refused:
                await turn.result()
            assert refused.value.context["reason"] == "outcome_not_stored"
        assert (await one.workspace.job(turn.job_id)).state is JobState.RUNNING  # the next start finds it
        one.check()


async def test_a_runtime_that_stops_is_still_told_as_that() -> None:
    feeds = Feeds()
    listening = feeds.listen("job")  # type: ignore[arg-type]  # any text is an id here
    feeds.close()
    with pytest.raises(Draining):
        await anext(aiter(listening))


@requirement("message.thread.rebuilds_same_bytes")
async def test_a_request_counts_only_what_it_would_send() -> None:
    async with scene(ScriptedModel(lambda text: ("ok",))) as one:
        session = await one.create()
        await session.pause()
        turns = [await session.send(LARGEST) for _ in range(TURNS_THAT_ARE_TOO_MUCH)]
        for turn in turns[1:]:
            await turn.cancel()
        await session.resume()
        assert (await turns[0].result()).text == "ok"
        assert (await (await session.send("b")).result()).text == "ok"


@requirement("session.state.is_derived")
async def test_a_provider_cannot_count_a_session_into_a_state_that_does_not_end() -> None:
    async def boast() -> AsyncGenerator[TextPiece | Finished, None]:
        yield TextPiece("a")
        yield Finished("stop", TokenUsage(MAX_CALL_TOKENS, 2**53 - 1, 2**53 - 1))

    async with scene(Acting(boast)) as one:
        session = await one.create()
        results = [await (await session.send("a")).result() for _ in range(2)]
        assert [one.usage for one in results] == [TokenUsage(MAX_CALL_TOKENS, None, None)] * 2
        assert (await session.complete()).state is SessionState.COMPLETED
        one.check()


async def test_a_turn_for_what_cannot_be_an_id_is_refused() -> None:
    async with scene() as one:
        for text in ("\ud800", "a\0b", "", "x" * 1_000_000):
            with pytest.raises(NotFound):
                await one.workspace.sessions.get(text).send("a")


async def test_pages_begin_at_numbers_that_records_can_have() -> None:
    async with scene() as one:
        session = await one.create()
        for after in (-1, 2**63, -(2**64)):
            with pytest.raises(InvalidRequest):
                await session.messages(after=after)
            with pytest.raises(InvalidRequest):
                await one.workspace.queue(after=after)
        with pytest.raises(InvalidRequest):
            await one.workspace.sessions.list(after="\ud800")
        assert await session.messages(after=2**63 - 1) == []
