"""Tests of turns over HTTP: a scripted provider on loopback, the real adapter, and what of a call is kept where."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from handshake.kernel.job import JobState
from handshake.kernel.locality import Declared, parse_endpoint
from handshake.kernel.settings import ModelSettings
from handshake.kernel.usage import TokenUsage
from handshake.operations.feed import Over, Piece, Retrying, Started, Text
from handshake.providers.http_model import HttpModel
from handshake.testing.replies import RESET, Hold, Reply, chunked, event_stream, response, whole_answer
from handshake.testing.upstream import Upstream
from handshake.testing.virtual_clock import VirtualClock
from handshake.workspace import SessionHandle, TurnHandle
from tests.requirement import requirement
from tests.running import DESK, MODEL, Scene, scene, settings_of

SHORT_MS = 60
"""A limit that is meant to be reached."""


@asynccontextmanager
async def desk(*replies: Reply, each: int = 64) -> AsyncIterator[tuple[Scene, SessionHandle, Upstream]]:
    """Open a workspace in memory whose provider is a scripted server, with one session."""
    async with Upstream(*replies) as upstream, scene(model_at(upstream.base_url), settings_of(each=each)) as one:
        try:
            yield one, await one.create(), upstream
        finally:
            await one.runtime.egress.close()


def model_at(base_url: str) -> HttpModel:
    def secret(reference: str) -> str:
        raise LookupError(reference)

    return HttpModel(DESK, parse_endpoint(base_url), Declared(), clock=VirtualClock(), secret=secret)


async def pieces_of(one: Scene, turn: TurnHandle) -> list[Piece]:
    """Return all pieces; whenever the run waits for a retry, time passes."""
    pieces = []
    async for piece in turn:
        pieces.append(piece)
        if isinstance(piece, Retrying):
            one.clock.advance(piece.backoff_ms * 1_000)
    return pieces


async def test_a_stream_is_an_answer() -> None:
    async with desk(chunked(event_stream("Hel", "lo"))) as (one, session, upstream):
        turn = await session.send("Hi", max_output_tokens=5)
        assert (await pieces_of(one, turn))[-1] == Over(JobState.COMPLETED)
        result = await turn.result()
        assert (result.text, result.usage) == ("Hello", TokenUsage(3, 2, 5))
        assert b'"max_tokens":5' in upstream.requests[0].body
        one.check()


async def test_an_absent_length_is_the_models_longest_answer_in_the_body() -> None:
    settings = settings_of(models={MODEL: ModelSettings(max_output_tokens=77)})
    async with Upstream(chunked(event_stream("Hi"))) as upstream, scene(model_at(upstream.base_url), settings) as one:
        await (await (await one.create()).send("Hi")).result()
        assert b'"max_tokens":77' in upstream.requests[0].body
        await one.runtime.egress.close()


@pytest.mark.parametrize(
    "reply",
    [chunked(event_stream("Hi", usage=None)), response(whole_answer("Hi", usage=None))],
    ids=["stream", "whole"],
)
@requirement("provider.usage.missing_is_null")
async def test_usage_that_is_missing_is_null_in_every_record(reply: Reply) -> None:
    async with desk(reply) as (one, session, _):
        turn = await session.send("Hi")
        result = await turn.result()
        assert (result.state, result.usage) == (JobState.COMPLETED, None)
        job = await one.workspace.job(turn.job_id)
        assert (job.prompt_tokens, job.completion_tokens, job.total_tokens) == (None, None, None)
        found = one.check()
        assert found.messages[-1].token_count is None
        (event,) = found.of("llm_inference")
        assert event.payload["token_usage"] is None
        assert (result.settled_tokens, result.is_estimate) == (job.estimated_tokens, True)
        assert job.estimated_tokens > 0


@requirement("scheduler.timeout.is_enforced", "scheduler.retry.transient_only")
async def test_a_provider_that_hangs_is_cut_at_the_timeout_and_tried_again() -> None:
    held, answer = Hold(), chunked(event_stream("at last"))
    async with desk([held], [held], answer) as (one, session, upstream):
        pieces = await pieces_of(one, await session.send("Hi", timeout_ms=SHORT_MS))
        faults = [piece.fault for piece in pieces if isinstance(piece, Retrying)]
        assert [fault.startswith("timeout_") for fault in faults] == [True, True]
        assert [piece.text for piece in pieces if isinstance(piece, Text)] == ["at last"]
        assert [piece.attempt for piece in pieces if isinstance(piece, Started)] == [1, 2, 3]
        for request in upstream.requests[:2]:
            await request.closed.wait()
        one.check()


@requirement("scheduler.timeout.is_enforced", "scheduler.retry.not_after_bytes")
async def test_a_provider_that_hangs_in_its_answer_is_cut_and_not_tried_again() -> None:
    async with desk(chunked(event_stream("Once ", done=False, finish_reason=None, usage=None), Hold())) as (
        one,
        session,
        upstream,
    ):
        turn = await session.send("Hi", timeout_ms=SHORT_MS)
        result = await turn.result()
        assert (result.state, result.error_code, result.attempts) == (JobState.FAILED, "HSK-504-PROVIDER-TIMEOUT", 1)
        await upstream.requests[0].closed.wait()
        assert len(upstream.requests) == 1
        one.check()


@requirement("scheduler.retry.transient_only")
@pytest.mark.parametrize(
    ("reply", "retried"),
    [
        ([RESET], True),
        (response(b"{}", status=429, headers=[("Retry-After", "7")]), True),
        (response(b"{}", status=500), True),
        (response(b"{}", status=408), True),
        (response(b"{}", status=400), False),
        (response(b"{}", status=404), False),
        (response(b"not json"), False),
    ],
    ids=["reset", "429", "500", "408", "400", "404", "garbage"],
)
async def test_only_what_passes_is_tried_again(reply: Reply, retried: bool) -> None:
    async with desk(reply, chunked(event_stream("fine"))) as (one, session, upstream):
        pieces = await pieces_of(one, await session.send("Hi"))
        waits = [piece.backoff_ms for piece in pieces if isinstance(piece, Retrying)]
        assert (len(waits), len(upstream.requests)) == ((1, 2) if retried else (0, 1))
        assert pieces[-1] == Over(JobState.COMPLETED if retried else JobState.FAILED)
        if b"Retry-After" in b"".join(part for part in reply if isinstance(part, bytes)):
            assert waits == [7_000]
        one.check()


@requirement("scheduler.retry.transient_only")
async def test_an_engine_that_is_not_there_yet_is_tried_again() -> None:
    async with desk(chunked(event_stream("late"))) as (one, session, _):
        absent, models = model_at("http://127.0.0.1:9/v1"), one.runtime.egress._models
        present, models[DESK] = models[DESK], absent
        turn = await session.send("Hi")
        told = []
        async for piece in turn:
            told.append(type(piece))
            if isinstance(piece, Retrying):
                assert piece.fault == "connect"
                models[DESK] = present
                one.clock.advance(piece.backoff_ms * 1_000)
        await absent.close()
        assert told == [Started, Retrying, Started, Text, Over]
        assert (await turn.result()).text == "late"


@requirement("scheduler.cancel.is_prompt", "scheduler.limit.is_never_exceeded")
async def test_a_cancel_closes_the_connection_before_the_slot_is_free() -> None:
    held = Hold()
    stream = chunked(event_stream("Once ", done=False, finish_reason=None, usage=None), held, b"data: [DONE]\n\n")
    async with desk(stream, chunked(event_stream("next")), each=1) as (one, session, upstream):
        turn = await session.send("Hi")
        async for piece in turn:
            if isinstance(piece, Text):
                break
        other = await (await one.create()).send("me too")
        assert (await turn.cancel()).may_have_left
        await upstream.requests[0].closed.wait()
        assert (await turn.result()).state is JobState.CANCELLED
        assert (await other.result()).text == "next"
        assert upstream.requests[0].closed.is_set()
        one.check()


@requirement("message.content.only_in_artifacts")
async def test_what_is_said_stands_in_no_row_event_or_log_line(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    planted = {name: f"{name}-planted-geheim-密" for name in ("question", "answer", "error", "partial", "late", "cut")}
    replies = [
        chunked(event_stream(planted["answer"])),
        response(f'{{"error": {{"message": "{planted["error"]}"}}}}'.encode(), status=503),
        response(f'{{"error": {{"message": "{planted["error"]}"}}}}'.encode(), status=400),
        chunked(event_stream(planted["partial"], done=False, finish_reason=None, usage=None), RESET),
        chunked(event_stream(planted["late"], done=False, finish_reason=None, usage=None), Hold()),
        chunked(f"data: {planted['cut']}\n\n".encode()),
    ]
    caplog.set_level(0)
    async with desk(*replies) as (one, session, _):
        for _ in range(3):
            await pieces_of(one, await session.send(planted["question"]))
        turn = await session.send(planted["question"])
        async for piece in turn:
            if isinstance(piece, Text):
                await turn.cancel()
        await (await session.send(planted["question"])).result()
        await session.cancel()
        await one.settle()
        found = one.check()
        assert {job.state for job in found.jobs} == {JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED}
        db = one.memory.opened.db
        tables = [str(row[0]) for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        rows = {table: repr(db.execute(f"SELECT * FROM {table}").fetchall()) for table in tables}
        events = b"".join(bytes(row[0]) for row in db.execute("SELECT body FROM event"))
        artifacts = b"".join(bytes(row[0]) for row in db.execute("SELECT data FROM artifact"))
    printed = caplog.text + "".join(capfd.readouterr())
    for name, text in planted.items():
        assert not [table for table in rows if table != "artifact" and (text in rows[table] or "geheim" in rows[table])]
        assert b"geheim" not in events
        assert text not in printed
        assert (text.encode() in artifacts) or name == "cut", name
