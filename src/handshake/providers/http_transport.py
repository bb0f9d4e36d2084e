"""HTTP transport: the model adapter that sends exact bytes to one provider and closes when told.

The environment has no say: no proxy, no netrc, no CA override, no cookie, no redirect. Connections are opened in
this module and nowhere else, each to an address that was admitted for it.

Source:
    provider.environment.is_ignored, provider.ssrf.blocked, provider.limits.bound_memory,
    provider.error.not_echoed (03 §2, §5, §7).
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
import ssl
import struct
from collections.abc import AsyncGenerator, Callable, Sequence
from contextvars import ContextVar
from pathlib import Path

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import AddrInfoType, Connection
from aiohttp.tracing import Trace
from yarl import URL

from handshake.kernel.errors import InvalidConfig, InvalidRequest, TooLarge
from handshake.kernel.ids import ModelId, ProviderId
from handshake.kernel.job import Backend
from handshake.kernel.locality import Declared, Endpoint
from handshake.kernel.retry import Fault, FaultKind
from handshake.kernel.settings import MAX_ERROR_BODY_BYTES, MAX_REQUEST_BYTES, MAX_SLOTS
from handshake.ports.clock import Clock
from handshake.ports.model import CallLimits, EgressPass, Finished, ModelCall, ModelFault, TextPiece, ThreadMessage
from handshake.providers.http_body import BoundedBody, Deadlines
from handshake.providers.locality import MAX_LISTING_BYTES, PROBE_LIMIT_MS, Asked, Boundary, Lookup, system_lookup
from handshake.providers.wire_http import is_encoded, media_type, request_headers, retry_after_ms
from handshake.providers.wire_openai import PATH, AnswerReader, StreamedAnswer, WholeAnswer, chat_request, model_of
from handshake.providers.wire_sse import WireFault

CONNECT_LIMIT_MS = 5_000
"""One address; a name may have several."""
KEEP_ALIVE_S = 4.0
"""An idle connection: shorter than what engines allow, so that they do not close it under a request."""
ERROR_BODY_LIMIT_MS = 2_000
"""Reading an error's body: the status is known, the rest only helps."""
DRAIN_LIMIT_MS = 20
"""From an answer's end mark to the end of its bytes; a connection that takes longer is not kept."""
CLOSE_LIMIT_MS = 1_000
"""From closing to closed (01 §6)."""

_PROBE_LIMITS = CallLimits(PROBE_LIMIT_MS, PROBE_LIMIT_MS, PROBE_LIMIT_MS, MAX_LISTING_BYTES)
_ERROR_LIMITS = CallLimits(ERROR_BODY_LIMIT_MS, ERROR_BODY_LIMIT_MS, ERROR_BODY_LIMIT_MS, 2 * MAX_ERROR_BODY_BYTES)
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_UNWANTED_HEADERS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_REDACTED = b"[REDACTED:secrets]"


