"""Alarm: one wait for all that asked, on a clock that nobody can set."""

from __future__ import annotations

import asyncio

from handshake.scheduler.alarm import Alarm
from handshake.testing.virtual_clock import VirtualClock
from tests.requirement import requirement


class Rung:
    """An alarm that notes when it rings."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.moments: list[int] = []
        self.alarm = Alarm(self.clock, self._ring)

    async def _ring(self) -> None:
        self.moments.append(self.clock.monotonic_us())

    async def pass_time(self, span_us: int) -> None:
        await asyncio.sleep(0)
        self.clock.advance(span_us)
        for _ in range(3):
            await asyncio.sleep(0)


async def test_it_rings_once_at_the_earliest_moment_asked_for() -> None:
    rung = Rung()
    for span_us in (50, 20, 70):
        rung.alarm.set_in(span_us)
    await rung.pass_time(19)
    assert rung.moments == []
    await rung.pass_time(1)
    await rung.pass_time(100)
    assert rung.moments == [20]


async def test_it_can_be_set_again_once_it_rang() -> None:
    rung = Rung()
    rung.alarm.set_in(-5)
    await rung.pass_time(0)
    rung.alarm.set_in(10)
    await rung.pass_time(10)
    assert rung.moments == [0, 10]


async def test_it_does_not_ring_when_cancelled() -> None:
    rung = Rung()
    rung.alarm.cancel()
    rung.alarm.set_in(10)
    rung.alarm.cancel()
    await rung.pass_time(20)
    assert (rung.moments, rung.clock.next_due_us()) == ([], None)


@requirement("recovery.clock.jumps_are_harmless")
async def test_jumps_of_the_wall_neither_ring_nor_delay_it() -> None:
    rung = Rung()
    rung.alarm.set_in(10)
    rung.clock.jump_wall(3_600_000_000)
    await rung.pass_time(9)
    assert rung.moments == []
    rung.clock.jump_wall(-7_200_000_000)
    await rung.pass_time(1)
    assert rung.moments == [10]
