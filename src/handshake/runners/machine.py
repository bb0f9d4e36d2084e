"""Machine: the operating system's clock, chance and event loop."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import uvloop

from handshake.kernel.units import US_PER_S, Microseconds
from handshake.kernel.wall_time import Mark, follow

_POOL_BYTES = 1_024
"""Random bytes fetched at once; a copy of a forked process would repeat no more than these."""


class MachineClock:
    """Wall time that never goes back and never stands still, and the kernel's monotonic time, which sleeps with it."""

    def __init__(self, high_us: int = 0) -> None:
        self._lock = threading.Lock()
        self._mark = Mark(high_us, time.monotonic_ns() // 1_000)

    def raise_to(self, high_us: int) -> None:
        """Never answer less than `high_us`, the last moment that was stored (01 §8)."""
        with self._lock:
            if high_us > self._mark.now_us:
                self._mark = Mark(high_us, time.monotonic_ns() // 1_000)

    def now_us(self) -> Microseconds:
        """Return microseconds since 1970, never less than before on any thread."""
        with self._lock:
            self._mark = follow(self._mark, wall_us=time.time_ns() // 1_000, monotonic_us=time.monotonic_ns() // 1_000)
            return Microseconds(self._mark.now_us)

    def monotonic_us(self) -> Microseconds:
        """Return microseconds of the monotonic clock."""
        return Microseconds(time.monotonic_ns() // 1_000)

    async def sleep_us(self, span_us: Microseconds) -> None:
        """Wait on the event loop."""
        await asyncio.sleep(span_us / US_PER_S)


class _Pool(threading.local):
    """Random bytes that one thread has fetched and not used yet."""

    left = b""
    at = 0


class MachineChance:
    """The operating system's cryptographic random bits, fetched some at a time because each fetch is a system call."""

    def __init__(self) -> None:
        self._pool = _Pool()

    def bits(self, count: int) -> int:
        """Return `count` random bits, 1 to 256."""
        size = (count + 7) // 8
        pool = self._pool
        at = pool.at
        if at + size > len(pool.left):
            pool.left, at = os.urandom(_POOL_BYTES), 0
        pool.at = at + size
        return int.from_bytes(pool.left[at : at + size], "big") >> (size * 8 - count)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop for a process of our own: uvloop's, which costs a run a twentieth less of its time."""
    return uvloop.new_event_loop()
