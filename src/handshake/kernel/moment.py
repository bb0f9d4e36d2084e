"""Moment: microseconds since 1970 as people write them, and back: RFC 3339, and spans like `15m`."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

from handshake.kernel.errors import InvalidRequest
from handshake.kernel.units import US_PER_S, Microseconds

MAX_MOMENT_CHARS = 40
"""Longest text that is read as a moment."""

_SPAN = re.compile(r"([0-9]{1,9})(us|ms|s|m|h|d)")
_UNIT_US = {"us": 1, "ms": 1_000, "s": US_PER_S, "m": 60 * US_PER_S, "h": 3_600 * US_PER_S, "d": 86_400 * US_PER_S}
_SECONDS_KEPT = 64
"""Seconds that are kept written: whatever is told is mostly told of the last one."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rfc3339(moment_us: int) -> str:
    """Return a moment as RFC 3339 in UTC with six decimal places."""
    return f"{_second(moment_us // US_PER_S)}.{moment_us % US_PER_S:06d}Z"


def span_us(text: str) -> Microseconds | None:
    """Return the span that a person wrote, like `15m`, or None if it is none."""
    span = _SPAN.fullmatch(text)
    return Microseconds(int(span[1]) * _UNIT_US[span[2]]) if span else None


@lru_cache(maxsize=_SECONDS_KEPT)
def _second(since_1970: int) -> str:
    return datetime.fromtimestamp(since_1970, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def parse_moment(field: str, text: str, *, now_us: Microseconds) -> Microseconds:
    """Return the moment that a person wrote: RFC 3339, or a span before `now_us` like `90s`, `15m`, `2h`, `7d`.

    Raises:
        InvalidRequest: neither, before 1970, or a time without its zone.
    """
    span = span_us(text)
    if span is not None:
        return Microseconds(max(0, now_us - span))
    try:
        if len(text) > MAX_MOMENT_CHARS:
            raise ValueError
        moment = datetime.fromisoformat(text)
        since = moment - _EPOCH
    except (ValueError, TypeError, OverflowError):
        raise InvalidRequest(
            field=field,
            reason="not_a_moment",
            hint="write 2026-01-31T08:00:00Z, or a span back from now: 90s, 15m, 2h, 7d",
        ) from None
    moment_us = (since.days * 86_400 + since.seconds) * US_PER_S + since.microseconds
    if moment_us < 0:
        raise InvalidRequest(field=field, reason="before_1970")
    return Microseconds(moment_us)
