"""Tests of the dispatcher: it starts what is committed and nothing else, wakes by the clock, and stops whole."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from handshake.kernel.errors import IntegrityBroken, StateConflict, StoreFailed
from handshake.kernel.ids import JobId
from handshake.kernel.job import JobState, RunTicket
from handshake.kernel.lane import LANES
from handshake.ports.store import Tx
from tests.queueing import queued
from tests.requirement import requirement
from tests.running import Stage, settings_of
from tests.unit.scheduler.held_stage import Held, held, turns_of_the_loop

SECOND_US = 1_000_000
LEASE_US = 60 * SECOND_US


@requirement("recovery.start.dispatches_queue")
async def test_what_is_queued_starts_when_dispatching_begins() -> None:
    stage = await Stage.open(settings_of(3), dispatch=False)
    jobs = [await stage.send(await stage.create()) for _ in range(5)]
    assert (stage.running(), stage.dispatcher.is_dispatching) == ([], False)
    await stage.begin()
    await turns_of_the_loop()
    assert stage.running() == [ticket.job_id for ticket in stage.performed] == jobs[:3]
    assert stage.dispatcher.is_dispatching


@requirement("scheduler.limit.is_never_exceeded", "scheduler.order.follows_priority_then_sequence")
async def test_a_batch_starts_what_its_own_units_made_room_for() -> None:
    stage = await Stage.open(settings_of(2))
    sessions = [await stage.create() for _ in range(6)]
    turns = [stage.turn(one, priority=90 - 10 * number) for number, one in enumerate(sessions)]
    await stage.batch(*map(stage.accepting, turns))
    first = stage.running()
    assert first == [turns[4].job_id, turns[5].job_id]
    await stage.batch(*(stage.finishing(stage.ticket(job_id)) for job_id in first))
    assert stage.running() == [turns[2].job_id, turns[3].job_id]


async def test_a_ticket_is_made_for_each_attempt_after_its_commit() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    job_id = await stage.send(session_id)
    await turns_of_the_loop()
    await stage.batch(stage.failing(stage.ticket(job_id)))
    stage.clock.advance(10 * SECOND_US)
    await stage.look()
    await turns_of_the_loop()
    assert [(one.job_id, one.attempt) for one in stage.performed] == [(job_id, 1), (job_id, 2)]
    assert stage.performed[1] == stage.ticket(job_id)


async def test_a_unit_that_fails_after_it_touched_the_index_leaves_no_trace_in_it() -> None:
    stage = await Stage.open(settings_of(1))
    running = await stage.send(await stage.create())
    waiting = await stage.send(await stage.create())
    job = stage.job(running)

    def unit(tx: Tx) -> None:
        stage.queue.add(queued(999))
        stage.queue.drop(waiting)
        stage.queue.vacate(job.session_id, job.lane)
        raise StateConflict(reason="test")

    (failure,) = await stage.batch(unit)
    assert isinstance(failure, StateConflict)
    assert stage.running() == [running]
    assert waiting in stage.queue
    await stage.batch(stage.finishing(stage.ticket(running)))
    assert stage.running() == [waiting]


async def test_a_count_of_runs_that_differs_starts_nothing() -> None:
    stage = await Stage.open()
    running = await stage.send(await stage.create())
    stage.queue.usage.total = 0
    with pytest.raises(IntegrityBroken) as broken:
        await stage.send(await stage.create())
    assert broken.value.context == {"subject": "queue", "reason": "running_count_differs"}
    await stage.look()
    assert stage.running() == [running]
    assert len(stage.check().jobs) == 1


@requirement("scheduler.order.is_deterministic")
async def test_a_restart_between_two_choices_changes_neither() -> None:
    async def order(*, restart: bool) -> list[int]:
        stage = await Stage.open(settings_of(1))
        sessions = [await stage.create(lane=lane) for lane in LANES for _ in range(3)]
        for number in range(60):
            await stage.send(sessions[number % 12], priority=(50, 50, 10)[number % 3])
        done = []
        while running := stage.running():
            done.append(stage.job(running[0]).enqueue_seq)
            if restart and len(done) % 7 == 0:
                await stage.dispatcher.close(0, before_cut=lambda: None)
                await stage.batch(stage.finishing(stage.ticket(running[0])))
                await stage.begin()
            else:
                await stage.batch(stage.finishing(stage.ticket(running[0])))
        return done

    once = await order(restart=False)
    assert sorted(once) == list(range(1, 61))
    assert await order(restart=True) == once


# -- live attempts ----------------------------------------------------------------------------------------------


@requirement("scheduler.path.is_single")
async def test_only_the_very_ticket_of_a_live_attempt_is_running() -> None:
    async with held() as stage:
        await stage.send(await stage.create())
        await turns_of_the_loop()
        (ticket,) = stage.performed
        assert stage.dispatcher.is_running(ticket)
        assert not stage.dispatcher.is_running(msgspec.structs.replace(ticket))
        assert not stage.dispatcher.is_running(RunTicket(JobId("other"), *list(msgspec.structs.astuple(ticket))[1:]))
        stage.go.set()
        await turns_of_the_loop()
        assert not stage.dispatcher.is_running(ticket)
        assert stage.dispatcher.live_count == 0


@requirement("scheduler.path.is_single", "scheduler.cancel.is_prompt")
async def test_an_attempt_that_was_cut_is_not_running() -> None:
    async with held() as stage:
        job_id = await stage.send(await stage.create())
        await turns_of_the_loop()
        assert not stage.dispatcher.cut(job_id, 2)
        assert not stage.dispatcher.cut(JobId("other"), 1)
        assert stage.dispatcher.cut(job_id, 1)
        assert not stage.dispatcher.is_running(stage.performed[0])
        assert not stage.dispatcher.cut(job_id, 1)
        await turns_of_the_loop()
        assert (stage.cuts, stage.dispatcher.live_count) == (1, 0)


async def test_an_attempt_that_records_its_outcome_is_not_interrupted() -> None:
    async with held() as stage:
        job_id = await stage.send(await stage.create())
        await turns_of_the_loop()
        stage.attempts[0].calling = False
        assert stage.dispatcher.cut(job_id, 1)
        await turns_of_the_loop()
        assert (stage.cuts, stage.dispatcher.live_count) == (0, 1)
        assert stage.attempts[0].cancelled


async def test_an_attempt_whose_outcome_cannot_be_stored_is_left_to_recovery() -> None:
    async with held() as stage:
        job_id = await stage.send(await stage.create())
        await turns_of_the_loop()
        stage.failure = StoreFailed(reason="disk_full")
        stage.go.set()
        await turns_of_the_loop()
        assert stage.dispatcher.live_count == 0
        assert stage.running() == [job_id]


# -- time -------------------------------------------------------------------------------------------------------


async def test_the_end_of_a_backoff_wakes_it_without_any_other_work() -> None:
    stage = await Stage.open()
    first = await stage.send(await stage.create())
    second = await stage.send(await stage.create())
    (one,) = await stage.batch(stage.failing(stage.ticket(first)))
    stage.clock.advance(200_000)
    (other,) = await stage.batch(stage.failing(stage.ticket(second)))
    await turns_of_the_loop()
    assert stage.clock.next_due_us() == one.retry_ms * 1_000 - 200_000
    stage.clock.advance(one.retry_ms * 1_000 - 200_000 - 1)
    await turns_of_the_loop()
    assert stage.running() == []
    stage.clock.advance(1)
    await turns_of_the_loop()
    assert stage.running() == [first]
    stage.clock.advance(other.retry_ms * 1_000)
    await turns_of_the_loop()
    assert stage.running() == [first, second]
    await stage.dispatcher.close(0, before_cut=lambda: None)


async def test_an_earlier_end_of_a_backoff_wakes_it_earlier() -> None:
    stage = await Stage.open()
    late, due_us = await stage.send(await stage.create()), None
    for _ in range(3):
        await stage.batch(stage.failing(stage.ticket(late)))
        await turns_of_the_loop()
        due_us = stage.clock.next_due_us()
        assert due_us is not None
        if stage.job(late).attempt < 3:
            stage.clock.advance(due_us)
            await turns_of_the_loop()
    early = await stage.send(await stage.create())
    (ended,) = await stage.batch(stage.failing(stage.ticket(early)))
    await turns_of_the_loop()
    assert due_us is not None
    assert stage.clock.next_due_us() == ended.retry_ms * 1_000 < due_us
    stage.clock.advance(ended.retry_ms * 1_000)
    await turns_of_the_loop()
    assert stage.running() == [early]
    await stage.dispatcher.close(0, before_cut=lambda: None)


async def test_it_looks_again_when_the_store_fails_as_a_backoff_ends() -> None:
    stage = await Stage.open()
    job_id = await stage.send(await stage.create())
    (ended,) = await stage.batch(stage.failing(stage.ticket(job_id)))
    await turns_of_the_loop()
    write, failures = stage.store.write, [StoreFailed(reason="disk_full")] * 3

    async def failing(unit: Any, **named: Any) -> Any:
        if failures:
            raise failures.pop()
        return await write(unit, **named)

    stage.store.write = failing  # type: ignore[method-assign]
    stage.clock.advance(ended.retry_ms * 1_000)
    await turns_of_the_loop()
    for left in (2, 1, 0):
        assert (len(failures), stage.running()) == (left, [])
        assert stage.clock.next_due_us() == SECOND_US
        stage.clock.advance(SECOND_US)
        await turns_of_the_loop()
    assert stage.running() == [job_id]
    await stage.dispatcher.close(0, before_cut=lambda: None)


@requirement("recovery.clock.jumps_are_harmless")
@pytest.mark.parametrize("jump_us", [-3_600 * SECOND_US, -1, 0, 1, 3_600 * SECOND_US, 8 * 3_600 * SECOND_US])
async def test_no_jump_of_the_wall_clock_loses_a_wait_or_makes_it_look_without_pause(jump_us: int) -> None:
    stage = await Stage.open()
    job_id = await stage.send(await stage.create())
    (ended,) = await stage.batch(stage.failing(stage.ticket(job_id)))
    await turns_of_the_loop()
    stage.clock.jump_wall(jump_us)
    commits, started_us = stage.store.commits, stage.clock.monotonic_us()
    while stage.running() == []:
        due_us = stage.clock.next_due_us()
        assert due_us is not None, "nobody would ever look again"
        stage.clock.advance(max(1, due_us))
        await turns_of_the_loop()
    assert stage.clock.monotonic_us() - started_us <= 2 * ended.retry_ms * 1_000 + 1
    assert stage.store.commits - commits < 40
    await stage.dispatcher.close(0, before_cut=lambda: None)


# -- stopping ---------------------------------------------------------------------------------------------------


async def test_a_stop_lets_what_runs_finish_and_starts_nothing_more() -> None:
    async with held(1) as stage:
        running = await stage.send(await stage.create())
        waiting = await stage.send(await stage.create())
        await turns_of_the_loop()
        told: list[int] = []
        closing = asyncio.ensure_future(stage.dispatcher.close(3_600 * SECOND_US, before_cut=lambda: told.append(1)))
        await turns_of_the_loop()
        assert not closing.done()
        await stage.batch(stage.finishing(stage.ticket(running)))
        stage.go.set()
        await closing
        assert (stage.running(), told, stage.cuts) == ([], [], 0)
        assert stage.job(waiting).state is JobState.QUEUED


async def test_a_stop_without_patience_cuts_what_runs_after_it_said_so() -> None:
    async with held() as stage:
        for _ in range(3):
            await stage.send(await stage.create())
        await turns_of_the_loop()
        told: list[int] = []
        await stage.dispatcher.close(0, before_cut=lambda: told.append(stage.cuts))
        assert (told, stage.cuts, stage.dispatcher.live_count) == ([0], 3, 0)


async def test_a_stop_does_not_wait_for_ever_for_a_call_that_does_not_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handshake.scheduler.dispatcher._CUT_LIMIT_S", 0)
    async with held() as stage:
        stage.is_deaf = True
        await stage.send(await stage.create())
        await turns_of_the_loop()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.gather(*(live.task for live in stage.dispatcher._live.values()), closing(stage))
        assert stage.dispatcher.live_count == 0


async def closing(stage: Held) -> None:
    await stage.dispatcher.close(0, before_cut=lambda: None)


async def test_a_stop_waits_for_a_batch_that_still_starts_runs() -> None:
    async with held() as stage:
        turn = stage.turn(await stage.create())
        sending = asyncio.ensure_future(stage.store.write(stage.accepting(turn)))
        await asyncio.sleep(0)
        await stage.dispatcher.close(0, before_cut=lambda: None)
        assert sending.done()
        assert (stage.cuts, stage.dispatcher.live_count) == (len(stage.attempts), 0)
        started = stage.store.read_now(lambda reader: reader.row("job_running_count"))
        assert started == (len(stage.performed),)


async def test_a_stop_of_a_dispatcher_that_never_began_does_nothing() -> None:
    stage = await Stage.open(dispatch=False)
    await stage.dispatcher.close(3_600 * SECOND_US, before_cut=lambda: None)
    assert stage.dispatcher.live_count == 0
