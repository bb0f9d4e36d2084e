"""HTTP faults: hangs, breaks, floods and garbage become faults that tell the truth, and nothing stays open."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncGenerator

import pytest

from handshake.gate.egress import CallLimits, Finished, ModelFault, TextPiece
from handshake.kernel.retry import Backoff, Fault, FaultKind, GiveUp, decide
from handshake.providers.http_model import HttpModel
from handshake.providers.wire_sse import MAX_LINE_BYTES
from handshake.testing.replies import (
    CLOSE,
    RESET,
    Action,
    Break,
    Endless,
    Hold,
    Reply,
    chunked,
    event_stream,
    head,
    response,
    whole_answer,
)
from handshake.testing.upstream import Upstream
from tests.requirement import requirement
from tests.unit.providers.one_call import LIMITS, SHORT_MS, TICKET, Piece, answered, failed, model_at, opened, texts

STREAM = head(200, content_type="text/event-stream")
HELD = event_stream("Hi", finish_reason=None, usage=None, done=False)
BROKEN = {FaultKind.RESET, FaultKind.INCOMPLETE}


def limits(**changed: int) -> CallLimits:
    """Return the limits of a call, changed; in milliseconds and bytes."""
    plain = {"first_byte_ms": 20_000, "idle_ms": 20_000, "total_ms": 20_000, "max_response_bytes": 1024 * 1024}
    return CallLimits(**(plain | changed))


async def fault_of(reply: Reply, **changed: int) -> tuple[list[str], Fault]:
    """Return the texts that came before a call failed, and its fault; the connection must be closed by then."""
    async with Upstream(reply) as upstream:
        pieces, fault = await failed(model_at(upstream.base_url), limits=limits(**changed))
        await upstream.requests[0].closed.wait()
        assert len(upstream.requests) == 1, "an adapter tries once"
    return texts(pieces), fault.fault


@contextlib.asynccontextmanager
async def midway(upstream: Upstream) -> AsyncGenerator[tuple[HttpModel, AsyncGenerator[Piece, None]], None]:
    """Yield a model and its answer, of which the first piece was read."""
    model = model_at(upstream.base_url)
    stream = opened(model)
    assert await anext(stream) == TextPiece("Hi")
    yield model, stream
    await model.close()


# ── Nothing, or not in time ────────────────────────────────────────────────────────────────────────────────


async def test_nobody_listens() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        _, fault = await failed(model_at(f"http://127.0.0.1:{bound.getsockname()[1]}/v1"))
    assert fault.fault == Fault(FaultKind.CONNECT)


@requirement("provider.limits.bound_memory")
async def test_a_provider_that_does_not_begin_is_cut() -> None:
    assert await fault_of([Hold()], first_byte_ms=SHORT_MS) == ([], Fault(FaultKind.TIMEOUT_FIRST_BYTE, sent=True))


async def test_a_head_is_not_the_first_byte_of_an_answer() -> None:
    _, fault = await fault_of([STREAM, Hold()], first_byte_ms=SHORT_MS)
    assert fault == Fault(FaultKind.TIMEOUT_FIRST_BYTE, sent=True)


async def test_the_whole_call_has_a_limit_before_its_first_byte() -> None:
    _, fault = await fault_of([Hold()], total_ms=SHORT_MS)
    assert fault == Fault(FaultKind.TIMEOUT_TOTAL, sent=True)


@requirement("provider.limits.bound_memory")
async def test_a_provider_that_stops_midway_is_cut() -> None:
    expected = Fault(FaultKind.TIMEOUT_IDLE, sent=True, consumed=True)
    assert await fault_of([STREAM, HELD, Hold()], idle_ms=SHORT_MS) == (["Hi"], expected)


@requirement("provider.limits.bound_memory")
async def test_a_provider_that_never_stops_is_cut() -> None:
    _, fault = await fault_of(
        [STREAM, HELD, Endless(b": still here\n\n")], total_ms=6 * SHORT_MS, max_response_bytes=2**30
    )
    assert fault == Fault(FaultKind.TIMEOUT_TOTAL, sent=True, consumed=True)


async def test_a_slow_reader_makes_no_provider_late() -> None:
    async with Upstream([STREAM, HELD + event_stream("!")]) as upstream:
        model = model_at(upstream.base_url)
        stream = opened(model, limits=limits(idle_ms=SHORT_MS, first_byte_ms=SHORT_MS))
        assert await anext(stream) == TextPiece("Hi")
        later = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(2 * SHORT_MS / 1_000, later.set_result, None)
        await later
        assert texts([piece async for piece in stream]) == ["!"]
        await model.close()


# ── Broken off ─────────────────────────────────────────────────────────────────────────────────────────────


@requirement("provider.limits.bound_memory")
@pytest.mark.parametrize("end", [RESET, CLOSE], ids=["reset", "close"])
@pytest.mark.parametrize("form", ["chunked", "length", "whole"])
async def test_an_answer_that_breaks_off_at_any_byte_is_a_fault(end: Break, form: str) -> None:
    body = event_stream("Hi", "!", usage=None)
    replies: dict[str, list[Action]] = {
        "chunked": chunked(body[:50], body[50:]),
        "length": response(body, content_type="text/event-stream"),
        "whole": response(whole_answer("Hi!")),
    }
    exchange = b"".join(part for part in replies[form] if isinstance(part, bytes))
    mark = exchange.find(b"[DONE]\n\n") if form != "whole" else len(exchange) - len(b"[DONE]\n\n")
    broken: list[Reply] = [[exchange[:at], end] for at in range(mark + len(b"[DONE]\n\n"))]
    async with Upstream(*broken) as upstream:
        for at in range(len(broken)):
            pieces, fault = await failed(model_at(upstream.base_url))
            assert "Hi!".startswith("".join(texts(pieces))), at
            assert not any(isinstance(piece, Finished) for piece in pieces), at
            assert fault.fault.kind in BROKEN, at
            assert (fault.fault.sent, fault.fault.consumed) == (True, bool(pieces)), at
            assert (await upstream.request(at)).closed.is_set(), at


async def test_half_a_stream_is_incomplete() -> None:
    expected = Fault(FaultKind.INCOMPLETE, sent=True, consumed=True)
    assert await fault_of([STREAM, HELD, CLOSE]) == (["Hi"], expected)
    assert await fault_of(chunked(HELD)) == (["Hi"], expected)


@requirement("scheduler.retry.not_after_bytes")
async def test_a_call_is_not_tried_again_once_text_was_handed_on() -> None:
    replies: list[Reply] = [[STREAM, HELD, CLOSE], [STREAM, HELD, Hold()]]
    for reply in replies:
        _, fault = await fault_of(reply, idle_ms=SHORT_MS)
        again = decide(fault, job_id=TICKET.job_id, attempt=1, max_retries=3, backoff=Backoff.FIXED)
        assert again == GiveUp(partial=True)


@pytest.mark.parametrize("given", [10, 10_000])
async def test_a_wrong_length_is_no_answer(given: int) -> None:
    body = whole_answer("Hi")
    reply: Reply = [head(200, content_type="application/json", headers=[("content-length", str(given))]) + body, CLOSE]
    texts_seen, fault = await fault_of(reply)
    assert texts_seen == []
    assert fault == Fault(FaultKind.GARBAGE if given == 10 else FaultKind.INCOMPLETE, sent=True)


@pytest.mark.parametrize(
    "reply",
    [
        [b"SSH-2.0-OpenSSH_9.2\r\n\r\n"],
        [b"HTTP/1.1 abc\r\n\r\n"],
        [b"\x16\x03\x01\x00\xa5\x01\x00\x00"],
        [b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n"],
        [STREAM, b"data: {broken\n\n"],
        [STREAM, b'data: {"choices": [{"delta": {"content": "\xff"}}]}\n\n'],
    ],
)
async def test_what_is_not_the_protocol_is_garbage(reply: Reply) -> None:
    assert await fault_of(reply) == ([], Fault(FaultKind.GARBAGE, sent=True))


async def test_a_broken_chunk_ends_an_answer() -> None:
    coded = head(200, content_type="text/event-stream", headers=[("transfer-encoding", "chunked")])
    _, fault = await fault_of([coded + b"%x\r\n%b\r\n" % (len(HELD), HELD), b"what?\r\n", Hold()], idle_ms=5_000)
    assert fault.kind in {FaultKind.GARBAGE, FaultKind.INCOMPLETE}


# ── Too much ───────────────────────────────────────────────────────────────────────────────────────────────


@requirement("provider.limits.bound_memory")
async def test_an_endless_answer_is_cut_where_the_limit_is() -> None:
    event = b'data: {"choices":[{"delta":{"content":"again"}}]}\n\n'
    async with Upstream([STREAM, Endless(event)]) as upstream:
        pieces, fault = await failed(model_at(upstream.base_url), limits=limits(max_response_bytes=10_000))
        await upstream.requests[0].closed.wait()
    assert fault.fault == Fault(FaultKind.TOO_LARGE, sent=True, consumed=bool(pieces))
    assert sum(len(text) for text in texts(pieces)) <= 10_000


@requirement("provider.limits.bound_memory")
@pytest.mark.parametrize("endless", [b"data: " + b"x" * 4_096, b"x" * 4_096, b"data: x\n"])
async def test_an_endless_line_or_event_is_cut(endless: bytes) -> None:
    _, fault = await fault_of([STREAM, Endless(endless)], max_response_bytes=8 * MAX_LINE_BYTES)
    assert fault == Fault(FaultKind.TOO_LARGE, sent=True)


@requirement("provider.limits.bound_memory")
async def test_a_whole_answer_is_held_up_to_the_limit() -> None:
    reply: Reply = [head(200, content_type="application/json"), Endless(b" " * 4_096)]
    _, fault = await fault_of(reply, max_response_bytes=10_000)
    assert fault == Fault(FaultKind.TOO_LARGE, sent=True)


@requirement("provider.limits.bound_memory")
@pytest.mark.parametrize(
    "endless", [b"x-header: y\r\n", b"x" * 4_096, b"HTTP/1.1 100 Continue\r\n\r\n"], ids=["headers", "name", "informal"]
)
async def test_an_endless_head_is_cut(endless: bytes) -> None:
    start = b"" if endless.startswith(b"HTTP") else b"HTTP/1.1 200 OK\r\n"
    _, fault = await fault_of([start, Endless(endless)], first_byte_ms=10 * SHORT_MS)
    assert fault.kind in {FaultKind.GARBAGE, FaultKind.TIMEOUT_FIRST_BYTE}


@requirement("provider.limits.bound_memory")
async def test_a_slow_reader_makes_the_provider_wait() -> None:
    event = b'data: {"choices":[{"delta":{"content":"again"}}]}\n\n'
    async with Upstream([STREAM, Endless(event)]) as upstream:
        model = model_at(upstream.base_url)
        stream = opened(model, limits=limits(max_response_bytes=2**30))
        assert await anext(stream) == TextPiece("again")
        await upstream.requests[0].stalled.wait()
        await stream.aclose()
        await upstream.requests[0].closed.wait()
        await model.close()


# ── Told to stop ───────────────────────────────────────────────────────────────────────────────────────────


async def test_closing_midway_closes_the_connection() -> None:
    hold = Hold()
    async with Upstream([STREAM, HELD, hold]) as upstream, midway(upstream) as (_, stream):
        await stream.aclose()
        await upstream.requests[0].closed.wait()
        assert hold.reached.is_set()


async def test_a_cancel_while_waiting_closes_the_connection() -> None:
    async with Upstream([STREAM, HELD, Hold()]) as upstream, midway(upstream) as (_, stream):
        async with asyncio.TaskGroup() as group:
            begun = asyncio.Event()
            waiting = group.create_task(_next(stream, begun))
            await begun.wait()
            waiting.cancel()
        await upstream.requests[0].closed.wait()
        assert waiting.cancelled()


async def test_a_cancel_before_the_head_closes_the_connection() -> None:
    async with Upstream([Hold()]) as upstream:
        model = model_at(upstream.base_url)
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(_next(opened(model), asyncio.Event()))
            seen = await upstream.request()
            waiting.cancel()
        await seen.closed.wait()
        assert waiting.cancelled()
        await model.close()


@requirement("provider.limits.bound_memory")
async def test_a_request_that_nobody_reads_is_cut_and_not_sent_later() -> None:
    body = b'{"model":"tiny","pad":"' + b"x" * 24 * 1024 * 1024 + b'"}'
    async with Upstream([Hold()], reads_bodies=False) as upstream:
        before = open_files()
        model = model_at(upstream.base_url)
        with pytest.raises(ModelFault) as raised:
            await anext(opened(model, body=body, limits=limits(first_byte_ms=5 * SHORT_MS)))
        assert raised.value.fault == Fault(FaultKind.TIMEOUT_FIRST_BYTE, sent=True)
        assert open_files() == before + len(upstream.connections)
        upstream.read_on()
        await upstream.requests[0].closed.wait()
        assert not upstream.requests[0].whole.is_set()
        await model.close()


async def test_other_calls_go_on_when_one_is_closed() -> None:
    hold = Hold()
    async with Upstream([STREAM, HELD, hold, event_stream("!")]) as upstream, midway(upstream) as (model, stream):
        others = [opened(model) for _ in range(3)]
        for other in others:
            assert await anext(other) == TextPiece("Hi")
        await stream.aclose()
        hold.release()
        for other in others:
            assert texts([piece async for piece in other]) == ["!"]


async def test_what_comes_after_the_end_mark_is_not_waited_for() -> None:
    hold = Hold()
    async with Upstream([STREAM, event_stream("Hi"), hold]) as upstream:
        assert texts(await answered(model_at(upstream.base_url), limits=LIMITS)) == ["Hi"]
        await upstream.requests[0].closed.wait()


def open_files() -> int:
    """Return how many files and sockets this process has open."""
    return len(os.listdir("/proc/self/fd"))


async def _next(stream: AsyncGenerator[Piece, None], begun: asyncio.Event) -> Piece:
    begun.set()
    return await anext(stream)
