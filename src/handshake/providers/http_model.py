"""HTTP model: the adapter of a provider that speaks OpenAI's chat form; in this part it opens local endpoints only.

Source:
    provider.error.not_echoed, provider.secret.never_leaks, scheduler.path.is_single (03 §2, §5, §7).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from types import MappingProxyType

from handshake.kernel.errors import InvalidConfig, InvalidRequest, TooLarge, Unsupported
from handshake.kernel.ids import ModelId, ProviderId
from handshake.kernel.job import Backend
from handshake.kernel.locality import Declared, Endpoint
from handshake.kernel.retry import Fault, FaultKind
from handshake.kernel.settings import MAX_ERROR_BODY_BYTES, MAX_REQUEST_BYTES, ToolSupport
from handshake.ports.clock import Clock
from handshake.ports.model import (
    CallLimits,
    EgressPass,
    Finished,
    ModelCall,
    ModelFault,
    TextPiece,
    ThreadMessage,
    ToolSchema,
)
from handshake.providers.http_exchange import Exchange, Transport
from handshake.providers.http_transport import HttpTransport
from handshake.providers.locality import MAX_LISTING_BYTES, PROBE_LIMIT_MS, Asked, Boundary, Lookup, system_lookup
from handshake.providers.wire_emulated import EmulatedAnswer, emulated_request, offers_tools
from handshake.providers.wire_http import is_encoded, media_type, request_headers, retry_after_ms
from handshake.providers.wire_openai import (
    PATH,
    AnswerReader,
    StreamedAnswer,
    WholeAnswer,
    chat_request,
    model_of,
    takes_no_tools,
)
from handshake.providers.wire_sse import WireFault

ERROR_BODY_LIMIT_MS = 2_000
"""Reading an error's body: the status is known, the rest only helps."""

PROBE_LIMITS = CallLimits(PROBE_LIMIT_MS, PROBE_LIMIT_MS, PROBE_LIMIT_MS, MAX_LISTING_BYTES)
"""Of the question to an engine which models it has."""
_REDACTED = b"[REDACTED:secrets]"


