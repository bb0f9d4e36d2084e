"""Alarm: one wait on the monotonic clock that ends at the earliest of the moments it was set to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from handshake.kernel.units import Microseconds
from handshake.ports.clock import Clock


class Alarm:
    """Rings once for all that asked; who rings looks what is due, and sets it again for what is not."""

    def __init__(self, clock: Clock, ring: Callable[[], Awaitable[None]]) -> None:
        self._clock = clock
        self._ring = ring
        self._task: asyncio.Task[None] | None = None
        self._at_us = 0

    def set_in(self, span_us: int) -> None:
        """Ring in `span_us` at the latest; on the event loop only."""
        span_us = max(0, span_us)
        at_us = self._clock.monotonic_us() + span_us
        if self._task is not None and self._at_us <= at_us:
            return
        self.cancel()
        self._at_us = at_us
        self._task = asyncio.get_running_loop().create_task(self._wait(Microseconds(span_us)))

    def cancel(self) -> None:
        """Do not ring; what is ringing goes on."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _wait(self, span_us: Microseconds) -> None:
        await self._clock.sleep_us(span_us)
        self._task = None
        await self._ring()
