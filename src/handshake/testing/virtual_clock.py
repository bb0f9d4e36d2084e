"""Virtual clock: the clock port whose time stands still until a test moves it."""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush

from handshake.kernel.units import Microseconds
from handshake.kernel.wall_time import Mark, follow

START_US = Microseconds(1_767_225_600_000_000)
"""2026-01-01T00:00:00Z: where virtual time begins unless told otherwise."""


class VirtualClock:
    """Wall and monotonic time that move together by `advance`, and apart by `jump_wall`."""

    def __init__(self, start_us: Microseconds = START_US) -> None:
        self._mark = Mark(int(start_us))
        self._wall_us = int(start_us)
        self._monotonic_us = 0
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._slept = 0

    def now_us(self) -> Microseconds:
        """Return the time by the law of the machine's clock: see `kernel.wall_time.follow`."""
        self._mark = follow(self._mark, wall_us=self._wall_us, monotonic_us=self._monotonic_us)
        return Microseconds(self._mark.now_us)

    def monotonic_us(self) -> Microseconds:
        """Return how far time was advanced."""
        return Microseconds(self._monotonic_us)

    async def sleep_us(self, span_us: Microseconds) -> None:
        """Wait until time was advanced by `span_us`; a span of nothing only lets others go first."""
        if span_us <= 0:
            await asyncio.sleep(0)
            return
        awake = asyncio.get_running_loop().create_future()
        self._slept += 1
        heappush(self._sleepers, (self._monotonic_us + span_us, self._slept, awake))
        await awake

    def advance(self, span_us: int) -> None:
        """Move time on, and wake in order whoever has slept enough.

        Args:
            span_us: microseconds, at least 0; those who sleep again sleep from the end of the span.
        """
        self._monotonic_us += span_us
        self._wall_us += span_us
        while self._sleepers and self._sleepers[0][0] <= self._monotonic_us:
            awake = heappop(self._sleepers)[2]
            if not awake.done():
                awake.set_result(None)

    def jump_wall(self, span_us: int) -> None:
        """Set the wall clock forward or back, as an operator or a time server does; nobody wakes from it.

        A machine that was suspended is one whose wall clock is then ahead, and whose monotonic clock is not.
        """
        self._wall_us += span_us

    def next_due_us(self) -> Microseconds | None:
        """Return how long it takes until the next sleeper wakes, or None if nobody sleeps."""
        while self._sleepers and self._sleepers[0][2].done():
            heappop(self._sleepers)
        return Microseconds(self._sleepers[0][0] - self._monotonic_us) if self._sleepers else None
