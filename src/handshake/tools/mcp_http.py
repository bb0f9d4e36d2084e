"""MCP over HTTP: the SDK's streamable HTTP on our connections: admitted addresses, one origin, bounded bodies.

The credential of a server goes to that server only. A redirect is not followed, not even the kind that the SDK would.

Source:
    02 §5; MCP 2026-07-28 and 2025-11-25, transports (streamable HTTP).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import anyio
import httpx2
from anyio.streams.memory import MemoryObjectSendStream
from mcp.client import Transport
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage

from handshake.kernel.errors import EndpointBlocked
from handshake.kernel.locality import parse_endpoint
from handshake.kernel.mcp_settings import MAX_MCP_MESSAGE_BYTES, MCP_CLOSE_MS
from handshake.kernel.settings import MAX_CALL_MS
from handshake.kernel.units import Microseconds
from handshake.ports.web_stream import StreamFault, StreamLimits, WebStream, WebStreams
from handshake.tools.mcp_pipe import PipeEnd, Streams, Unasked, concerns_client, is_answer

LIMITS = StreamLimits(
    first_byte_ms=MAX_CALL_MS, idle_ms=MAX_CALL_MS, total_ms=MAX_CALL_MS, max_response_bytes=MAX_MCP_MESSAGE_BYTES
)
"""Times are those of the requests that wait for an answer: a stream for notifications has none of its own."""

_OF_CONNECTION = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "accept-encoding", "user-agent"}
)
"""Headers that our transport sets, or that would say who we are."""


class Way:
    """How one server is reached.

    Args:
        web: the way out.
        url: the server's address.
        credential: reads its bearer token, for every request anew; None sends none.
        run_by_operator: why a private address may be connected to.

    Raises:
        InvalidBaseUrl, EndpointBlocked: the address is none.
    """

    def __init__(
        self, web: WebStreams, url: str, credential: Callable[[], str] | None = None, run_by_operator: str | None = None
    ) -> None:
        self.url = url
        self._web = web
        self._endpoint = parse_endpoint(url)
        self._credential = credential
        self._run_by_operator = run_by_operator

    def open(self) -> WebStream:
        """Return a stream for one request."""
        return self._web.open(self._endpoint, LIMITS, self._run_by_operator)

    def headers(self, request: httpx2.Request) -> dict[str, str]:
        """Return the headers with which a request of the SDK is sent.

        Raises:
            EndpointBlocked: it is for another origin than the server's.
            InvalidConfig: the credential is missing.
        """
        parts = urlsplit(str(request.url))
        if parse_endpoint(f"{parts.scheme}://{parts.netloc}").origin != self._endpoint.origin:
            raise EndpointBlocked(reason="other_origin", origin=self._endpoint.origin)
        found = {name: value for name, value in request.headers.items() if name.lower() not in _OF_CONNECTION}
        found["accept-encoding"] = "identity"
        if self._credential is not None:
            found["authorization"] = f"Bearer {self._credential()}"
        return found


def server_over_http(way: Way, now_us: Callable[[], Microseconds], ended: Callable[[str], None]) -> Transport:
    """Return the transport to a server; only answers and what the client acts on reach the client.

    Args:
        way: how it is reached.
        now_us: monotonic time.
        ended: called with a token when the connection is over for another reason than that the client closed it.
    """
    return _over_http(way, Unasked(now_us), ended)


@asynccontextmanager
async def _over_http(way: Way, unasked: Unasked, ended: Callable[[str], None]) -> AsyncGenerator[Streams]:
    client = httpx2.AsyncClient(transport=_Bridge(way, ended), trust_env=False, timeout=None, follow_redirects=False)
    arriving, read_stream = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    async with (
        client,
        streamable_http_client(way.url, http_client=client, max_sse_event_size=MAX_MCP_MESSAGE_BYTES) as (read, write),
        anyio.create_task_group() as group,
    ):

        async def sift() -> None:
            async with arriving:
                with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                    ended(await _sift(read, arriving, unasked))

        group.start_soon(sift)
        try:
            yield read_stream, write
        finally:
            read_stream.close()
            group.cancel_scope.cancel()


async def _sift(
    read: AsyncIterator[SessionMessage | Exception],
    arriving: MemoryObjectSendStream[SessionMessage | Exception],
    unasked: Unasked,
) -> PipeEnd:
    """Hand on what concerns the client until there is no more, or too much that nobody asked for."""
    async for one in read:
        if isinstance(one, SessionMessage) and is_answer(one.message):
            await arriving.send(one)
        elif not unasked.admits():
            return PipeEnd.FLOOD
        elif isinstance(one, SessionMessage) and concerns_client(one.message):
            await arriving.send(one)
    return PipeEnd.CLOSED


class _Bridge(httpx2.AsyncBaseTransport):
    """Carries the requests of the SDK's HTTP client over our streams."""

    def __init__(self, way: Way, ended: Callable[[str], None]) -> None:
        self._way = way
        self._ended = ended

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request, and return its response with the body still to come."""
        headers = self._way.headers(request)
        body = await request.aread()
        stream = self._way.open()
        try:
            await stream.send(request.method, request.url.raw_path.decode("ascii"), headers, body or None)
            response = [(name, value) for name, value in stream.headers if name.lower() not in _OF_CONNECTION]
            if 300 <= stream.status < 400 or "content-encoding" in {name.lower() for name, _ in response}:
                raise StreamFault("redirect" if 300 <= stream.status < 400 else "encoding")
        except (StreamFault, EndpointBlocked) as fault:
            await _closed(stream)
            reason = fault.reason if isinstance(fault, StreamFault) else str(fault.context.get("reason", "blocked"))
            self._ended(reason)
            raise httpx2.ConnectError(reason, request=request) from None
        except BaseException:
            await _closed(stream)
            raise
        return httpx2.Response(stream.status, headers=response, stream=_Body(stream, request, self._ended))


class _Body(httpx2.AsyncByteStream):
    """A response's body, and the end of its stream."""

    def __init__(self, stream: WebStream, request: httpx2.Request, ended: Callable[[str], None]) -> None:
        self._stream = stream
        self._request = request
        self._ended = ended

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while chunk := await self._stream.read():
                yield chunk
        except StreamFault as fault:
            if fault.reason == "too_large":
                self._ended(PipeEnd.TOO_LARGE)
            raise httpx2.ReadError(fault.reason, request=self._request) from None

    async def aclose(self) -> None:
        await _closed(self._stream)


async def _closed(stream: WebStream) -> None:
    """Close an stream even while its reader is being cancelled."""
    with anyio.move_on_after(MCP_CLOSE_MS / 1_000, shield=True):
        await stream.close()
