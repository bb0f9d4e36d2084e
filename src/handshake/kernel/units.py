"""Units: small integer types for time, money, sizes and counts, so that no bare number crosses a border."""

from typing import NewType

Microseconds = NewType("Microseconds", int)
"""A span of time, or a moment as microseconds since 1970-01-01T00:00:00Z."""

Tokens = NewType("Tokens", int)
"""Model tokens."""

Bytes = NewType("Bytes", int)
"""A size in bytes."""

UsdMicro = NewType("UsdMicro", int)
"""Money in millionths of a US dollar."""

MAX_SAFE_INTEGER = 2**53 - 1
"""Largest integer that every JSON reader keeps exact (RFC 8785 §3.2.2.3)."""

US_PER_MS = 1_000
US_PER_S = 1_000_000


def dollars(usd_micro: int) -> str:
    """Return micro-USD as decimal text, as events and records of programs have it."""
    return f"{usd_micro // 1_000_000}.{usd_micro % 1_000_000:06d}"
