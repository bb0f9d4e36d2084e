"""Tests of cancelling: the same state and order of cancels give the same outcome, whatever comes beside it."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from handshake.kernel.errors import InvalidTransition, NotFound
from handshake.kernel.event import Actor
from handshake.kernel.ids import JobId, SessionId
from handshake.kernel.job import JobState
from handshake.kernel.session import SessionState
from handshake.operations import cancelling, records, sessions
from handshake.operations.cancelling import CancelResult
from handshake.ports.store import Tx, Unit
from tests.requirement import requirement
from tests.running import Stage, settings_of


async def queued_behind(stage: Stage) -> tuple[SessionId, JobId, JobId]:
    session_id = await stage.create()
    return session_id, await stage.send(session_id, "a"), await stage.send(session_id, "b")


def waiting(stage: Stage, job_id: JobId, state: JobState) -> Unit[None]:
    """Return a unit that puts a running run into a waiting state, as later parts of the product will."""

    def unit(tx: Tx) -> None:
        job = records.job(tx, job_id)
        common = {"reason": None, "not_before_us": 0, "wait_reason": None, "holds_slot": 0}
        moved = {"job_id": job_id, "before": job.state, "after": state, "ended_at_us": None, "error_code": None}
        tx.run("job_move", {**common, **moved})
        session = records.session(tx, job.session_id)
        tx.run(
            "session_move",
            {
                "session_id": job.session_id, "before": session.state, "ending": "open", "running": 0, "waiting": 1,
                "blockers": 0, "paused": session.paused, "state": SessionState.BLOCKED, "now_us": tx.now_us,
                "marks": 0, "trigger": None,
            },
        )  # fmt: skip
        stage.queue.free_connection(cancelling_key(job))
        stage.queue.hold(job.session_id)
        stage.queue.vacate(job.session_id, job.lane)

    return unit


def cancelling_key(job: Any) -> Any:
    return records.slot_key(job.provider_id, job.model_id, job.concurrency_group)


@requirement("scheduler.cancel.is_deterministic", "scheduler.events.on_every_step")
async def test_a_queued_run_is_cancelled_without_a_trace_outside() -> None:
    stage = await Stage.open(settings_of(1))
    session_id, running, queued = await queued_behind(stage)
    (result,) = await stage.batch(stage.cancelling(queued, reason="not_needed", by="ada"))
    assert result == CancelResult(cancelled=True, may_have_left=False, open_attempt=None)
    job = stage.job(queued)
    assert (job.state, job.reason, job.attempt) == (JobState.CANCELLED, "not_needed", 0)
    assert stage.session(session_id).state is SessionState.ACTIVE
    (event,) = stage.check().of("session_scheduler.cancelled")
    assert event.payload == {
        "cancelled_by": "ada", "job_id": queued, "reason": "not_needed", "session_id": session_id,
    }  # fmt: skip
    await stage.batch(stage.finishing(stage.ticket(running)))
    assert stage.running() == []


async def test_a_run_that_backs_off_may_have_left() -> None:
    stage = await Stage.open()
    _, job_id, behind = await queued_behind(stage)
    await stage.batch(stage.failing(stage.ticket(job_id)))
    (result,) = await stage.batch(stage.cancelling(job_id))
    assert result == CancelResult(cancelled=True, may_have_left=True, open_attempt=None)
    assert stage.running() == [behind]


async def test_a_running_run_frees_its_session_at_once() -> None:
    stage = await Stage.open()
    session_id, job_id, behind = await queued_behind(stage)
    (result,) = await stage.batch(stage.cancelling(job_id))
    assert result == CancelResult(cancelled=True, may_have_left=True, open_attempt=1)
    assert stage.job(job_id).holds_slot
    assert stage.running() == [behind]
    assert stage.session(session_id).state is SessionState.ACTIVE
    changes = [event.payload for event in stage.check().of("session.state_change")]
    assert [(one["from_state"], one["to_state"], one["reason"]) for one in changes] == [
        ("ACTIVE", "IDLE", "run_cancelled")
    ]


@requirement("scheduler.cancel.is_deterministic", "session.state.terminal_is_sticky")
@pytest.mark.parametrize("order", list(permutations(("cancel", "finish", "cancel again"))), ids="-".join)
async def test_the_first_of_a_batch_decides(order: tuple[str, ...]) -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    job_id = await stage.send(session_id)
    units: dict[str, Unit[Any]] = {
        "cancel": stage.cancelling(job_id),
        "finish": stage.finishing(stage.ticket(job_id)),
        "cancel again": stage.cancelling(job_id, reason="other"),
    }
    results = dict(zip(order, await stage.batch(*(units[name] for name in order)), strict=True))
    if order[0] == "finish":
        assert stage.job(job_id).state is JobState.COMPLETED
        assert isinstance(results["cancel"], InvalidTransition)
        assert isinstance(results["cancel again"], InvalidTransition)
    else:
        job = stage.job(job_id)
        assert (job.state, job.reason) == (JobState.CANCELLED, "test" if order[0] == "cancel" else "other")
        assert not results["finish"].counted
        assert results["cancel"].cancelled
        assert results["cancel again"].cancelled
        assert len(stage.check().of("session_scheduler.cancelled")) == 1
    assert stage.session(session_id).state is SessionState.IDLE


@requirement("scheduler.cancel.is_deterministic")
async def test_a_cancel_beside_the_acceptance_leaves_nothing_to_start() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    turn = stage.turn(session_id)
    _, cancelled = await stage.batch(stage.accepting(turn), stage.cancelling(turn.job_id))
    assert cancelled == CancelResult(cancelled=True, may_have_left=False, open_attempt=None)
    assert stage.check().of("session_scheduler.dispatch") == []
    assert stage.session(session_id).state is SessionState.CREATED


@requirement("scheduler.cancel.is_deterministic")
async def test_cancelling_twice_is_the_same_and_keeps_the_first_reason() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    job_id = await stage.send(session_id)
    await stage.batch(stage.cancelling(job_id, reason="first"))
    log = len(stage.check().events)
    (again,) = await stage.batch(stage.cancelling(job_id, reason="second"))
    assert again == CancelResult(cancelled=True, may_have_left=True, open_attempt=None)
    assert stage.job(job_id).reason == "first"
    assert len(stage.check().events) == log


@requirement("session.state.terminal_is_sticky")
async def test_an_ended_run_is_not_cancelled() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    job_id = await stage.send(session_id)
    await stage.batch(stage.finishing(stage.ticket(job_id)))
    (refused,) = await stage.batch(stage.cancelling(job_id))
    assert isinstance(refused, InvalidTransition)
    assert refused.context == {"job_id": job_id, "from_state": "completed", "to_state": "cancelled"}
    assert stage.job(job_id).state is JobState.COMPLETED


@pytest.mark.parametrize("state", [JobState.AWAITING_USER, JobState.AWAITING_VALIDATION, JobState.STALLED])
@pytest.mark.parametrize("paused", [False, True])
async def test_a_waiting_run_is_cancelled_and_frees_its_session(state: JobState, paused: bool) -> None:
    stage = await Stage.open()
    session_id, job_id, behind = await queued_behind(stage)
    if paused:
        await stage.batch(stage.pausing(session_id))
    await stage.batch(waiting(stage, job_id, state))
    assert stage.session(session_id).state is SessionState.BLOCKED
    assert stage.store.read_now(lambda reader: records.job(reader, behind).state) is JobState.QUEUED
    (result,) = await stage.batch(stage.cancelling(job_id))
    assert result == CancelResult(cancelled=True, may_have_left=True, open_attempt=None)
    assert stage.session(session_id).state is (SessionState.PAUSED if paused else SessionState.ACTIVE)
    if paused:
        await stage.batch(stage.resuming(session_id))
    assert stage.job(behind).state is JobState.RUNNING


@requirement("scheduler.cancel.is_deterministic")
async def test_cancelling_a_session_ends_all_of_it_in_order_of_acceptance() -> None:
    stage = await Stage.open()
    session_id, running, queued = await queued_behind(stage)
    last = await stage.send(session_id, "c", priority=0)
    (ended,) = await stage.batch(stage.cancelling_session(session_id))
    assert ended.session.state is SessionState.CANCELLED
    assert ended.job_ids == (running, queued, last)
    assert ended.open_attempts == ((running, 1),)
    told = [event.payload["job_id"] for event in stage.check().of("session_scheduler.cancelled")]
    assert told == [running, queued, last]
    await stage.batch(stage.releasing(stage.ticket(running)))
    assert stage.queue.usage.largest() == {}
    (again,) = await stage.batch(stage.cancelling_session(session_id))
    assert (again.session, again.job_ids, again.open_attempts) == (stage.session(session_id), (), ())


@pytest.mark.parametrize("state", [JobState.AWAITING_USER, JobState.STALLED])
async def test_cancelling_a_session_ends_waiting_runs_too(state: JobState) -> None:
    stage = await Stage.open()
    session_id, job_id, behind = await queued_behind(stage)
    await stage.batch(waiting(stage, job_id, state))
    (ended,) = await stage.batch(stage.cancelling_session(session_id))
    assert ended.job_ids == (job_id, behind)
    assert stage.job(job_id).state is stage.job(behind).state is JobState.CANCELLED
    assert len(stage.queue) == 0


async def test_cancelling_one_session_touches_no_other() -> None:
    stage = await Stage.open()
    one, other = await stage.create(), await stage.create()
    await stage.send(one)
    kept = await stage.send(other)
    await stage.batch(stage.cancelling_session(one))
    assert stage.running() == [kept]


async def test_a_cancel_that_fails_later_in_its_unit_changes_nothing() -> None:
    stage = await Stage.open()
    session_id, running, queued = await queued_behind(stage)

    def unit(tx: Tx) -> None:
        sessions.cancel(tx, stage.queue, session_id, reason="test", by="operator", actor=Actor.HUMAN)
        raise ZeroDivisionError

    (failure,) = await stage.batch(unit)
    assert isinstance(failure, ZeroDivisionError)
    assert stage.running() == [running]
    assert stage.job(queued).state is JobState.QUEUED
    assert stage.session(session_id).state is SessionState.ACTIVE


@pytest.mark.parametrize("text", ["", "nobody", "018f0000-0000-7000-8000-000000000001"])
async def test_a_run_that_is_not_there_is_not_found(text: str) -> None:
    stage = await Stage.open()
    (refused,) = await stage.batch(stage.cancelling(JobId(text)))
    assert isinstance(refused, NotFound)


@pytest.mark.parametrize("actor", [Actor.HUMAN, Actor.SYSTEM, Actor.AGENT])
async def test_who_cancelled_is_told(actor: Actor) -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    job_id = await stage.send(session_id)
    await stage.store.write(
        lambda tx: cancelling.cancel_run(
            tx, stage.queue, records.job(tx, job_id), reason="r", by="runtime", actor=actor
        )
    )
    (event,) = stage.check().of("session_scheduler.cancelled")
    assert event.payload["cancelled_by"] == "runtime"
    row: Any = stage.memory.opened.db.execute("SELECT body FROM event WHERE seq = ?", (event.seq,)).fetchone()
    assert f'"actor":"{actor.value}"'.encode() in row[0]
