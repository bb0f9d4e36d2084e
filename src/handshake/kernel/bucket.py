"""Bucket: how much of a rate per minute is owed; it drains with time, and fills with what is taken.

What is owed is kept in units of a sixty-millionth, so that a rate per minute drains exactly `rate` of them in each
microsecond: nothing is ever rounded, and the moments at which somebody looks change nothing.

A taking is admitted while what is owed after it is at most ten seconds of the rate, or the taking itself if that is
larger. So in every window what was taken, less what was given back, is at most burst + rate x window, where the burst
is ten seconds of the rate or the largest taking. What a call used beyond its reservation is owed as well.

Source:
    scheduler.rate.requests_and_tokens (INV-SCHED-003, 01 §5); decision 0014.
"""

from __future__ import annotations

import msgspec

from handshake.kernel.units import US_PER_S

UNITS_PER_ONE = 60 * US_PER_S
"""Units of `Bucket.owed` in one request or token: the microseconds of a minute."""
BURST_US = 10 * US_PER_S
"""How much of its rate a bucket admits at once."""
MAX_OWED = 2**62
"""Most that a bucket remembers of a debt: what a 64-bit column holds, and more than a year of the highest rate."""


class Bucket(msgspec.Struct, frozen=True, gc=False):
    """What is owed of a rate, at least 0, as of `at_us` of the clock that its user keeps to."""

    owed: int = 0
    at_us: int = 0


class Wait(msgspec.Struct, frozen=True, gc=False):
    """Not now: the least time after which the same call succeeds, if nothing else is taken meanwhile."""

    us: int


def level(bucket: Bucket, *, per_minute: int, now_us: int) -> Bucket:
    """Return the bucket as it stands at `now_us`; a clock that went back drains nothing."""
    drained = max(0, now_us - bucket.at_us) * per_minute
    return Bucket(max(0, bucket.owed - drained), max(now_us, bucket.at_us))


def take(bucket: Bucket, amount: int, *, per_minute: int, now_us: int) -> Bucket | Wait:
    """Take `amount` from what the rate admits, or say how long to wait for it.

    Args:
        bucket: what is owed of the rate.
        amount: requests or tokens, at least 0.
        per_minute: the rate, at least 1.
        now_us: microseconds of the bucket's clock.

    Returns:
        The bucket after the taking, or `Wait(us)`.

    Source:
        scheduler.rate.requests_and_tokens.
    """
    now = level(bucket, per_minute=per_minute, now_us=now_us)
    owed = now.owed + amount * UNITS_PER_ONE
    over = owed - max(BURST_US * per_minute, amount * UNITS_PER_ONE)
    if over > 0:
        return Wait(now.at_us - now_us - (-over // per_minute))
    return Bucket(owed, now.at_us)


def correct(bucket: Bucket, change: int, *, per_minute: int, now_us: int) -> Bucket:
    """Add what was used beyond a taking, or give back what was not used of it, if `change` is below 0.

    Source:
        scheduler.rate.reconciles_usage.
    """
    now = level(bucket, per_minute=per_minute, now_us=now_us)
    return Bucket(min(max(0, now.owed + change * UNITS_PER_ONE), MAX_OWED), now.at_us)
