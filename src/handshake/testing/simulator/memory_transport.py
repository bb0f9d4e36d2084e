"""Memory transport: HTTP exchanges without a socket: bytes of scripted providers, read as an HTTP client reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from handshake.kernel.retry import FaultKind
from handshake.ports.model import CallLimits
from handshake.providers.http_body import BoundedBody, Deadlines
from handshake.providers.locality import Boundary
from handshake.providers.wire_sse import WireFault
from handshake.testing.simulator.wire_body import Body, Broken, Head, read_head

MAX_HEAD_BYTES = 64 * 1024
BUFFERED_BYTES = 128 * 1024
"""What lies unread before a provider has to wait."""


class Wire:
    """What arrives on one connection, and who waits for it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = False
        self.reset = False
        self.stuck_until_s: float | None = None
        """Until when the adapter does not come back, whatever it is told; None if it does."""
        self._waiter: asyncio.Future[None] | None = None
        self._failure: BaseException | None = None
        self.drained: Callable[[], None] | None = None
        """Called when there is room again after `is_full`."""

    @property
    def is_full(self) -> bool:
        """Whether the sender has to wait."""
        return len(self.data) >= BUFFERED_BYTES

    def feed(self, data: bytes) -> None:
        """Let bytes arrive."""
        self.data += data
        self._wake()

    def end(self, *, reset: bool) -> None:
        """Let the other side close, in order or by a reset."""
        self.ended = True
        self.reset = reset
        self._wake()

    def fail(self, failure: BaseException) -> None:
        """Make whoever waits, and every later reader, raise."""
        self._failure = failure
        self._wake()

    def require(self) -> None:
        """Raise what was set by `fail`, if anything was."""
        if self._failure is not None:
            raise self._failure

    def take(self) -> None:
        """Note that bytes were taken out of `data`."""
        if self.drained is not None and not self.is_full:
            drained, self.drained = self.drained, None
            drained()

    async def changed(self) -> None:
        """Wait until something arrives, ends or fails."""
        self.require()
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        self.require()

    async def come_back(self) -> None:
        """Wait while the adapter is stuck; cancels and deadlines pass it by, as they do one that is broken."""
        loop = asyncio.get_running_loop()
        while self.stuck_until_s is not None and loop.time() < self.stuck_until_s:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(self.stuck_until_s - loop.time())

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Peer(Protocol):
    """The other end: a scripted provider."""

    def connect(self) -> bool:
        """Return whether a connection is taken."""
        ...

    def request(self, wire: Wire, method: str, path: str, body: bytes | None) -> object:
        """Take a request whose answer goes onto `wire`; return what `hang_up` is told."""
        ...

    def hang_up(self, call: object) -> None:
        """Note that the client closed."""
        ...


class MemoryTransport:
    """The way to one scripted provider; stands in the place of `providers.http_transport.HttpTransport`.

    Args:
        boundary: which addresses may be connected to, asked for every connection.
        peer: who is there.
    """

    def __init__(self, boundary: Boundary, peer: Peer) -> None:
        self._boundary = boundary
        self._peer = peer

    def exchange(self, limits: CallLimits) -> MemoryExchange:
        """Return one request and its response, under limits whose time begins now."""
        return MemoryExchange(self._boundary, self._peer, limits)

    async def close(self) -> None:
        """Every exchange closes its own connection."""


class MemoryExchange:
    """One request and its response on a connection of their own."""

    def __init__(self, boundary: Boundary, peer: Peer, limits: CallLimits) -> None:
        self._boundary = boundary
        self._peer = peer
        self._limits = limits
        self._deadlines = Deadlines(limits)
        self._call: object = None
        self._wire = Wire()
        self._head: Head | None = None
        self._body: BoundedBody | None = None

    @property
    def was_open(self) -> bool:
        """Whether there was a connection, so that bytes may have left."""
        return self._call is not None

    @property
    def status(self) -> int:
        """The response's status."""
        return 0 if self._head is None else self._head.status

    def header(self, name: str) -> str | None:
        """Return a header of the response; of a repeated one, the first."""
        return None if self._head is None else self._head.headers.get(name.lower())

    async def send(self, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> None:
        """Send a request and return once the head of its response is here.

        Raises:
            WireFault: no connection, no head in time, or none of HTTP.
            EndpointBlocked, ConsentRequired: the addresses are not admitted; nothing was sent.
        """
        at, kind = self._deadlines.next()
        self._boundary.admit(await self._boundary.addresses())
        if not self._peer.connect():
            raise WireFault(FaultKind.CONNECT)
        self._call = self._peer.request(self._wire, method, path, body)
        limit = asyncio.timeout_at(at)
        try:
            async with limit:
                self._head = await self._read_head()
        except TimeoutError:
            raise WireFault(kind) from None
        source = Body(self._wire, self._head)
        source.require_sound()
        self._body = BoundedBody(source, self._deadlines, self._limits.max_response_bytes)

    async def read(self) -> bytes:
        """Return the next bytes of the response's body, or none at its end.

        Raises:
            WireFault: it broke off, is too slow or too large.
        """
        return b"" if self._body is None else await self._body.read()

    def allow_only(self, limit_ms: int) -> None:
        """Let the rest of the response take `limit_ms` at most, from now."""
        self._deadlines.shorten(limit_ms)

    async def close(self) -> None:
        """End the exchange: its connection is confirmed closed."""
        self._deadlines.close()
        call, self._call = self._call, None
        if call is not None:
            self._peer.hang_up(call)
            self._call = call

    async def _read_head(self) -> Head:
        await self._wire.come_back()
        while True:
            try:
                found = read_head(self._wire.data, max_bytes=MAX_HEAD_BYTES)
            except Broken:
                raise WireFault(FaultKind.GARBAGE) from None
            if found is not None:
                return found
            if self._wire.ended:
                raise WireFault(FaultKind.RESET)
            await self._wire.changed()
