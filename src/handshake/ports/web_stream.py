"""Web stream port: one HTTP request to addresses that were admitted for it, and its response as it comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from handshake.kernel.locality import Endpoint


class StreamLimits(msgspec.Struct, frozen=True, gc=False):
    """Bounds of one stream: times in milliseconds, sizes in bytes."""

    first_byte_ms: int
    idle_ms: int
    total_ms: int
    max_response_bytes: int


class StreamFault(Exception):
    """There was no whole response. `reason` is a token, such as `connect`, `reset`, `timeout_total` or `too_large`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class WebStream(Protocol):
    """One request and its response, on a connection of its own; after `close` it is closed."""

    @property
    def status(self) -> int:
        """The response's status, once it was sent."""
        ...

    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        """The response's headers, in their order."""
        ...

    async def send(self, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> None:
        """Send a request, byte for byte, and return once the head of its response is here; no redirect is followed.

        Raises:
            StreamFault: no connection, no head in time, or none of HTTP.
            EndpointBlocked: the addresses are not admitted; nothing was sent.
        """
        ...

    async def read(self) -> bytes:
        """Return the next bytes of the body as they came, or none at its end.

        Raises:
            StreamFault: it broke off, is too slow or too large.
        """
        ...

    async def close(self) -> None:
        """End the stream; nothing more of the request leaves."""
        ...


class WebStreams(Protocol):
    """The way out."""

    def open(self, endpoint: Endpoint, limits: StreamLimits, run_by_operator: str | None = None) -> WebStream:
        """Return one stream with `endpoint`, under limits whose time begins now.

        Args:
            endpoint: where to; its addresses are looked up and judged when it is connected to.
            limits: its bounds.
            run_by_operator: why a private address may be connected to, if the configuration says so.

        Raises:
            EndpointBlocked: it has a door of its own.
        """
        ...
