"""Chance port: the only source of randomness."""

from __future__ import annotations

from typing import Protocol


class Chance(Protocol):
    """Random bits; the simulator hands in a seeded one."""

    def bits(self, count: int) -> int:
        """Return `count` random bits as a non-negative integer, `count` from 1 to 256."""
        ...
