"""Held stage: a stage whose attempts last until the test lets them go, and may be deaf to being cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from handshake.operations.attempt import Attempt
from tests.running import Stage, settings_of


class Held(Stage):
    """A stage whose attempts last until the test lets them go."""

    go: asyncio.Event
    failure: Exception | None = None
    is_deaf = False
    """Whether attempts do not end when they are cut."""

    async def begin(self, *, dispatch: bool = True) -> None:
        self.go = asyncio.Event()
        self.attempts: list[Attempt] = []
        self.cuts = 0
        await super().begin(dispatch=dispatch)

    async def _perform(self, attempt: Attempt) -> None:
        await super()._perform(attempt)
        self.attempts.append(attempt)
        try:
            attempt.calling = True
            await self.go.wait()
        except asyncio.CancelledError:
            self.cuts += 1
            if not self.is_deaf:
                return
            await asyncio.Event().wait()
        finally:
            attempt.calling = False
        if self.failure is not None:
            raise self.failure


@asynccontextmanager
async def held(total: int = 64) -> AsyncIterator[Held]:
    stage = await Held.open(settings_of(total))
    assert isinstance(stage, Held)
    yield stage
    stage.go.set()
    await stage.dispatcher.close(0, before_cut=lambda: None)


async def turns_of_the_loop() -> None:
    for _ in range(10):
        await asyncio.sleep(0)
