"""Chance that follows from a seed."""

from __future__ import annotations

import pytest

from handshake.testing.seeded_chance import SeededChance


def test_same_seed_gives_the_same_bits() -> None:
    first, second = SeededChance(5), SeededChance(5)
    assert [first.bits(74) for _ in range(9)] == [second.bits(74) for _ in range(9)]


def test_draws_and_seeds_differ() -> None:
    drawn = [chance.bits(74) for chance in (SeededChance(0), SeededChance(1)) for _ in range(99)]
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize("count", [1, 2, 74, 255, 256])
def test_bits_fill_their_range(count: int) -> None:
    chance = SeededChance(1)
    drawn = [chance.bits(count) for _ in range(64)]
    assert all(0 <= value < 1 << count for value in drawn)
    assert any(value >> (count - 1) for value in drawn)


@pytest.mark.parametrize("count", [0, -1, 257])
def test_count_has_bounds(count: int) -> None:
    with pytest.raises(ValueError):
        SeededChance(1).bits(count)
