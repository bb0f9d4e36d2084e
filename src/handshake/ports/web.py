"""Web port: one request to the web and its answer; addresses are judged where they are connected to."""

from __future__ import annotations

from typing import Protocol

import msgspec

from handshake.kernel.web import Target


class WebRequest(msgspec.Struct, frozen=True, gc=False):
    """What is sent, byte for byte, besides the headers that HTTP itself needs."""

    method: str
    target: Target
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None


class WebLimits(msgspec.Struct, frozen=True, gc=False):
    """Bounds of one request: times in milliseconds, sizes in bytes."""

    idle_ms: int
    total_ms: int
    max_body_bytes: int


class WebResponse(msgspec.Struct, frozen=True, gc=False):
    """What came back; a redirect is an answer like any other."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    is_cut: bool
    """Whether there was more than the bound; the connection is closed, and nobody read the rest."""


class WebFailed(Exception):
    """A request had no answer; `reason` is a token."""

    def __init__(self, reason: str, *, timeout: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_timeout = timeout


class Web(Protocol):
    """The way to the web."""

    async def fetch(self, request: WebRequest, limits: WebLimits) -> WebResponse:
        """Send one request on a connection of its own and return its answer; the connection is closed afterwards.

        Raises:
            WebFailed: no connection, no answer in time, or none of HTTP.
            EndpointBlocked: the address may not be reached; nothing was sent.
        """
        ...
