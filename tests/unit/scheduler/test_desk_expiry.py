"""Desk expiry: while a runtime is open, what nobody answers fails on the day, whatever the wall clock does."""

from __future__ import annotations

import asyncio
from typing import Any

from handshake.kernel.errors import StoreFailed
from handshake.kernel.ids import JobId
from handshake.kernel.job import JobState
from handshake.kernel.settings import DESK_RECOVERY_EXPIRY_S
from handshake.scheduler.desk_expiry import LONGEST_WAIT_US, DeskExpiry
from tests.requirement import requirement
from tests.running import Stage
from tests.unit.operations.test_desk import lost

SECOND_US = 1_000_000
WEEK_US = DESK_RECOVERY_EXPIRY_S * SECOND_US


class Watched:
    """A stage with a lost run, and the expiry that looks after it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.ended: list[JobId] = []
        self.expiry = DeskExpiry(stage.store, stage.queue, stage.clock, self.ended.append)

    async def pass_time(self, span_us: int) -> None:
        """Let time pass from one alarm to the next."""
        clock = self.stage.clock
        for _ in range(4):
            await asyncio.sleep(0)
        while span_us > 0:
            step_us = min(span_us, clock.next_due_us() or span_us)
            clock.advance(step_us)
            span_us -= step_us
            for _ in range(8):
                await asyncio.sleep(0)


@requirement("recovery.actions.are_evented")
async def test_what_nobody_answers_fails_on_the_day() -> None:
    stage, _, job_id, _ = await lost()
    watched = Watched(stage)
    await watched.expiry.look()
    await watched.pass_time(WEEK_US - 1)
    assert (watched.ended, stage.job(job_id).state) == ([], JobState.STALLED)
    await watched.pass_time(1)
    assert (watched.ended, stage.job(job_id).state) == ([job_id], JobState.FAILED)
    assert stage.clock.next_due_us() is None, "nothing waits any more"


@requirement("recovery.clock.jumps_are_harmless")
async def test_a_week_of_suspend_is_noticed_within_the_hour() -> None:
    stage, _, job_id, _ = await lost()
    watched = Watched(stage)
    await watched.expiry.look()
    stage.clock.jump_wall(WEEK_US)
    await watched.pass_time(LONGEST_WAIT_US)
    assert stage.job(job_id).state is JobState.FAILED


@requirement("recovery.clock.jumps_are_harmless")
async def test_a_wall_clock_that_is_set_back_loses_no_expiry() -> None:
    stage, _, job_id, _ = await lost()
    watched = Watched(stage)
    await watched.expiry.look()
    stage.clock.jump_wall(-WEEK_US)
    await watched.pass_time(2 * WEEK_US + LONGEST_WAIT_US)
    assert stage.job(job_id).state is JobState.FAILED


async def test_it_looks_again_when_the_store_failed() -> None:
    stage, _, job_id, _ = await lost()
    watched = Watched(stage)
    stage.clock.advance(WEEK_US)
    write, failures = stage.store.write, [StoreFailed(reason="disk_full")] * 2

    async def failing(unit: Any, **named: Any) -> Any:
        if failures:
            raise failures.pop()
        return await write(unit, **named)

    stage.store.write = failing  # type: ignore[method-assign]
    await watched.expiry.look()
    assert stage.job(job_id).state is JobState.STALLED
    await watched.pass_time(120 * SECOND_US)
    assert stage.job(job_id).state is JobState.FAILED


async def test_it_rests_while_nothing_waits_and_when_it_is_closed() -> None:
    watched = Watched(await Stage.open())
    await watched.expiry.look()
    assert watched.stage.clock.next_due_us() is None
    stage, _, _, _ = await lost()
    other = Watched(stage)
    await other.expiry.look()
    other.expiry.close()
    await other.pass_time(0)
    assert stage.clock.next_due_us() is None