class HttpModel:
    """One provider over HTTP.

    Args:
        provider_id: whose passes it takes.
        endpoint: the checked base URL.
        declared: what the config file states about it.
        clock: what `Retry-After` dates are compared with.
        secret: resolves a credential reference when a call is made; nothing of it is kept.
        credential_ref: the reference; None for engines that want none.
        tools: how models are offered tools; those that are not named, as functions.
        lookup: how names become addresses.
        transport: makes the way to the provider, of its boundary; None for HTTP over sockets.
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
        tools: Mapping[ModelId, ToolSupport] = MappingProxyType({}),
        lookup: Lookup = system_lookup,
        transport: Callable[[Boundary], Transport] | None = None,
    ) -> None:
        self._provider_id = provider_id
        self._endpoint = endpoint
        self._boundary = Boundary(provider_id, endpoint, declared, lookup)
        self._transport: Transport = HttpTransport(self._boundary) if transport is None else transport(self._boundary)
        self._clock = clock
        self._secret = secret
        self._credential_ref = credential_ref
        self._tools = tools

    async def backend(self, model_id: ModelId) -> Backend:
        """Decide where `model_id` would run, from addresses and listing as they are now."""
        if await self._boundary.place() is Backend.CLOUD:
            return Backend.CLOUD
        return await self._boundary.model(model_id, self._ask)

    def render(
        self,
        model_id: ModelId,
        thread: Sequence[ThreadMessage],
        *,
        max_output_tokens: int | None,
        tools: Sequence[ToolSchema] = (),
    ) -> bytes:
        """Return the exact body of a request, in runtime form (03 §2).

        Raises:
            Unsupported: there are tools to offer, and the model takes none.
        """
        support = self._tools.get(model_id, ToolSupport.NATIVE)
        if support is ToolSupport.NATIVE:
            return chat_request(model_id, thread, max_output_tokens=max_output_tokens, tools=tools)
        if tools and support is ToolSupport.NONE:
            raise Unsupported(field="tools", provider_id=self._provider_id, model_id=model_id)
        return emulated_request(model_id, thread, max_output_tokens=max_output_tokens, tools=tools)

    async def answer(self, egress_pass: EgressPass, call: ModelCall) -> AsyncGenerator[TextPiece | Finished, None]:
        """Send `call.body` and yield pieces as they arrive; see `ports.model.Model`."""
        self._take(egress_pass, call)
        if await self._boundary.model(egress_pass.model_id, self._ask) is not Backend.LOCAL:
            raise self._boundary.refusal(egress_pass.model_id)
        credential = self._credential()
        headers = request_headers(credential, accept="text/event-stream, application/json")
        exchange = self._transport.exchange(call.limits)
        consumed = False
        try:
            await exchange.send("POST", self._endpoint.path + PATH, headers, call.body)
            if exchange.status != 200:
                refused = await self._refused(exchange, credential)
                if takes_no_tools(exchange.status, refused.body, call.body):
                    raise Unsupported(field="tools", provider_id=self._provider_id, model_id=egress_pass.model_id)
                raise refused
            reader = _reader(exchange, call.limits)
            if self._tools.get(egress_pass.model_id) is ToolSupport.EMULATED and offers_tools(call.body):
                reader = EmulatedAnswer(reader)
            while not reader.is_done:
                chunk = await exchange.read()
                for piece in reader.feed(chunk):
                    consumed = True
                    yield piece
                if not chunk:
                    break
            finished = reader.finish()
        except WireFault as fault:
            said = _without(credential, fault.body)[:MAX_ERROR_BODY_BYTES]
            raise ModelFault(Fault(fault.kind, fault.status, None, exchange.was_open, consumed), said) from None
        finally:
            await exchange.close()
        yield finished

    async def close(self) -> None:
        """Close every connection."""
        await self._transport.close()

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

    async def _ask(self, path: str) -> Asked:
        """Send a GET below the origin, for `locality`; the body of the call waits for its answer."""
        headers = request_headers(self._credential(), accept="application/json")
        del headers["content-type"]
        exchange = self._transport.exchange(PROBE_LIMITS)
        body = bytearray()
        try:
            await exchange.send("GET", path, headers)
            if is_encoded(exchange.header("Content-Encoding")):
                raise WireFault(FaultKind.GARBAGE)
            while chunk := await exchange.read():
                body += chunk
        except WireFault as fault:
            raise ModelFault(Fault(fault.kind)) from None
        finally:
            await exchange.close()
        return Asked(exchange.status, bytes(body))

    async def _refused(self, exchange: Exchange, credential: str | None) -> ModelFault:
        """Return the fault of an answer other than 200, with what of its body came in time."""
        body, max_bytes = bytearray(), MAX_ERROR_BODY_BYTES + len(credential or "")
        exchange.allow_only(ERROR_BODY_LIMIT_MS)
        with contextlib.suppress(WireFault):
            while len(body) < max_bytes and (chunk := await exchange.read()):
                body += chunk
        wait_ms = retry_after_ms(exchange.header("Retry-After"), now_us=self._clock.now_us())
        fault = Fault(FaultKind.STATUS, exchange.status, wait_ms, sent=True)
        return ModelFault(fault, _without(credential, bytes(body))[:MAX_ERROR_BODY_BYTES])


def _reader(exchange: Exchange, limits: CallLimits) -> AnswerReader:
    if is_encoded(exchange.header("Content-Encoding")):
        raise WireFault(FaultKind.GARBAGE)
    kind = media_type(exchange.header("Content-Type"))
    if kind == "text/event-stream":
        return StreamedAnswer()
    if kind == "application/json":
        return WholeAnswer(limits.max_response_bytes)
    raise WireFault(FaultKind.GARBAGE)


def _without(credential: str | None, body: bytes) -> bytes:
    """Return a provider's words without the credential, which some of them echo."""
    return body if credential is None else body.replace(credential.encode(), _REDACTED)
