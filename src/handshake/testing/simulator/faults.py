"""Faults: what goes wrong in a scenario, each at moments that chance draws around the ones that are written."""

from __future__ import annotations

import asyncio
from random import Random

from handshake.kernel.units import US_PER_MS
from handshake.testing.simulator.reply_bytes import around
from handshake.testing.simulator.scenario import FaultKind, FaultPlan
from handshake.testing.simulator.world import World


class Mishap:
    """One fault of a scenario, as often as it happens.

    Args:
        world: what it happens to.
        plan: what and when.
        chance: draws the moments.
    """

    def __init__(self, world: World, plan: FaultPlan, chance: Random) -> None:
        self._world = world
        self._plan = plan
        self._chance = chance
        self.happened = 0

    async def happen(self) -> None:
        """Let it happen, again and again."""
        plan = self._plan
        await self._sleep(around(self._chance, plan.at_ms))
        for number in range(plan.times):
            if number:
                await self._sleep(around(self._chance, plan.every_ms or 1))
            await self._world.up()
            await self._once()
            self.happened += 1

    async def _once(self) -> None:
        plan, world, disk = self._plan, self._world, self._world.disk
        soon = disk.operations + 1 + int(self._chance.random() * (plan.within_operations or 1))
        if plan.kind is FaultKind.STOP:
            await world.stop()
        elif plan.kind is FaultKind.CRASH:
            world.crash()
        elif plan.kind is FaultKind.POWER_LOSS:
            if plan.within_operations is None:
                world.lose_power()
            else:
                disk.cut_at(soon)
        elif plan.kind in (FaultKind.DISK_FULL, FaultKind.DISK_BROKEN):
            (disk.fill_at if plan.kind is FaultKind.DISK_FULL else disk.break_at)(soon)
            await self._sleep(around(self._chance, plan.for_ms))
            disk.lift()
            world.observer.excuse()
        elif plan.kind is FaultKind.CLOCK_JUMP:
            world.jump((-plan.for_ms if plan.back else plan.for_ms) * US_PER_MS)
        elif plan.kind is FaultKind.SUSPEND:
            world.suspend(plan.for_ms * US_PER_MS)
        else:
            world.stand_still(plan.for_ms * US_PER_MS)

    async def _sleep(self, span_ms: int) -> None:
        if span_ms:
            await asyncio.sleep(span_ms / 1_000)
