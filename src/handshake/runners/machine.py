"""Machine: the operating system's clock and chance."""

from __future__ import annotations

import asyncio
import os
import time

from handshake.kernel.units import US_PER_S, Microseconds


class MachineClock:
    """Wall time that never goes back, and the kernel's monotonic time."""

    def __init__(self, high_us: int = 0) -> None:
        self._high_us = high_us

    def raise_to(self, high_us: int) -> None:
        """Never answer less than `high_us`, the last moment that was stored (01 §8)."""
        self._high_us = max(self._high_us, high_us)

    def now_us(self) -> Microseconds:
        """Return microseconds since 1970, never less than before."""
        now = max(time.time_ns() // 1_000, self._high_us)
        self._high_us = now
        return Microseconds(now)

    def monotonic_us(self) -> Microseconds:
        """Return microseconds of the monotonic clock."""
        return Microseconds(time.monotonic_ns() // 1_000)

    async def sleep_us(self, span_us: Microseconds) -> None:
        """Wait on the event loop."""
        await asyncio.sleep(span_us / US_PER_S)


class MachineChance:
    """The operating system's random bits; used from several threads."""

    def bits(self, count: int) -> int:
        """Return `count` random bits, 1 to 256."""
        size = (count + 7) // 8
        return int.from_bytes(os.urandom(size), "big") >> (size * 8 - count)
