"""Clock port: the only source of time."""

from __future__ import annotations

from typing import Protocol

from handshake.kernel.units import Microseconds


class Clock(Protocol):
    """Wall time for records, monotonic time for waits; the simulator hands in a virtual one."""

    def now_us(self) -> Microseconds:
        """Return microseconds since 1970, never less than any earlier answer (`kernel.wall_time`, 01 §8)."""
        ...

    def monotonic_us(self) -> Microseconds:
        """Return microseconds of a clock that no one can set; only differences mean anything.

        Timeouts, leases and waits inside the process are spans of it. It stands still while the machine is suspended.
        """
        ...

    async def sleep_us(self, span_us: Microseconds) -> None:
        """Wait for `span_us` of monotonic time."""
        ...