class HttpModel:
    """One provider over HTTP in OpenAI's chat form; in this part it opens nothing but local endpoints.

    Args:
        provider_id: whose passes it takes.
        endpoint: the checked base URL.
        declared: what the config file states about it.
        clock: what `Retry-After` dates are compared with.
        secret: resolves a credential reference when a call is made; nothing of it is kept.
        credential_ref: the reference; None for engines that want none.
        lookup: how names become addresses.
    """

    def __init__(
        self,
        provider_id: ProviderId,
        endpoint: Endpoint,
        declared: Declared,
        *,
        clock: Clock,
        secret: Callable[[str], str],
        credential_ref: str | None = None,
        lookup: Lookup = system_lookup,
    ) -> None:
        self._provider_id = provider_id
        self._boundary = Boundary(provider_id, endpoint, declared, lookup)
        self._endpoint = endpoint
        self._clock = clock
        self._secret = secret
        self._credential_ref = credential_ref
        self._session: aiohttp.ClientSession | None = None

    async def backend(self, model_id: ModelId) -> Backend:
        """Decide where `model_id` would run, from addresses and listing as they are now."""
        if await self._boundary.place() is Backend.CLOUD:
            return Backend.CLOUD
        return await self._boundary.model(model_id, self._ask)

    def render(self, model_id: ModelId, thread: Sequence[ThreadMessage], *, max_output_tokens: int | None) -> bytes:
        """Return the exact body of a request, in runtime form (03 §2)."""
        return chat_request(model_id, thread, max_output_tokens=max_output_tokens)

    async def answer(self, egress_pass: EgressPass, call: ModelCall) -> AsyncGenerator[TextPiece | Finished, None]:
        """Send `call.body` and yield pieces as they arrive; see `ports.model.Model`."""
        self._take(egress_pass, call)
        if await self._boundary.model(egress_pass.model_id, self._ask) is not Backend.LOCAL:
            raise self._boundary.refusal(egress_pass.model_id)
        credential = self._credential()
        deadlines = Deadlines(call.limits)
        exchange = _Exchange()
        consumed = False
        try:
            response = await self._post(call.body, credential, deadlines, exchange)
            if response.status != 200:
                raise await self._refused(response, credential)
            reader = _reader(response, call.limits)
            body = BoundedBody(response.content, deadlines, call.limits.max_response_bytes)
            while not reader.is_done:
                chunk = await body.read()
                for piece in reader.feed(chunk):
                    consumed = True
                    yield piece
                if not chunk:
                    break
            finished = reader.finish()
            await _drain(response)
        except WireFault as fault:
            said = _without(credential, fault.body)[:MAX_ERROR_BODY_BYTES]
            raise ModelFault(Fault(fault.kind, fault.status, None, exchange.was_open, consumed), said) from None
        except (aiohttp.ClientError, OSError) as fault:
            raise ModelFault(Fault(_kind_of(fault), None, None, exchange.was_open, consumed)) from None
        finally:
            deadlines.close()
            await exchange.close()
        yield finished

    async def close(self) -> None:
        """Close every connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _take(self, egress_pass: EgressPass, call: ModelCall) -> None:
        """Use the pass; it and the body must be of one model, which is this provider's."""
        if type(egress_pass) is not EgressPass:
            raise TypeError("a model is opened by an EgressPass")
        egress_pass.spend()
        if egress_pass.provider_id != self._provider_id:
            raise InvalidRequest(field="provider", reason="not_of_this_pass")
        if len(call.body) > MAX_REQUEST_BYTES:
            raise TooLarge(bytes=len(call.body), max_bytes=MAX_REQUEST_BYTES)
        if model_of(call.body) != egress_pass.model_id:
            raise InvalidRequest(field="model", reason="not_of_this_pass")

    def _credential(self) -> str | None:
        if self._credential_ref is None:
            return None
        try:
            credential = self._secret(self._credential_ref)
            request_headers(credential, accept="*/*")
        except (LookupError, OSError, ValueError):
            raise InvalidConfig(key="credential", reason="unresolved", provider_id=self._provider_id) from None
        return credential

    async def _post(
        self, body: bytes, credential: str | None, deadlines: Deadlines, exchange: _Exchange
    ) -> aiohttp.ClientResponse:
        headers = request_headers(credential, accept="text/event-stream, application/json")
        return await self._send("POST", self._endpoint.path + PATH, headers, body, deadlines, exchange)

    async def _ask(self, path: str) -> Asked:
        """Send a GET below the origin, for `locality`; the body of the call waits for its answer."""
        deadlines, exchange = Deadlines(_PROBE_LIMITS), _Exchange()
        headers = request_headers(self._credential(), accept="application/json")
        del headers["content-type"]
        try:
            response = await self._send("GET", path, headers, None, deadlines, exchange)
            if is_encoded(response.headers.get("Content-Encoding")):
                raise WireFault(FaultKind.GARBAGE)
            body = BoundedBody(response.content, deadlines, MAX_LISTING_BYTES)
            return Asked(response.status, await body.read_up_to(MAX_LISTING_BYTES + 1))
        except WireFault as fault:
            raise ModelFault(Fault(fault.kind)) from None
        except (aiohttp.ClientError, OSError) as fault:
            raise ModelFault(Fault(_kind_of(fault))) from None
        finally:
            deadlines.close()
            await exchange.close()

    async def _send(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes | None,
        deadlines: Deadlines,
        exchange: _Exchange,
    ) -> aiohttp.ClientResponse:
        """Return the response once its head is here."""
        if self._session is None:
            self._session = _session(self._boundary)
        at, kind = deadlines.next()
        limit = asyncio.timeout_at(at)
        token = _current.set(exchange)
        try:
            async with limit:
                exchange.response = await self._session.request(
                    method,
                    URL(self._endpoint.origin + path, encoded=True),
                    data=None if body is None else io.BytesIO(body),
                    headers=headers,
                    allow_redirects=False,
                )
            return exchange.response
        except TimeoutError:
            if limit.expired():
                raise WireFault(kind) from None
            raise
        finally:
            _current.reset(token)

    async def _refused(self, response: aiohttp.ClientResponse, credential: str | None) -> ModelFault:
        """Return the fault of an answer other than 200, with what of its body came in time."""
        body, deadlines = bytearray(), Deadlines(_ERROR_LIMITS)
        source = BoundedBody(response.content, deadlines, _ERROR_LIMITS.max_response_bytes)
        with contextlib.suppress(WireFault, aiohttp.ClientError), contextlib.closing(deadlines):
            while len(body) < MAX_ERROR_BODY_BYTES + len(credential or "") and (chunk := await source.read()):
                body += chunk
        wait_ms = retry_after_ms(response.headers.get("Retry-After"), now_us=self._clock.now_us())
        fault = Fault(FaultKind.STATUS, response.status, wait_ms, sent=True)
        return ModelFault(fault, _without(credential, bytes(body))[:MAX_ERROR_BODY_BYTES])


