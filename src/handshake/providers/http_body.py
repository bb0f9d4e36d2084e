"""Response body: its bytes under the deadlines and the size bound of a call, with little memory.

Source:
    provider.limits.bound_memory, scheduler.timeout.is_enforced (03 §7).
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from handshake.kernel.retry import FaultKind
from handshake.ports.model import CallLimits
from handshake.providers.wire_sse import WireFault


class Source(Protocol):
    """Where bytes arrive; it makes the sender wait while its buffer is full."""

    def read_nowait(self, n: int = -1) -> bytes:
        """Return what has arrived, perhaps nothing."""
        ...

    async def readany(self) -> bytes:
        """Wait until something has arrived, and return it; nothing at the end."""
        ...

    def at_eof(self) -> bool:
        """Whether the body ended and was read."""
        ...

    def set_exception(self, exc: BaseException) -> None:
        """Make whoever waits, and every later reader, raise `exc`."""
        ...


class Deadlines:
    """The deadlines of one call, which begins now; times of the event loop in seconds.

    Only waiting for the provider counts as idle; a slow reader does not make a provider late. One timer serves a
    whole call: it is set anew when it rings too early, not for every piece.
    """

    def __init__(self, limits: CallLimits) -> None:
        self._loop = asyncio.get_running_loop()
        begun = self._loop.time()
        self._total_at = begun + limits.total_ms / 1_000
        self._first_byte_at = begun + limits.first_byte_ms / 1_000
        self._idle_s = limits.idle_ms / 1_000
        self._has_begun = False
        self._timer: asyncio.TimerHandle | None = None
        self._source: Source | None = None
        self._at = 0.0
        self._kind = FaultKind.TIMEOUT_TOTAL

    def began(self) -> None:
        """Note that the first byte of the answer is here."""
        self._has_begun = True

    def shorten(self, limit_ms: int) -> None:
        """Let the whole call be over `limit_ms` from now, if it is not over before."""
        self._total_at = min(self._total_at, self._loop.time() + limit_ms / 1_000)

    def next(self) -> tuple[float, FaultKind]:
        """Return when a wait that begins now is over, and as what.

        Raises:
            WireFault: the whole call is already late.
        """
        now = self._loop.time()
        if now >= self._total_at:
            raise WireFault(FaultKind.TIMEOUT_TOTAL)
        if self._has_begun:
            at, kind = now + self._idle_s, FaultKind.TIMEOUT_IDLE
        else:
            at, kind = self._first_byte_at, FaultKind.TIMEOUT_FIRST_BYTE
        return (at, kind) if at <= self._total_at else (self._total_at, FaultKind.TIMEOUT_TOTAL)

    async def wait_for(self, source: Source) -> bytes:
        """Return what arrives next at `source`, or make it raise WireFault once the wait is over."""
        self._at, self._kind = self.next()
        self._source = source
        self._set_timer()
        try:
            return await source.readany()
        finally:
            self._source = None

    def close(self) -> None:
        """Let nothing ring any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self) -> None:
        if self._timer is None or self._timer.when() > self._at:
            self.close()
            self._timer = self._loop.call_at(self._at, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._source is None:
            return
        if self._loop.time() < self._at:
            self._set_timer()
        else:
            self._source.set_exception(WireFault(self._kind))


class BoundedBody:
    """Reads a body chunk by chunk; it never holds more than one chunk.

    Args:
        source: where the bytes arrive.
        deadlines: of the call.
        max_bytes: more than this in all is TOO_LARGE.
    """

    def __init__(self, source: Source, deadlines: Deadlines, max_bytes: int) -> None:
        self._source = source
        self._deadlines = deadlines
        self._left_bytes = max_bytes

    async def read(self) -> bytes:
        """Return the next bytes, or none at the end.

        Raises:
            WireFault: too slow or too large.
        """
        self._deadlines.next()
        chunk = self._source.read_nowait()
        if not chunk and not self._source.at_eof():
            chunk = await self._deadlines.wait_for(self._source)
        self._deadlines.began()
        self._left_bytes -= len(chunk)
        if self._left_bytes < 0:
            raise WireFault(FaultKind.TOO_LARGE)
        return chunk
