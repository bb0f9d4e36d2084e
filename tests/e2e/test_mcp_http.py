"""MCP over HTTP: a real server on loopback, and peers that would lead a client, or its credential, elsewhere."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from handshake.kernel.errors import EndpointBlocked, InvalidBaseUrl
from handshake.kernel.locality import Endpoint
from handshake.ports.tool import ToolFailed
from handshake.ports.web_stream import StreamLimits
from handshake.providers.web_streams import OutsideStreams
from handshake.testing.plain_process import PlainProcess
from handshake.tools.mcp_http import Way
from tests.e2e.mcp_desk import Desk, free_port, friendly, way

Respond = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Give the port of a server of the official SDK."""
    server = await PlainProcess.start(friendly("http"), {})
    yield int(await server.read(100))
    await server.close()


@asynccontextmanager
async def peer(respond: Respond) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Give the port of a peer that answers every request with `respond`, and the heads of the requests."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            heads.append(head)
            await respond(head, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has seen enough
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], heads


def opened(**servers: Way) -> AbstractAsyncContextManager[Desk]:
    """Return a desk that is closed at the end."""

    @asynccontextmanager
    async def make() -> AsyncIterator[Desk]:
        desk = Desk(**servers)
        try:
            yield desk
        finally:
            await desk.client.close()

    return make()


async def failure(desk: Desk) -> ToolFailed:
    with pytest.raises(ToolFailed) as failed:
        await desk.client.list("s")
    return failed.value


async def test_tools_of_a_server_of_the_official_sdk_are_called(port: int) -> None:
    async with opened(s=way(port)) as desk:
        await desk.approve("s")
        assert len(desk.approved) == 9
        assert await desk.text("mcp.s.echo", text="Grüße") == "Grüße"
        assert (await desk.call("mcp.s.add", a=2, b=3)).value == {"sum": 5}
        assert "'handshake/tool_call_id', 'the call'" in await desk.text("mcp.s.seen")
        assert (await desk.failure("mcp.s.hang", timeout_ms=300)).code == "mcp_timeout"
        assert await desk.text("mcp.s.echo", text="again") == "again"


async def test_the_credential_goes_with_every_request_to_its_server_and_nothing_of_the_environment_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    async def refuse(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n")

    async with peer(refuse) as (at, heads), opened(s=way(at, lambda: "the-token")) as desk:
        assert (await failure(desk)).code == "mcp_unavailable"
    assert heads
    assert all(b"authorization: Bearer the-token\r\n" in head for head in heads)
    assert all(b"accept-encoding: identity\r\n" in head for head in heads)
    assert not any(b"python" in head.lower() or b"httpx" in head.lower() for head in heads)


@pytest.mark.parametrize("target", ["/elsewhere", "http://127.0.0.1:1/mcp"])
async def test_no_redirect_is_followed(target: str) -> None:
    async def move(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 307 Moved\r\nlocation: {target}\r\ncontent-length: 0\r\n\r\n".encode())

    async with peer(move) as (at, heads), opened(s=way(at, lambda: "the-token")) as desk:
        failed = await failure(desk)
    assert "redirect" in failed.sentence
    assert [head.split(b" ")[1] for head in heads] == [b"/mcp"]


async def test_a_body_without_end_is_cut_off() -> None:
    async def pour(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
        for _ in range(64):
            writer.write(b" " * (1 << 20))
            await writer.drain()

    async with peer(pour) as (at, _), opened(s=way(at)) as desk:
        assert "message_too_large" in (await failure(desk)).sentence


async def test_a_body_that_would_unpack_to_more_is_not_taken() -> None:
    async def pack(head: bytes, writer: asyncio.StreamWriter) -> None:
        body = zlib.compress(b"x" * (1 << 24))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: deflate\r\n")
        writer.write(f"content-length: {len(body)}\r\n\r\n".encode() + body)

    async with peer(pack) as (at, _), opened(s=way(at)) as desk:
        assert "encoding" in (await failure(desk)).sentence


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://169.254.169.254/mcp", "link_local"),
        ("http://10.0.0.1/mcp", "private"),
        ("http://203.0.113.9/mcp", "reserved"),
        ("http://example.com/mcp", "https_required"),
    ],
)
async def test_addresses_that_no_server_may_have_are_not_connected_to(url: str, reason: str) -> None:
    async def lookup(host: str, port: int) -> list[str]:
        return ["93.184.216.34"]

    async with opened(s=Way(OutsideStreams(lookup=lookup), url)) as desk:
        assert reason in (await failure(desk)).sentence


async def test_a_name_that_moves_inside_is_not_connected_to() -> None:
    async def lookup(host: str, port: int) -> list[str]:
        return ["93.184.216.34", "127.0.0.1"]

    async with opened(s=Way(OutsideStreams(lookup=lookup), "https://example.com/mcp")) as desk:
        assert "loopback" in (await failure(desk)).sentence


async def test_a_providers_address_is_reached_by_its_own_door_only() -> None:
    closed = (Endpoint("http", "127.0.0.1", 11_434, "/v1", True),)
    async with opened(s=Way(OutsideStreams(closed), "http://localhost:11434/mcp")) as desk:
        with pytest.raises(EndpointBlocked):
            await desk.client.list("s")


@pytest.mark.parametrize("url", ["http://user@127.0.0.1/mcp", "http://127.0.0.1/mcp?key=1", "ftp://x/"])
def test_a_url_that_hides_something_is_none(url: str) -> None:
    with pytest.raises(InvalidBaseUrl):
        Way(OutsideStreams(), url)


def test_a_request_for_another_origin_is_not_sent() -> None:
    import httpx2

    with pytest.raises(EndpointBlocked):
        way(1234, lambda: "the-token").headers(httpx2.Request("POST", "http://127.0.0.1:1235/mcp"))


async def test_a_stream_says_in_the_words_of_its_port_what_went_wrong() -> None:
    from handshake.ports.web_stream import StreamFault

    stream = OutsideStreams().open(
        Endpoint("http", "127.0.0.1", free_port(), "", True), StreamLimits(1_000, 1_000, 1_000, 1_000)
    )
    with pytest.raises(StreamFault) as fault:
        await stream.send("GET", "/", {})
    assert fault.value.reason == "connect"
    await stream.close()
