"""Wall time: what counts as now while somebody sets the wall clock, forward or back.

Source:
    recovery.clock.jumps_are_harmless (01 §8; decision 0010).
"""

from __future__ import annotations

import msgspec


class Mark(msgspec.Struct, frozen=True, gc=False):
    """The last moment at which the wall clock was believed, and the monotonic time of it; both in microseconds."""

    now_us: int = 0
    monotonic_us: int = 0


def follow(mark: Mark, *, wall_us: int, monotonic_us: int) -> Mark:
    """Return a mark whose `now_us` is now: never before what was answered from `mark`, and never at a standstill.

    A wall clock that is set forward is followed at once. One that stands before the mark is not: from there time
    goes on at half the pace of the monotonic clock, until the wall has caught up with it.

    Args:
        mark: what the last call returned; for the first call, the last moment that was stored.
        wall_us: microseconds since 1970 as the wall clock has them.
        monotonic_us: microseconds of the monotonic clock, never less than in an earlier call.
    """
    slow_us = mark.now_us + (monotonic_us - mark.monotonic_us) // 2
    if wall_us >= slow_us:
        return Mark(wall_us, monotonic_us)
    # An even number of microseconds is used up, so that what is left of an odd one is not lost.
    return Mark(slow_us, mark.monotonic_us + 2 * (slow_us - mark.now_us))
