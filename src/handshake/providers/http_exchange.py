"""HTTP exchange: what an adapter needs of a transport: one request and its response, on a connection of its own."""

from __future__ import annotations

from typing import Protocol

from handshake.ports.model import CallLimits


class Exchange(Protocol):
    """One request and its response; after `close` its connection is closed."""

    @property
    def was_open(self) -> bool:
        """Whether there was a connection, so that bytes may have left."""
        ...

    @property
    def status(self) -> int:
        """The response's status."""
        ...

    def header(self, name: str) -> str | None:
        """Return a header of the response; of a repeated one, the first."""
        ...

    async def send(self, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> None:
        """Send a request, byte for byte, and return once the head of its response is here.

        Raises:
            WireFault: no connection, no head in time, or none of HTTP.
            EndpointBlocked, ConsentRequired: the addresses are not admitted; nothing was sent.
        """
        ...

    async def read(self) -> bytes:
        """Return the next bytes of the response's body, or none at its end.

        Raises:
            WireFault: it broke off, is too slow or too large.
        """
        ...

    def allow_only(self, limit_ms: int) -> None:
        """Let the rest of the response take `limit_ms` at most, from now."""
        ...

    async def close(self) -> None:
        """End the exchange: its connection is confirmed closed, and nothing more of the request leaves."""
        ...


class Transport(Protocol):
    """The way to one provider."""

    def exchange(self, limits: CallLimits) -> Exchange:
        """Return one request and its response, under limits whose time begins now."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...
