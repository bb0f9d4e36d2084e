"""Seeded chance: the chance port whose bits all follow from one seed."""

from __future__ import annotations

import hashlib

_MAX_BITS = 256


class SeededChance:
    """Bits that are the same in every run: SHA-256 of the seed and a count."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._drawn = 0

    def bits(self, count: int) -> int:
        """Return the next `count` bits as a non-negative integer, `count` from 1 to 256."""
        if not 1 <= count <= _MAX_BITS:
            raise ValueError("chance gives 1 to 256 bits at once")
        digest = hashlib.sha256(f"{self._seed}/{self._drawn}".encode()).digest()
        self._drawn += 1
        return int.from_bytes(digest) >> (_MAX_BITS - count)
