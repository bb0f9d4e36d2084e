"""Web client: requests of tools, sent through the transport of providers under the rules of the web.

Each request has its own look-up, its own connection and its own end; nothing is kept from one to the next.

Source:
    provider.ssrf.blocked, provider.environment.is_ignored, provider.limits.bound_memory (02 §5, 03 §7).
"""

from __future__ import annotations

from collections.abc import Sequence

from handshake.kernel.locality import Endpoint
from handshake.kernel.retry import FaultKind
from handshake.kernel.web import Target, admit, require_foreign
from handshake.ports.model import CallLimits
from handshake.ports.web import WebFailed, WebLimits, WebRequest, WebResponse
from handshake.providers.http_transport import Exchange, HttpTransport
from handshake.providers.locality import LOCALHOST_ADDRESSES, Lookup, system_lookup
from handshake.providers.wire_sse import WireFault

_CHUNK_BYTES = 1024 * 1024
"""More than one read brings; so a body is cut where it is too long, and not refused."""
_TIMEOUTS = frozenset({FaultKind.TIMEOUT_FIRST_BYTE, FaultKind.TIMEOUT_IDLE, FaultKind.TIMEOUT_TOTAL})


class WebClient:
    """The web port on real connections.

    Args:
        closed: endpoints that have doors of their own: providers, and the runtime's service.
        lookup: how names become addresses.
    """

    def __init__(self, closed: Sequence[Endpoint], lookup: Lookup = system_lookup) -> None:
        self._closed = tuple(closed)
        self._lookup = lookup

    async def fetch(self, request: WebRequest, limits: WebLimits) -> WebResponse:
        """Send one request on a connection of its own and return its answer.

        Raises:
            WebFailed: no connection, no answer in time, or none of HTTP.
            EndpointBlocked: the address may not be reached; nothing was sent.
        """
        require_foreign(request.target, self._closed)
        transport = HttpTransport(_WebBorder(request.target, self._lookup))
        exchange = transport.exchange(
            CallLimits(limits.idle_ms, limits.idle_ms, limits.total_ms, limits.max_body_bytes + _CHUNK_BYTES)
        )
        try:
            await exchange.send(request.method, request.target.rest, dict(request.headers), request.body)
            body, is_cut = await _body(exchange, limits.max_body_bytes)
            return WebResponse(exchange.status, exchange.headers, body, is_cut)
        except WireFault as fault:
            raise WebFailed(fault.kind.value, timeout=fault.kind in _TIMEOUTS) from None
        finally:
            await exchange.close()
            await transport.close()


class _WebBorder:
    """Where one request may be connected to."""

    def __init__(self, target: Target, lookup: Lookup) -> None:
        self._target = target
        self._lookup = lookup

    @property
    def endpoint(self) -> Endpoint:
        return self._target.endpoint

    async def addresses(self) -> Sequence[str]:
        endpoint = self._target.endpoint
        if endpoint.is_address:
            return (endpoint.host,)
        if endpoint.host == "localhost":
            return LOCALHOST_ADDRESSES
        return await self._lookup(endpoint.host, endpoint.port)

    def admit(self, addresses: Sequence[str]) -> None:
        admit(self._target, addresses)


async def _body(exchange: Exchange, most: int) -> tuple[bytes, bool]:
    parts: list[bytes] = []
    size = 0
    while size <= most:
        part = await exchange.read()
        if not part:
            return b"".join(parts), False
        parts.append(part)
        size += len(part)
    return b"".join(parts)[:most], True
