"""Web streams: requests of tools whose answers come in pieces, sent as providers are called, by their address rules.

Source:
    provider.ssrf.blocked, provider.environment.is_ignored (02 §5, 03 §7).
"""

from __future__ import annotations

from collections.abc import Sequence

from handshake.kernel.ids import ProviderId
from handshake.kernel.locality import Declared, Endpoint, decide
from handshake.kernel.web import Target, admit, require_foreign
from handshake.ports.model import CallLimits
from handshake.ports.web_stream import StreamFault, StreamLimits, WebStream
from handshake.providers.http_transport import HttpTransport
from handshake.providers.locality import Boundary, Lookup, system_lookup
from handshake.providers.wire_sse import WireFault


class OutsideBoundary(Boundary):
    """Where an endpoint of tools ends: this machine if its URL says so, what an operator declared, or the web."""

    def admit(self, addresses: Sequence[str]) -> None:
        """Return if a connection to every one of `addresses` may be opened.

        Raises:
            EndpointBlocked: they are not what the URL or the declaration says.
        """
        if self._declared.run_by_operator is None:
            admit(Target(self.endpoint, "/"), addresses)
        else:
            decide(self.endpoint, addresses, self._declared)


class OutsideStreams:
    """Opens streams.

    Args:
        closed: endpoints that have doors of their own: providers.
        lookup: how names become addresses.
    """

    def __init__(self, closed: Sequence[Endpoint] = (), lookup: Lookup = system_lookup) -> None:
        self._closed = tuple(closed)
        self._lookup = lookup

    def open(self, endpoint: Endpoint, limits: StreamLimits, run_by_operator: str | None = None) -> WebStream:
        """Return one stream, on a connection of its own.

        Raises:
            EndpointBlocked: a provider is there.
        """
        require_foreign(Target(endpoint, "/"), self._closed)
        declared = Declared(run_by_operator=run_by_operator)
        boundary = OutsideBoundary(ProviderId("outside"), endpoint, declared, self._lookup)
        return _Stream(HttpTransport(boundary), limits)


class _Stream:
    """One exchange of a transport, whose faults are told in the words of the port."""

    def __init__(self, transport: HttpTransport, limits: StreamLimits) -> None:
        self._transport = transport
        self._exchange = transport.exchange(
            CallLimits(
                first_byte_ms=limits.first_byte_ms,
                idle_ms=limits.idle_ms,
                total_ms=limits.total_ms,
                max_response_bytes=limits.max_response_bytes,
            )
        )

    @property
    def status(self) -> int:
        return self._exchange.status

    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        return self._exchange.headers

    async def send(self, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> None:
        try:
            await self._exchange.send(method, path, headers, body)
        except WireFault as fault:
            raise StreamFault(fault.kind.value) from None

    async def read(self) -> bytes:
        try:
            return await self._exchange.read()
        except WireFault as fault:
            raise StreamFault(fault.kind.value) from None

    async def close(self) -> None:
        try:
            await self._exchange.close()
        finally:
            await self._transport.close()
