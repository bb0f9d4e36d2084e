"""Wall time: forward at once, back never, and never at a standstill."""

from __future__ import annotations

from handshake.kernel.wall_time import Mark, follow
from tests.requirement import requirement

HOUR_US = 3_600 * 1_000_000


def test_wall_that_moves_on_is_now() -> None:
    assert follow(Mark(100, 7), wall_us=105, monotonic_us=12) == Mark(105, 12)


@requirement("recovery.clock.jumps_are_harmless")
def test_wall_that_is_set_forward_is_followed_at_once() -> None:
    assert follow(Mark(100, 7), wall_us=HOUR_US, monotonic_us=7) == Mark(HOUR_US, 7)


@requirement("recovery.clock.jumps_are_harmless")
def test_wall_that_is_set_back_an_hour_has_caught_up_in_two() -> None:
    mark = Mark(10 * HOUR_US, 0)
    for half_hours, hours in ((1, 10.25), (2, 10.5), (3, 10.75), (4, 11.0), (5, 11.5)):
        passed_us = half_hours * HOUR_US // 2
        mark = follow(mark, wall_us=9 * HOUR_US + passed_us, monotonic_us=passed_us)
        assert mark.now_us == hours * HOUR_US


def test_half_microseconds_add_up() -> None:
    mark = Mark(100, 0)
    seen = []
    for monotonic_us in range(1, 7):
        mark = follow(mark, wall_us=0, monotonic_us=monotonic_us)
        seen.append(mark.now_us)
    assert seen == [100, 101, 101, 102, 102, 103]
