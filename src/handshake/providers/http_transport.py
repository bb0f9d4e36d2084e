"""HTTP transport: opens connections to one provider, sends exact bytes, reads answers, and closes when told.

The environment has no say: no proxy, no netrc, no CA override, no cookie, no redirect. Connections to providers are
opened in this module and nowhere else, each to an address that was admitted for it.

Source:
    provider.environment.is_ignored, provider.ssrf.blocked, provider.limits.bound_memory (03 §2, §7).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import socket
import ssl
import struct
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Protocol

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import AddrInfoType, Connection
from aiohttp.tracing import Trace
from yarl import URL

from handshake.kernel.locality import Endpoint
from handshake.kernel.retry import FaultKind
from handshake.kernel.settings import MAX_SLOTS
from handshake.ports.model import CallLimits
from handshake.providers.http_body import BoundedBody, Deadlines
from handshake.providers.wire_sse import WireFault

CONNECT_LIMIT_MS = 5_000
"""One address; a name may have several."""
CLOSE_LIMIT_MS = 1_000
"""From closing to closed (01 §6)."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_UNWANTED_HEADERS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class Border(Protocol):
    """Where one endpoint is, and which addresses may be connected to for it."""

    @property
    def endpoint(self) -> Endpoint:
        """The checked URL."""
        ...

    async def addresses(self) -> Sequence[str]:
        """Return all addresses of the host, none of them remembered from an earlier call.

        Raises:
            OSError: there is none.
        """
        ...

    def admit(self, addresses: Sequence[str]) -> None:
        """Return if a connection to every one of `addresses` may be opened.

        Raises:
            EndpointBlocked, ConsentRequired: it may not.
        """
        ...


class HttpTransport:
    """The way to one provider's endpoint; every exchange has a connection of its own.

    Local engines cannot be trusted to keep one: llama.cpp closes after a stream whose head said `Keep-Alive`, and
    the next request would be lost with its connection. On loopback a new one costs a fifth of a millisecond.

    Args:
        boundary: which addresses may be connected to, asked for every connection.
    """

    def __init__(self, boundary: Border) -> None:
        self._boundary = boundary
        self._session: aiohttp.ClientSession | None = None

    def exchange(self, limits: CallLimits) -> Exchange:
        """Return one request and its response, under limits whose time begins now."""
        if self._session is None:
            self._session = _session(self._boundary)
        return Exchange(self._session, self._boundary.endpoint.origin, limits)

    async def close(self) -> None:
        """Close every connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


class Exchange:
    """One request and its response, and the connection that they use; made by `HttpTransport.exchange`."""

    def __init__(self, session: aiohttp.ClientSession, origin: str, limits: CallLimits) -> None:
        self._session = session
        self._origin = origin
        self._limits = limits
        self._deadlines = Deadlines(limits)
        self._response: aiohttp.ClientResponse | None = None
        self._body: BoundedBody | None = None
        self._protocol: ResponseHandler | None = None
        self._transport: asyncio.Transport | None = None

    @property
    def was_open(self) -> bool:
        """Whether there was a connection, so that bytes may have left."""
        return self._transport is not None

    @property
    def status(self) -> int:
        """The response's status."""
        return 0 if self._response is None else self._response.status

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The response's headers, in their order."""
        return () if self._response is None else tuple(self._response.headers.items())

    def header(self, name: str) -> str | None:
        """Return a header of the response; of a repeated one, the first."""
        return None if self._response is None else self._response.headers.get(name)

    async def send(self, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> None:
        """Send a request, byte for byte, and return once the head of its response is here.

        Raises:
            WireFault: no connection, no head in time, or none of HTTP.
            EndpointBlocked, ConsentRequired: the addresses are not admitted; nothing was sent.
        """
        at, kind = self._deadlines.next()
        limit = asyncio.timeout_at(at)
        token = _current.set(self)
        try:
            async with limit:
                self._response = await self._session.request(
                    method,
                    URL(self._origin + path, encoded=True),
                    data=None if body is None else io.BytesIO(body),
                    headers=headers,
                    allow_redirects=False,
                )
        except (aiohttp.ClientError, OSError) as fault:
            raise WireFault(kind if limit.expired() else _kind_of(fault)) from None
        finally:
            _current.reset(token)
        self._body = BoundedBody(self._response.content, self._deadlines, self._limits.max_response_bytes)

    async def read(self) -> bytes:
        """Return the next bytes of the response's body, or none at its end.

        Raises:
            WireFault: it broke off, is too slow or too large.
        """
        if self._body is None:
            return b""
        try:
            return await self._body.read()
        except (aiohttp.ClientError, OSError) as fault:
            raise WireFault(_kind_of(fault)) from None

    def allow_only(self, limit_ms: int) -> None:
        """Let the rest of the response take `limit_ms` at most, from now."""
        self._deadlines.shorten(limit_ms)

    def opened(self, connection: Connection) -> None:
        """Note the connection on which the request is about to be sent."""
        self._protocol, self._transport = connection.protocol, connection.transport

    async def close(self) -> None:
        """End the exchange: its connection is confirmed closed, and nothing more of the request leaves."""
        self._deadlines.close()
        transport, protocol = self._transport, self._protocol
        if transport is None or protocol is None:
            return
        closed = protocol.closed
        if self._response is None:
            with contextlib.suppress(OSError):
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()
        if self._response is not None:
            self._response.close()
        if closed is not None:
            await asyncio.wait((closed,), timeout=CLOSE_LIMIT_MS / 1_000)
            if closed.done() and not closed.cancelled():
                closed.exception()


_current: ContextVar[Exchange] = ContextVar("exchange")


class _Connector(aiohttp.TCPConnector):
    """Tells the exchange which connection it got."""

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        _current.get().opened(connection)
        return connection


class _Resolver(AbstractResolver):
    """Resolves the one host of a boundary, at the moment of connecting, to admitted addresses."""

    def __init__(self, boundary: Border) -> None:
        self._boundary = boundary

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        addresses = await self._boundary.addresses()
        self._boundary.admit(addresses)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


def _session(boundary: Border) -> aiohttp.ClientSession:
    def open_socket(address: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, (host, *_) = address
        boundary.admit([str(host)])
        return socket.socket(family, kind, protocol)

    connector = _Connector(
        resolver=_Resolver(boundary),
        use_dns_cache=False,
        family=socket.AF_UNSPEC,
        happy_eyeballs_delay=None,
        ssl=_tls() if boundary.endpoint.scheme == "https" else False,
        limit=MAX_SLOTS,
        force_close=True,
        socket_factory=open_socket,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_LIMIT_MS / 1_000),
        skip_auto_headers=_UNWANTED_HEADERS,
        auto_decompress=False,
        trust_env=False,
    )


@functools.cache
def _tls() -> ssl.SSLContext:
    """Return a verifying context with the certificates that OpenSSL was built for, and no word of the environment."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    built = ssl.get_default_verify_paths()
    file, folder = Path(built.openssl_cafile), Path(built.openssl_capath)
    if file.is_file() or folder.is_dir():
        context.load_verify_locations(file if file.is_file() else None, folder if folder.is_dir() else None)
    return context


def _kind_of(fault: Exception) -> FaultKind:
    if isinstance(fault, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)):
        return FaultKind.CONNECT
    if isinstance(fault, aiohttp.ClientPayloadError):
        return FaultKind.INCOMPLETE
    if isinstance(fault, aiohttp.ClientResponseError):
        return FaultKind.GARBAGE
    return FaultKind.RESET
