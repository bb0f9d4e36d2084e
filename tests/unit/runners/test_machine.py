"""Tests of the machine's clock and chance: time never goes back, and every bit is drawn."""

from __future__ import annotations

import threading
import time

import pytest

from handshake.kernel.units import Microseconds
from handshake.runners.machine import MachineChance, MachineClock
from tests.requirement import requirement

DAY_US = 86_400 * 1_000_000


def test_wall_time_is_that_of_the_machine() -> None:
    before = time.time_ns() // 1_000
    now = MachineClock().now_us()
    assert before <= now <= time.time_ns() // 1_000


@requirement("scheduler.order.follows_priority_then_sequence", "recovery.clock.jumps_are_harmless")
def test_wall_time_goes_on_at_half_the_pace_while_the_machines_was_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    wall = iter([9_000_000, 1_000_000, 2_000_000, 9_999_000, 10_001_000])
    monotonic = iter([0, 0, 1_000_000, 2_000_000, 2_000_000, 2_000_000])
    monkeypatch.setattr(time, "time_ns", lambda: next(wall))
    monkeypatch.setattr(time, "monotonic_ns", lambda: next(monotonic))
    clock = MachineClock()
    assert [clock.now_us() for _ in range(5)] == [9_000, 9_500, 10_000, 10_000, 10_001]


def test_wall_time_never_goes_back_between_threads() -> None:
    clock = MachineClock()
    seen: list[int] = []
    held = threading.Lock()

    def look() -> None:
        for _ in range(2_000):
            with held:
                seen.append(clock.now_us())

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == sorted(seen)


def test_a_stored_moment_is_never_undercut() -> None:
    later = MachineClock().now_us() + DAY_US
    clock = MachineClock(later)
    moments = [clock.now_us(), clock.now_us()]
    clock.raise_to(later - 1)
    moments.append(clock.now_us())
    assert later <= moments[0] <= moments[1] <= moments[2] < later + DAY_US
    clock.raise_to(later + DAY_US)
    assert clock.now_us() >= later + DAY_US


def test_monotonic_time_goes_on() -> None:
    clock = MachineClock()
    moments = [clock.monotonic_us() for _ in range(100)]
    assert moments == sorted(moments)


async def test_time_passes_in_sleep() -> None:
    clock = MachineClock()
    before = clock.monotonic_us()
    await clock.sleep_us(Microseconds(1))
    assert clock.monotonic_us() > before


@pytest.mark.parametrize("count", [1, 7, 8, 9, 74, 255, 256])
def test_chance_gives_as_many_bits_as_asked(count: int) -> None:
    chance = MachineChance()
    drawn = [chance.bits(count) for _ in range(2_000)]
    assert all(0 <= one < 1 << count for one in drawn)
    together = 0
    for one in drawn:
        together |= one
    assert together == (1 << count) - 1


def test_chance_repeats_nothing_within_and_between_threads() -> None:
    chance, drawn = MachineChance(), []

    def draw() -> None:
        drawn.extend([chance.bits(74) for _ in range(2_000)])

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(drawn)) == len(drawn) == 8_000
