"""Operator: the person who answers what waits on the desk, after a while, as chance has it."""

from __future__ import annotations

import asyncio
from random import Random

from handshake.kernel.desk import DeskKind
from handshake.kernel.errors import Conflict, InvalidTransition, StateConflict, Unavailable
from handshake.kernel.job import JobState
from handshake.testing.simulator.journal import ToldEvent
from handshake.testing.simulator.reply_bytes import around
from handshake.testing.simulator.violation import Violation, require
from handshake.testing.simulator.world import World
from handshake.workspace import DeskQuestion

WRONG_SHA256 = "0" * 64
"""The hash of something that nobody was shown."""
LIFETIMES = ("once", "turn", "session")
"""For how long a call of a tool is approved."""
_LOOKS_WRONG_PERCENT = 20


class Operator:
    """Approves or denies lost runs and calls of tools.

    Args:
        world: where.
        chance: draws when, and what is answered.
    """

    def __init__(self, world: World, chance: Random) -> None:
        self._world = world
        self._chance = chance
        self._asked = asyncio.Event()
        self.answered = 0
        world.observer.heard.append(self.hear)

    def hear(self, event: ToldEvent) -> None:
        """Take note that something may wait."""
        lost = event.type == "workflow_recovery" and event.payload["to_state"] == JobState.STALLED
        if lost or event.type == "gov_human_intervention_requested":
            self._asked.set()

    async def act(self) -> None:
        """Answer whatever comes, without end."""
        run = self._world.scenario.run
        while True:
            await self._asked.wait()
            self._asked.clear()
            await asyncio.sleep(around(self._chance, run.operator_ms) / 1_000)
            life = await self._world.up()
            try:
                for question in await life.workspace.desk.waiting():
                    await self._answer(question)
            except Violation as broken:
                self._world.report(broken)
            except (Conflict, Unavailable):  # something else answered it, or the runtime is gone
                self._asked.set()

    async def _answer(self, question: DeskQuestion) -> None:
        if self._chance.random() * 100 < _LOOKS_WRONG_PERCENT:
            await self._approve_wrongly(question)
        if self._chance.random() * 100 < self._world.scenario.run.denies_percent:
            await question.deny()
        elif question.item.kind is DeskKind.TOOL_APPROVAL:
            lasting = LIFETIMES[int(self._chance.random() * len(LIFETIMES))]
            await question.approve(shown=question.sha256, lasting=lasting)
        else:
            await question.approve(shown=question.sha256)
        self.answered += 1

    async def _approve_wrongly(self, question: DeskQuestion) -> None:
        """An approval of something else than what is asked changes nothing."""
        try:
            await question.approve(shown=WRONG_SHA256)
        except (StateConflict, InvalidTransition):
            return
        require(False, "recovery.actions.are_evented", "something else was approved", question.item.item_id)
