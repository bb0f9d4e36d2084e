"""Upstream: a scripted HTTP server on loopback that answers, stalls, breaks off and floods as a provider might.

A reply is a list of actions. `upstream.requests` holds what was received, byte for byte, and tells when the client
closed:

    async with Upstream(chunked(event_stream("Hello", " world"))) as upstream:
        ...  # call a model at upstream.base_url
        assert upstream.requests[0].body == sent
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from types import TracebackType
from typing import Self

from handshake.testing.replies import RESET, Action, Break, Endless, Hold, Reply, response

MAX_HEAD_BYTES = 64 * 1024
"""A request's head; a client that sends more is broken."""
TURN_BYTES = 64 * 1024
"""What `Endless` writes before others get a turn."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Received:
    """One request, and what became of its connection."""

    def __init__(self) -> None:
        self.head = b""
        """Request line and headers, with the empty line."""
        self.body = b""
        self.whole = asyncio.Event()
        """Set when the body is here."""
        self.closed = asyncio.Event()
        """Set when the connection is closed, by whomever."""
        self.was_reset = False
        """Whether the client closed it by a reset."""
        self.stalled = asyncio.Event()
        """Set when the client did not read, so that the reply had to wait."""
        self.sent_bytes = 0
        """What was written of the reply so far."""

    @property
    def path(self) -> str:
        """The request's target."""
        return self.head.split(b" ", 2)[1].decode("latin-1")

    @property
    def method(self) -> str:
        """The request's method."""
        return self.head.split(b" ", 1)[0].decode("latin-1")

    @property
    def headers(self) -> dict[str, str]:
        """The headers by lower-case name; of a repeated one, the last."""
        lines = self.head.decode("latin-1").split("\r\n")[1:-2]
        return {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


class Upstream:
    """The server; it runs inside `async with`, on a free port.

    Args:
        replies: to requests other than GET, in order; the last one is repeated.
        listing: the reply to GET requests, which ask an engine for its models; by default there is no such page.
        host: `127.0.0.1` or `::1`.
        reads_bodies: whether it reads on, before `Upstream.read_on`, where a body did not come with its head.
        tls: makes it an https server.
    """

    def __init__(
        self,
        *replies: Reply,
        listing: Reply = (),
        host: str = "127.0.0.1",
        reads_bodies: bool = True,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._replies = replies
        self._listing = listing or response(b"", status=404)
        self._host = host
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._taken = 0
        self._changed = asyncio.Event()
        self.reads_bodies = reads_bodies
        self.connections: set[_Connection] = set()
        self.accepted = 0
        """Connections so far."""
        self.received: list[Received] = []
        """All requests whose head was received, in order."""

    @property
    def requests(self) -> list[Received]:
        """The requests other than GET."""
        return [one for one in self.received if one.method != "GET"]

    @property
    def port(self) -> int:
        """The port that it listens on."""
        assert self._server is not None, "the server runs inside `async with`"
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'http' if self._tls is None else 'https'}://{host}:{self.port}"

    @property
    def base_url(self) -> str:
        """What a provider's `base_url` would be."""
        return f"{self.origin}/v1"

    async def __aenter__(self) -> Self:
        """Start to listen."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), self._host, 0, ssl=self._tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, and close what clients left open."""
        assert self._server is not None
        self._server.close()
        for connection in list(self.connections):
            connection.abort()
        while self.connections:
            await self._change()
        await self._server.wait_closed()

    async def request(self, number: int = 0) -> Received:
        """Wait until that many requests (other than GET) came before this one, and it is here whole."""
        while len(self.requests) <= number:
            await self._change()
        found = self.requests[number]
        await found.whole.wait()
        return found

    async def requested(self, number: int = 0) -> Received:
        """Wait for the head of a request (other than GET)."""
        while len(self.requests) <= number:
            await self._change()
        return self.requests[number]

    def read_on(self) -> None:
        """Read the bodies of requests from now on."""
        self.reads_bodies = True
        for connection in self.connections:
            connection.read_on()

    def reply_to(self, received: Received) -> Reply:
        """Return what the script says to a request."""
        if received.method == "GET":
            return self._listing
        place = min(self._taken, len(self._replies) - 1)
        self._taken += 1
        return self._replies[place] if self._replies else [RESET]

    def note(self) -> None:
        """Wake whoever waits for something to change."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _change(self) -> None:
        await self._changed.wait()


class _Connection(asyncio.Protocol):
    """One connection: reads a request, plays the reply, and reads the next."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._received: Received | None = None
        self._mine: list[Received] = []
        self._script: list[Action] = []
        self._is_replying = False
        self._must_wait = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._upstream.accepted += 1
        self._upstream.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._script.clear()
        for received in self._mine:
            received.was_reset = isinstance(exc, ConnectionResetError)
            received.closed.set()
        self._upstream.connections.discard(self)
        self._upstream.note()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._is_replying:
            self._read()

    def pause_writing(self) -> None:
        self._must_wait = True
        if self._received is not None:
            self._received.stalled.set()

    def resume_writing(self) -> None:
        self._must_wait = False
        self.go_on()

    def read_on(self) -> None:
        """Read again, if reading was paused."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def abort(self, *, reset: bool = False) -> None:
        """End the connection at once."""
        if self._transport is not None:
            if reset:
                peer = self._transport.get_extra_info("socket")
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self._transport.abort()

    def _read(self) -> None:
        if self._received is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > MAX_HEAD_BYTES:
                    self.abort(reset=True)
                return
            self._received = Received()
            self._received.head = bytes(self._buffer[: end + 4])
            del self._buffer[: end + 4]
            self._mine.append(self._received)
            self._upstream.received.append(self._received)
            self._upstream.note()
        length = int(self._received.headers.get("content-length", "0"))
        if length > len(self._buffer) and not self._upstream.reads_bodies and self._transport is not None:
            self._transport.pause_reading()
        if len(self._buffer) >= length:
            self._received.body = bytes(self._buffer[:length])
            del self._buffer[:length]
            self._received.whole.set()
            self._script = list(self._upstream.reply_to(self._received))
            self._is_replying = True
            self.go_on()

    def go_on(self) -> None:
        """Play the reply as far as it goes now."""
        while self._script and self._transport is not None and not self._must_wait:
            action = self._script[0]
            if isinstance(action, Hold):
                if action.holds(self.go_on):
                    self._script[0] = b""
                    return
            elif isinstance(action, Endless):
                for _ in range(max(1, TURN_BYTES // len(action.chunk))):
                    self._write(action.chunk)
                asyncio.get_running_loop().call_soon(self.go_on)
                return
            elif isinstance(action, Break):
                self.abort(reset=True) if action.reset else self._transport.close()
                return
            else:
                self._write(action)
            del self._script[0]
        if not self._script and self._is_replying and self._transport is not None:
            self._is_replying, self._received = False, None
            if self._buffer:
                self._read()

    def _write(self, data: bytes) -> None:
        assert self._transport is not None
        assert self._received is not None
        self._received.sent_bytes += len(data)
        self._transport.write(data)
