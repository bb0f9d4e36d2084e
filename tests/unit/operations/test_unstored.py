"""Unstored: outcomes that wait are counted, and whoever waits for the last of them is told."""

from __future__ import annotations

import pytest

from handshake.operations.unstored import Unstored
from tests.requirement import requirement


@requirement("recovery.outcome.never_lost")
def test_the_last_one_that_is_stored_is_told() -> None:
    unstored, told = Unstored(), list[int]()
    unstored.cleared = lambda: told.append(unstored.count)
    with unstored.waiting():
        with unstored.waiting():
            assert unstored.count == 2
        assert (unstored.count, told) == (1, [])
    assert (unstored.count, told) == (0, [0])


def test_one_that_is_left_to_the_next_start_is_not_counted_any_more() -> None:
    unstored = Unstored()
    with pytest.raises(KeyError), unstored.waiting():
        raise KeyError
    assert unstored.count == 0