class _Exchange:
    """One request and its response, and the connection that they use."""

    def __init__(self) -> None:
        self.response: aiohttp.ClientResponse | None = None
        self._protocol: ResponseHandler | None = None
        self._transport: asyncio.Transport | None = None

    @property
    def was_open(self) -> bool:
        """Whether there was a connection, so that bytes may have left."""
        return self._transport is not None

    def opened(self, connection: Connection) -> None:
        """Note the connection on which the request is about to be sent."""
        self._protocol, self._transport = connection.protocol, connection.transport

    async def close(self) -> None:
        """End the exchange: a connection on which something is left is reset, and confirmed closed.

        A connection whose response was read to its end is idle and not ours any more.
        """
        response, transport, protocol = self.response, self._transport, self._protocol
        if transport is None or protocol is None:
            return
        if response is not None and response.connection is None:
            return
        closed = protocol.closed
        connection = transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()
        if response is not None:
            response.close()
        if closed is not None:
            await asyncio.wait((closed,), timeout=CLOSE_LIMIT_MS / 1_000)
            if closed.done() and not closed.cancelled():
                closed.exception()


_current: ContextVar[_Exchange] = ContextVar("exchange")


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

    def __init__(self, boundary: Boundary) -> None:
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


def _session(boundary: Boundary) -> aiohttp.ClientSession:
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
        keepalive_timeout=KEEP_ALIVE_S,
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


def _tls() -> ssl.SSLContext:
    """Return a verifying context with the certificates that OpenSSL was built for, and no word of the environment."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    built = ssl.get_default_verify_paths()
    file, folder = Path(built.openssl_cafile), Path(built.openssl_capath)
    if file.is_file() or folder.is_dir():
        context.load_verify_locations(file if file.is_file() else None, folder if folder.is_dir() else None)
    return context


def _reader(response: aiohttp.ClientResponse, limits: CallLimits) -> AnswerReader:
    if is_encoded(response.headers.get("Content-Encoding")):
        raise WireFault(FaultKind.GARBAGE)
    kind = media_type(response.headers.get("Content-Type"))
    if kind == "text/event-stream":
        return StreamedAnswer()
    if kind == "application/json":
        return WholeAnswer(limits.max_response_bytes)
    raise WireFault(FaultKind.GARBAGE)


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Take the end of the bytes, which comes right after the end mark, so that the connection can be kept."""
    with contextlib.suppress(TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(DRAIN_LIMIT_MS / 1_000):
            while await response.content.readany():
                pass


def _kind_of(fault: Exception) -> FaultKind:
    if isinstance(fault, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)):
        return FaultKind.CONNECT
    if isinstance(fault, aiohttp.ClientPayloadError):
        return FaultKind.INCOMPLETE
    if isinstance(fault, aiohttp.ClientResponseError):
        return FaultKind.GARBAGE
    return FaultKind.RESET


def _without(credential: str | None, body: bytes) -> bytes:
    """Return a provider's words without the credential, which some of them echo."""
    return body if credential is None else body.replace(credential.encode(), _REDACTED)
