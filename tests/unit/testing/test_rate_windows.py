"""Tests of the windows that a history of takings is held to."""

from __future__ import annotations

from random import Random

import pytest

from handshake.testing.rate_windows import MINUTE_US, Taking, burst_of, exceeds, most_over_rate

SECOND_US = 1_000_000


def over_by_every_window(history: list[Taking], per_minute: int) -> int:
    """Look at each window from one taking to another."""
    most = 0
    for first in range(len(history)):
        for last in range(first, len(history)):
            span_us = history[last].at_us - history[first].at_us
            held = sum(one.amount for one in history[first : last + 1])
            most = max(most, held * MINUTE_US - span_us * per_minute)
    return -(-most // MINUTE_US)


@pytest.mark.parametrize("seed", range(40))
def test_one_pass_finds_the_worst_window(seed: int) -> None:
    chance = Random(seed)
    at_us, history = 0, []
    for _ in range(30):
        at_us += chance.choice((0, 1, 999_999, 3 * SECOND_US))
        history.append(Taking(at_us, chance.choice((1, 5, 40, -3))))
    per_minute = chance.choice((1, 60, 601))
    assert most_over_rate(history, per_minute=per_minute) == over_by_every_window(history, per_minute)


def test_no_taking_exceeds_nothing() -> None:
    assert (most_over_rate([], per_minute=60), burst_of([], per_minute=60)) == (0, 10)
    assert not exceeds([], per_minute=60)


def test_ten_seconds_at_once_are_allowed_and_one_more_is_not() -> None:
    at_once = [Taking(7, 1)] * 10
    assert not exceeds(at_once, per_minute=60)
    assert exceeds([*at_once, Taking(7, 1)], per_minute=60)
    assert not exceeds([*at_once, Taking(7 + SECOND_US, 1)], per_minute=60)
    assert exceeds([*at_once, Taking(7 + SECOND_US - 1, 1)], per_minute=60)


def test_one_large_taking_is_its_own_burst() -> None:
    assert not exceeds([Taking(0, 500)], per_minute=60)
    assert exceeds([Taking(0, 500), Taking(0, 1)], per_minute=60)
