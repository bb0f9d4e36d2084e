"""Upstream: the scripted server records what it got and does what it was told."""

from __future__ import annotations

import asyncio

import pytest

from handshake.testing.replies import CLOSE, RESET, Action, Endless, Hold, chunked, head, response
from handshake.testing.upstream import Upstream

GET = b"GET /api/tags HTTP/1.1\r\nhost: x\r\n\r\n"


def post(body: bytes) -> bytes:
    return b"POST /v1/x HTTP/1.1\r\nHost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


async def dial(upstream: Upstream) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", upstream.port)


async def test_it_records_requests_byte_for_byte_and_replies_in_order() -> None:
    async with Upstream(response(b"one"), response(b"two"), listing=response(b"models")) as upstream:
        reader, writer = await dial(upstream)
        sent = [post(b"\x00\r\n\r\n"), post(b""), post(b"last"), GET]
        writer.write(b"".join(sent))
        expected = b"".join(b"".join(map(_bytes, response(body))) for body in (b"one", b"two", b"two", b"models"))
        assert await reader.readexactly(len(expected)) == expected
        assert [one.head + one.body for one in upstream.received] == sent
        assert [one.method for one in upstream.received] == ["POST", "POST", "POST", "GET"]
        assert upstream.requests[0].headers == {"host": "x", "content-length": "5"}
        assert upstream.requests[0].path == "/v1/x"
        assert not upstream.requests[0].closed.is_set()
        writer.close()
        await upstream.requests[0].closed.wait()
        assert not upstream.requests[0].was_reset


async def test_a_hold_waits_until_it_is_released() -> None:
    hold = Hold()
    async with Upstream([b"before", hold, b"after", CLOSE]) as upstream:
        reader, writer = await dial(upstream)
        writer.write(post(b""))
        await hold.reached.wait()
        assert upstream.requests[0].sent_bytes == len(b"before")
        hold.release()
        assert await reader.read() == b"beforeafter"
        writer.close()


async def test_a_reset_is_one() -> None:
    async with Upstream([RESET]) as upstream:
        reader, writer = await dial(upstream)
        writer.write(post(b""))
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


async def test_an_endless_reply_waits_for_its_reader() -> None:
    async with Upstream([Endless(b"x" * 1000)]) as upstream:
        reader, writer = await dial(upstream)
        writer.write(post(b""))
        assert await reader.readexactly(2500) == b"x" * 2500
        await upstream.requests[0].stalled.wait()
        writer.transport.abort()
        await upstream.requests[0].closed.wait()


async def test_bodies_may_stay_unread() -> None:
    async with Upstream(response(b""), reads_bodies=False) as upstream:
        _, writer = await dial(upstream)
        writer.write(post(b"x" * 10_000_000))
        seen = await upstream.requested()
        assert not seen.whole.is_set()
        upstream.read_on()
        assert (await upstream.request()).body == b"x" * 10_000_000
        writer.close()


async def test_leaving_it_closes_what_clients_left_open() -> None:
    async with Upstream([Hold()]) as upstream:
        reader, writer = await dial(upstream)
        writer.write(post(b""))
        await upstream.request()
    assert upstream.requests[0].closed.is_set()
    assert await reader.read() == b""
    writer.close()


def test_replies_are_what_http_says() -> None:
    assert head(404) == b"HTTP/1.1 404 Scripted\r\n\r\n"
    hold = Hold()
    assert chunked(b"abc", hold, b"x" * 16) == [
        b"HTTP/1.1 200 Scripted\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
        b"3\r\nabc\r\n",
        hold,
        b"10\r\n" + b"x" * 16 + b"\r\n",
        b"0\r\n\r\n",
    ]


def _bytes(action: Action) -> bytes:
    assert isinstance(action, bytes)
    return action
