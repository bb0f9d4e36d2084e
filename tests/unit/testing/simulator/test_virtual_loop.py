from __future__ import annotations

import asyncio
import gc

import pytest

from handshake.kernel.units import Microseconds
from handshake.testing.simulator.virtual_loop import Stuck, VirtualLoop, run_virtually
from handshake.testing.virtual_clock import VirtualClock

DAY_S = 86_400


def new_loop(**options: int) -> tuple[VirtualLoop, VirtualClock]:
    clock = VirtualClock()
    return VirtualLoop(clock, **options), clock


def test_time_jumps_to_what_is_due_next() -> None:
    loop, clock = new_loop()
    seen: list[tuple[str, int]] = []

    async def sleeper(name: str, span_s: float) -> None:
        await asyncio.sleep(span_s)
        seen.append((name, clock.monotonic_us()))

    async def waiter() -> None:
        await clock.sleep_us(Microseconds(1_500_000))
        seen.append(("clock", clock.monotonic_us()))

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(sleeper("long", DAY_S))
            group.create_task(sleeper("short", 0.25))
            group.create_task(waiter())

    run_virtually(main(), loop)
    assert seen == [("short", 250_000), ("clock", 1_500_000), ("long", DAY_S * 1_000_000)]
    assert loop.steps < 30


def test_timeouts_follow_virtual_time() -> None:
    loop, clock = new_loop()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3_600):
                await asyncio.Event().wait()

    run_virtually(main(), loop)
    assert 3_600_000_000 <= clock.monotonic_us() <= 3_600_000_001


def test_waiting_for_what_never_comes_is_noticed() -> None:
    loop, _ = new_loop()

    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stuck, match="nothing is due"):
        run_virtually(main(), loop)


def test_going_round_in_circles_is_noticed() -> None:
    loop, _ = new_loop(max_steps=100)

    async def main() -> None:
        for _ in range(1_000):
            await asyncio.sleep(0)

    with pytest.raises(Stuck, match="100 turns"):
        run_virtually(main(), loop)


def test_whoever_runs_it_can_be_stopped_from_inside() -> None:
    loop, _ = new_loop()

    async def main() -> None:
        loop.stop_with(LookupError("found"))
        await asyncio.sleep(1)

    with pytest.raises(LookupError, match="found"):
        run_virtually(main(), loop)


def test_executors_are_the_loop_itself() -> None:
    loop, _ = new_loop()

    async def main() -> int:
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)
        return await asyncio.to_thread(lambda: 42)

    assert run_virtually(main(), loop) == 42


def test_tasks_that_are_left_end_in_their_order() -> None:
    loop, _ = new_loop()
    ended: list[int] = []

    async def stays(number: int) -> None:
        try:
            await asyncio.sleep(DAY_S)
        finally:
            ended.append(number)

    async def main() -> None:
        tasks = [loop.create_task(stays(number)) for number in range(20)]
        await asyncio.sleep(1)
        assert not any(task.done() for task in tasks)
        assert len(loop.unfinished()) == 21

    run_virtually(main(), loop)
    assert ended == list(range(20))
    assert gc.isenabled()
