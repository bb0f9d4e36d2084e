"""Tests of the dispatcher where something does not come back, or cannot be stored: runs go on, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from handshake.kernel.errors import StoreFailed
from handshake.kernel.ids import JobId
from handshake.kernel.job import JobState
from handshake.kernel.settings import MIN_FREE_BYTES, LocalRuns, RecoverySettings
from handshake.operations.feed import LOST, AwaitingUser, Piece, Started, Text
from handshake.operations.unstored import Unstored
from handshake.scheduler.lease_watch import LOOK_EVERY_US
from handshake.testing.scripted_model import ScriptedModel
from handshake.workspace import TurnHandle
from tests.requirement import requirement
from tests.running import scene, settings_of
from tests.unit.scheduler.held_stage import Held, held, turns_of_the_loop

SECOND_US = 1_000_000
LEASE_US = 60 * SECOND_US


# -- leases ---------------------------------------------------------------------------------------------------------


async def expire(stage: Held) -> None:
    """Let time pass until the leases of what is in progress have ended, as a process sees it that is not stopped."""
    for _ in range(2 * LEASE_US // LOOK_EVERY_US):
        stage.clock.advance(LOOK_EVERY_US)
        await turns_of_the_loop()


@asynccontextmanager
async def leased(local_runs: LocalRuns = LocalRuns.REQUEUE) -> AsyncIterator[Held]:
    """Open a stage whose attempts have leases, and do not end when they are cut."""
    async with held() as stage:
        stage.is_deaf = True
        stage.dispatcher.drain()
        stage.queue.draining = False
        await stage.dispatcher.open(
            stage.store, stage._perform, lambda attempt, sign: stage.giving_up(attempt.ticket, local_runs=local_runs)
        )
        try:
            yield stage
        finally:
            for _ in range(2):  # who is deaf hears it the second time
                for lost in (*stage.dispatcher._live.values(), *stage.dispatcher._lost.values()):
                    lost.task.cancel()
                await turns_of_the_loop()


@requirement("recovery.lease.late_result_is_fenced")
async def test_an_attempt_that_does_not_come_back_is_given_up_and_its_run_goes_on() -> None:
    async with leased() as stage:
        job_id = await stage.send(await stage.create())
        await turns_of_the_loop()
        (late,) = stage.performed
        await expire(stage)
        assert [one.attempt for one in stage.performed] == [1, 2]
        assert (stage.running(), stage.job(job_id).attempt) == ([job_id], 2)
        assert not stage.dispatcher.is_running(late)
        assert stage.dispatcher.is_running(stage.performed[1])
        assert (stage.attempts[0].given_up, stage.attempts[1].given_up) == (True, False)
        assert (stage.cuts, stage.dispatcher.live_count) == (1, 1)
        (ended,) = await stage.batch(stage.finishing(late))
        assert (ended.state, ended.counted) == (JobState.RUNNING, False)
        stage.check()


@requirement("recovery.lease.late_result_is_fenced")
async def test_a_run_that_is_lost_again_and_again_comes_before_a_person_who_is_told() -> None:
    async with leased() as stage:
        asked: list[int] = []

        async def ask() -> None:
            asked.append(len(stage.desk()))

        stage.dispatcher.asked = ask
        job_id = await stage.send(await stage.create())
        await turns_of_the_loop()
        for _ in range(4):
            await expire(stage)
        assert (stage.job(job_id).state, stage.job(job_id).attempt) == (JobState.STALLED, 4)
        assert (asked, stage.dispatcher.live_count) == ([1], 0)
        stage.check()


async def test_who_listens_to_a_run_that_was_given_up_and_cancelled_hears_it_before_its_worker_comes_back() -> None:
    async with leased(LocalRuns.CANCEL) as stage:
        told: list[JobId] = []
        stage.dispatcher.cancelled = told.append
        job_id = await stage.send(await stage.create())
        await turns_of_the_loop()
        await expire(stage)
        assert (stage.job(job_id).state, told) == (JobState.CANCELLED, [job_id])


async def test_who_listens_to_a_run_that_was_lost_hears_that_a_person_is_asked() -> None:
    """On a whole runtime, so that the wiring is looked at too."""
    model = ScriptedModel(lambda text: ("It begins", asyncio.Event()))
    settings = msgspec.structs.replace(settings_of(), recovery=RecoverySettings(local_runs=LocalRuns.DESK))
    async with scene(model, settings) as stage:
        turn = await (await stage.create()).send("Go.")
        await stage.settle()
        for _ in range(40):
            await stage.pass_time(LOOK_EVERY_US)
        assert (await turn.so_far()).state is JobState.STALLED
        heard = [piece async for piece in taken(turn, 3)]
        assert heard == [Started(1), Text("It begins"), AwaitingUser(LOST)]


async def taken(turn: TurnHandle, count: int) -> AsyncIterator[Piece]:
    """Yield the first pieces of a turn."""
    async for piece in turn:
        yield piece
        count -= 1
        if not count:
            return


async def test_an_attempt_that_came_back_meanwhile_is_not_given_up() -> None:
    async with leased() as stage:
        job_id = await stage.send(await stage.create())
        await turns_of_the_loop()
        await stage.batch(stage.finishing(stage.performed[0]))
        await expire(stage)
        assert stage.job(job_id).state is JobState.COMPLETED
        assert not stage.attempts[0].given_up


async def test_a_store_that_fails_gives_nobody_up_for_now() -> None:
    async with leased() as stage:
        job_id = await stage.send(await stage.create())
        await turns_of_the_loop()
        write = stage.store.write

        async def failing(unit: Any, **named: Any) -> Any:
            raise StoreFailed(reason="disk_full")

        stage.store.write = failing  # type: ignore[method-assign]
        await expire(stage)
        stage.store.write = write  # type: ignore[method-assign]
        assert (stage.running(), len(stage.performed)) == ([job_id], 1)
        await expire(stage)
        assert stage.attempts[0].given_up
        assert len(stage.performed) > 1


async def test_a_stop_waits_no_longer_than_a_while_for_what_was_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handshake.scheduler.dispatcher._CUT_LIMIT_S", 0)
    async with leased(LocalRuns.CANCEL) as stage:
        await stage.send(await stage.create())
        await turns_of_the_loop()
        await expire(stage)
        told: list[int] = []
        await stage.dispatcher.close(0, before_cut=lambda: told.append(stage.dispatcher.live_count))
        assert told == [0]


# -- held back ------------------------------------------------------------------------------------------------------


@requirement("recovery.outcome.never_lost")
async def test_nothing_starts_while_an_outcome_waits_and_all_of_it_afterwards() -> None:
    unstored = Unstored()
    async with held() as stage:
        stage.dispatcher._unstored = unstored
        await stage.dispatcher.open(stage.store, stage._perform)
        with unstored.waiting():
            job_id = await stage.send(await stage.create())
            await turns_of_the_loop()
            assert (stage.running(), stage.dispatcher.is_held_back) == ([], True)
        await turns_of_the_loop()
        assert (stage.running(), stage.dispatcher.is_held_back) == ([job_id], False)


@requirement("recovery.outcome.never_lost")
async def test_nothing_starts_without_room_and_it_looks_again_by_itself() -> None:
    async with held() as stage:
        stage.store._free_bytes = lambda folder: MIN_FREE_BYTES - 1
        await stage.store.write(lambda tx: None, outcome=True)
        with pytest.raises(StoreFailed) as refused:
            await stage.send(await stage.create())
        assert refused.value.context["reason"] == "disk_nearly_full"
        stage.store._free_bytes = None
        session_id = await stage.create()
        turn = stage.turn(session_id)
        stage.store._free_bytes = lambda folder: MIN_FREE_BYTES - 1
        await stage.store.write(stage.accepting(turn), outcome=True)
        await turns_of_the_loop()
        assert stage.running() == []
        stage.store._free_bytes = None
        stage.clock.advance(SECOND_US)
        await turns_of_the_loop()
        assert stage.running() == [turn.job_id]
