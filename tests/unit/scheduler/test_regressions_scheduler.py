"""Tests of closing that once went wrong: no call outlives the lock of its runtime."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from handshake.kernel.job import JobState
from handshake.testing.scripted_model import ScriptedModel
from tests.requirement import requirement
from tests.running import scene


@requirement("recovery.second_instance.is_refused")
async def test_who_loses_patience_while_closing_cuts_the_calls_and_waits_for_them() -> None:
    model = ScriptedModel(lambda text: ("a", asyncio.Event()))
    async with scene(model) as one:
        turn = await (await one.create()).send("a")
        await one.settle()
        stops: list[str] = []

        def stop() -> None:
            stops.append("stopping")
            one.runtime.turns.stop()

        closing = asyncio.ensure_future(one.runtime.dispatcher.close(60_000_000, before_cut=stop))
        await one.settle()
        assert model.open_calls == 1  # it has its time to finish
        closing.cancel()
        with suppress(asyncio.CancelledError):
            await closing
        assert closing.cancelled()
        assert (model.open_calls, one.runtime.dispatcher.live_count, stops) == (0, 0, ["stopping"])
        assert (await one.workspace.job(turn.job_id)).state is JobState.QUEUED
        one.check()
