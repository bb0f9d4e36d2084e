"""Virtual clock: time moves when told, wakes in order, and the wall's jumps never take it back."""

from __future__ import annotations

import asyncio

from handshake.kernel.units import Microseconds
from handshake.testing.virtual_clock import START_US, VirtualClock


def us(value: int) -> Microseconds:
    return Microseconds(value)


def test_time_stands_still_until_it_is_told() -> None:
    clock = VirtualClock()
    assert [clock.now_us(), clock.now_us()] == [START_US, START_US]
    assert clock.monotonic_us() == 0
    clock.advance(7)
    assert (clock.now_us(), clock.monotonic_us()) == (START_US + 7, 7)


def test_wall_that_is_set_back_takes_nothing_back_and_time_goes_on_slowly() -> None:
    clock = VirtualClock(us(1_000))
    assert clock.now_us() == 1_000
    clock.jump_wall(-500)
    assert clock.now_us() == 1_000
    clock.advance(499)
    assert clock.now_us() == 1_249
    clock.advance(501)
    assert clock.now_us() == 1_500
    clock.advance(2)
    assert clock.now_us() == 1_502, "the wall has caught up"
    clock.jump_wall(10_000)
    assert (clock.now_us(), clock.monotonic_us()) == (11_502, 1_002)


class Sleepers:
    """Tasks that sleep, and the spans of those that are awake in the order in which they woke."""

    def __init__(self, clock: VirtualClock, *spans: int) -> None:
        self.awake: list[int] = []
        self.tasks = [asyncio.ensure_future(self._sleep(clock, span)) for span in spans]

    async def _sleep(self, clock: VirtualClock, span: int) -> None:
        await clock.sleep_us(us(span))
        self.awake.append(span)


async def turn() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_sleepers_wake_in_the_order_in_which_they_are_due() -> None:
    clock = VirtualClock()
    sleepers = Sleepers(clock, 30, 10, 20, 10)
    await turn()
    assert clock.next_due_us() == 10
    clock.advance(9)
    await turn()
    assert sleepers.awake == []
    clock.advance(1)
    await turn()
    assert sleepers.awake == [10, 10]
    clock.advance(1_000)
    await turn()
    assert sleepers.awake == [10, 10, 20, 30]
    assert clock.next_due_us() is None


async def test_jump_of_the_wall_wakes_nobody() -> None:
    clock = VirtualClock()
    sleepers = Sleepers(clock, 10)
    await turn()
    clock.jump_wall(1_000_000)
    await turn()
    assert sleepers.awake == []


async def test_sleep_of_nothing_only_lets_others_go_first() -> None:
    clock = VirtualClock()
    sleepers = Sleepers(clock, 0, -5)
    await turn()
    await turn()
    assert sleepers.awake == [0, -5]


async def test_sleeper_that_was_cancelled_is_forgotten() -> None:
    clock = VirtualClock()
    sleeping = asyncio.ensure_future(clock.sleep_us(us(10)))
    await turn()
    sleeping.cancel()
    await turn()
    assert clock.next_due_us() is None
    clock.advance(10)
    assert sleeping.cancelled()
