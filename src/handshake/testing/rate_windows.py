"""Rate windows: what a history of takings admitted in any window of time, said without buckets.

For whoever holds a limiter to its law: in every window, what was taken is at most burst + rate x window.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

MINUTE_US = 60_000_000


class Taking(NamedTuple):
    """What was taken at a moment, in requests or tokens; what was given back is below 0."""

    at_us: int
    amount: int


def most_over_rate(history: Iterable[Taking], *, per_minute: int) -> int:
    """Return the most that any window of `history` holds beyond `per_minute` of its length, rounded up, at least 0.

    Args:
        history: takings in order of time.
        per_minute: the rate.
    """
    most = over = 0
    at_us: int | None = None
    for one in history:
        passed_us = 0 if at_us is None else one.at_us - at_us
        # The worst window that ends here is the worst that ended at the taking before, or begins here.
        over = max(0, over - passed_us * per_minute) + one.amount * MINUTE_US
        most, at_us = max(most, over), one.at_us
    return -(-most // MINUTE_US)


def burst_of(history: Iterable[Taking], *, per_minute: int) -> int:
    """Return what a limiter of `per_minute` may admit at once: ten seconds of it, or the largest taking."""
    largest = max((one.amount for one in history), default=0)
    return max(-(-per_minute // 6), largest)


def exceeds(history: Iterable[Taking], *, per_minute: int) -> bool:
    """Return whether some window of `history` holds more than burst + rate x window."""
    whole = list(history)
    return most_over_rate(whole, per_minute=per_minute) > burst_of(whole, per_minute=per_minute)
