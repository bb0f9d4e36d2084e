"""Turns whose worker does not come back: the run goes on without it, and what it says late changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

from handshake.gate.egress import Finished, TextPiece
from handshake.kernel.job import JobState
from handshake.operations import views
from handshake.scheduler.lease_watch import LOOK_EVERY_US
from tests.requirement import requirement
from tests.running import Scene, scene, settings_of
from tests.unit.operations.acting_model import Acting

HOUR_US = 3_600_000_000


class Deaf:
    """An adapter that looks at no clock and closes its first call only when the test says so."""

    def __init__(self, *, begins: bool = False) -> None:
        self.begins = begins
        self.go = asyncio.Event()
        self.calls = 0

    async def act(self) -> AsyncGenerator[TextPiece | Finished, None]:
        """Answer at once, but the first time not before `go`, whatever is asked for meanwhile."""
        self.calls += 1
        if self.calls == 1:
            if self.begins:
                yield TextPiece("begun")
            while not self.go.is_set():
                with suppress(asyncio.CancelledError):
                    await self.go.wait()
            yield TextPiece("too late")
        else:
            yield TextPiece("in time")
        yield Finished("stop", None)


async def pass_time(one: Scene, span_us: int) -> None:
    """Let time pass as a process sees it that is not stopped."""
    for _ in range(span_us // LOOK_EVERY_US):
        await one.pass_time(LOOK_EVERY_US)


@requirement("recovery.lease.late_result_is_fenced")
async def test_a_worker_that_is_deaf_is_given_up_and_what_it_says_comes_late() -> None:
    deaf = Deaf()
    async with scene(Acting(deaf.act), settings_of(4, each=1)) as one:
        turn = await (await one.create()).send("a")
        behind = await (await one.create()).send("b")
        await pass_time(one, 160_000_000)
        assert deaf.calls == 1, "its connection still holds the provider's only slot"
        job = await one.workspace.job(turn.job_id)
        assert (job.state, job.recoveries) == (JobState.QUEUED, 1)
        deaf.go.set()
        await one.settle()
        assert (await turn.result()).text == "in time"
        assert (await behind.result()).text == "in time"
        assert one.runtime.queue.usage.largest() == {}
        one.check()


@requirement("recovery.lease.late_result_is_fenced", "scheduler.retry.not_after_bytes")
async def test_a_worker_that_was_heard_before_it_fell_silent_leaves_its_run_to_a_person() -> None:
    deaf = Deaf(begins=True)
    async with scene(Acting(deaf.act)) as one:
        turn = await (await one.create()).send("a")
        await pass_time(one, 160_000_000)
        (question,) = await one.workspace.desk.waiting()
        assert (question.item.job_id, question.item.reason) == (turn.job_id, "answer_begun")
        deaf.go.set()
        await one.settle()
        assert (await one.workspace.job(turn.job_id)).state is JobState.STALLED
        kept = await one.runtime.store.read(lambda reader: views.job_artifacts(reader, turn.job_id))
        assert [(late.attempt, late.kind) for late in kept] == [(1, "late_answer")]
        await question.approve(shown=question.sha256)
        assert (await turn.result()).text == "in time"
        told = [event for event in one.check().of("workflow_recovery") if event.payload["to_state"] == "stalled"]
        assert [event.payload["threshold_secs"] for event in told] == [150]
        assert told[0].payload["last_heartbeat_ts"] is not None


@requirement("recovery.clock.jumps_are_harmless")
async def test_eight_hours_of_suspend_time_out_nothing() -> None:
    go = asyncio.Event()

    async def act() -> AsyncGenerator[TextPiece | Finished, None]:
        await go.wait()
        yield TextPiece("at last")
        yield Finished("stop", None)

    async with scene(Acting(act)) as one:
        turns = [await (await one.create()).send("a") for _ in range(20)]
        await one.settle()
        one.clock.jump_wall(8 * HOUR_US)
        await pass_time(one, 60_000_000)
        go.set()
        assert {(await turn.result()).state for turn in turns} == {JobState.COMPLETED}
        assert one.check().of("workflow_recovery") == []


async def test_denying_tells_whoever_still_listens() -> None:
    deaf = Deaf(begins=True)
    async with scene(Acting(deaf.act)) as one:
        turn = await (await one.create()).send("a")
        await pass_time(one, 160_000_000)
        (question,) = await one.workspace.desk.waiting()
        result = asyncio.ensure_future(turn.result())
        await one.settle()
        await question.deny()
        assert (await result).reason == "denied"
        deaf.go.set()
        await one.settle()
        one.check()


async def test_what_nobody_answers_tells_whoever_still_listens() -> None:
    deaf = Deaf(begins=True)
    async with scene(Acting(deaf.act)) as one:
        turn = await (await one.create()).send("a")
        await pass_time(one, 160_000_000)
        deaf.go.set()
        result = asyncio.ensure_future(turn.result())
        for _ in range(7 * 24 + 1):
            await one.pass_time(HOUR_US)
        assert (await result).reason == "expired"
        one.check()
