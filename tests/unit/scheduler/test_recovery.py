"""Recovery: what a dead runtime left running is told, queued again and dispatched; nothing else is touched."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from handshake.kernel.errors import IntegrityBroken
from handshake.kernel.ids import JobId, SessionId
from handshake.kernel.job import JobState
from handshake.kernel.moment import rfc3339
from handshake.kernel.recovery import Action
from handshake.kernel.session import SessionState
from handshake.kernel.settings import LocalRuns, RecoverySettings, Settings
from handshake.operations import views
from handshake.scheduler import recovery
from handshake.scheduler.dispatcher import Dispatcher
from handshake.scheduler.recovery import ORPHANS_PER_UNIT
from handshake.testing.invariants import Contents, Event, check_log, told_states
from tests.requirement import requirement
from tests.running import Stage, settings_of


def steps(events: list[Event]) -> list[tuple[object, ...]]:
    """Return what recovery tells, in order: moves of jobs and of sessions, with their reasons."""
    ids = {"workflow_recovery": "job_id", "session.state_change": "session_id"}
    return [
        (one.payload[ids[one.type]], one.payload["from_state"], one.payload["to_state"], one.payload["reason"])
        for one in events
        if one.type in ids
    ]


async def restart(stage: Stage, *, dispatch: bool = False) -> Contents:
    """Start a runtime after the one before it died, and return what is stored then."""
    await stage.begin(dispatch=dispatch)
    await stage.look()
    return stage.check()


async def running(stage: Stage) -> tuple[SessionId, JobId]:
    """Return a session with a run that is running."""
    session_id = await stage.create()
    job_id = await stage.send(session_id)
    assert stage.job(job_id).state is JobState.RUNNING
    return session_id, job_id


@requirement("recovery.actions.are_evented", "session.state.is_derived")
async def test_orphan_goes_through_stalled_with_its_session_blocked() -> None:
    stage = await Stage.open()
    session_id, job_id = await running(stage)
    before = len(stage.check().events)
    found = await restart(stage)
    assert steps(found.events[before:]) == [
        (job_id, "running", "stalled", "crash_recovery"),
        (session_id, "ACTIVE", "BLOCKED", "crash_recovery"),
        (job_id, "stalled", "queued", "policy"),
        (session_id, "BLOCKED", "IDLE", "policy"),
    ]
    job, session = stage.job(job_id), stage.session(session_id)
    assert (job.state, job.attempt, job.holds_slot, job.not_before_us) == (JobState.QUEUED, 1, False, 0)
    assert (session.state, session.running, session.waiting) == (SessionState.IDLE, 0, 0)


@requirement("recovery.actions.are_evented")
async def test_evidence_names_the_run_and_its_session() -> None:
    stage = await Stage.open()
    session_id = await stage.create(wp_id="WP-1", mt_id="MT-2")
    job_id = await stage.send(session_id)
    before = len(stage.check().events)
    told = [one for one in (await restart(stage)).events[before:] if one.type == "workflow_recovery"]
    assert {(one.session_id, one.job_id) for one in told} == {(session_id, job_id)}
    assert {(one.payload["workflow_run_id"], one.payload["last_heartbeat_ts"]) for one in told} == {(job_id, None)}


@requirement("recovery.start.dispatches_queue")
async def test_what_was_queued_and_what_was_running_starts_without_being_sent_again() -> None:
    stage = await Stage.open(settings_of(2))
    jobs = [(await running(stage))[1] for _ in range(2)]
    jobs += [await stage.send(await stage.create()) for _ in range(2)]
    enqueued = [one.job_id for one in stage.check().of("session_scheduler.enqueue")]
    found = await restart(stage, dispatch=True)
    assert stage.running() == jobs[:2], "in the old order"
    assert [one.job_id for one in found.of("session_scheduler.enqueue")] == enqueued
    assert [stage.job(job_id).attempt for job_id in jobs] == [2, 2, 0, 0]
    for job_id in jobs[:2]:
        await stage.store.write(stage.finishing(stage.ticket(job_id)))
    assert stage.running() == jobs[2:]


async def test_orphan_of_a_paused_session_waits_for_its_operator() -> None:
    stage = await Stage.open()
    session_id, job_id = await running(stage)
    await stage.store.write(stage.pausing(session_id))
    before = len(stage.check().events)
    found = await restart(stage, dispatch=True)
    assert steps(found.events[before:])[-1] == (session_id, "BLOCKED", "PAUSED", "policy")
    assert stage.job(job_id).state is JobState.QUEUED
    await stage.store.write(stage.resuming(session_id))
    assert stage.running() == [job_id]


async def test_connection_of_a_cancelled_run_died_with_its_process() -> None:
    stage = await Stage.open()
    _, job_id = await running(stage)
    await stage.store.write(stage.cancelling(job_id))
    assert stage.job(job_id).holds_slot
    before = len(stage.check().events)
    found = await restart(stage)
    assert not stage.job(job_id).holds_slot
    assert stage.job(job_id).state is JobState.CANCELLED
    assert found.events[before:] == []


async def test_start_with_nothing_left_running_tells_nothing() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    ended = await stage.send(session_id)
    await stage.store.write(stage.finishing(stage.ticket(ended)))
    await stage.store.write(stage.pausing(session_id))
    await stage.send(session_id)
    before = stage.check()
    assert (await restart(stage)) == before


async def test_every_start_is_an_epoch_of_its_own() -> None:
    stage = await Stage.open()
    assert stage.epoch == 1
    await stage.begin()
    await stage.begin()
    assert stage.epoch == 3


@requirement("recovery.lease.late_result_is_fenced")
async def test_answer_that_comes_after_the_take_over_changes_nothing() -> None:
    stage = await Stage.open()
    session_id, job_id = await running(stage)
    late, epoch = stage.ticket(job_id), stage.epoch
    await restart(stage, dispatch=True)
    assert stage.ticket(job_id).attempt == 2
    for unit in (stage.finishing(late, "too late", epoch=epoch), stage.finishing(late, "again", epoch=stage.epoch)):
        ended = await stage.store.write(unit)
        assert (ended.state, ended.counted) == (JobState.RUNNING, False)
    assert stage.session(session_id).next_seq == 2
    await stage.store.write(stage.finishing(stage.ticket(job_id), "in time"))
    assert [one.role.value for one in stage.check().messages] == ["USER", "ASSISTANT"]
    assert stage.job(job_id).state is JobState.COMPLETED


async def test_more_orphans_than_one_unit_takes_are_all_taken_over() -> None:
    many = ORPHANS_PER_UNIT + 20
    stage = await Stage.open(settings_of(many, each=many))
    sessions = [await stage.create() for _ in range(many)]
    await stage.batch(*(stage.accepting(stage.turn(session_id)) for session_id in sessions))
    assert len(stage.running()) == many
    found = await restart(stage)
    assert {job.state for job in found.jobs} == {JobState.QUEUED}
    assert len(found.of("workflow_recovery")) == 2 * many


# -- the policy ---------------------------------------------------------------------------------------------------


def with_policy(**given: Any) -> Settings:
    """Return settings with another recovery policy."""
    return msgspec.structs.replace(settings_of(), recovery=RecoverySettings(**given))


@requirement("recovery.start.stalls_orphans")
async def test_a_run_that_ends_every_runtime_comes_before_a_person_and_the_workspace_still_opens() -> None:
    stage = await Stage.open(with_policy(max_recoveries=3))
    session_id, job_id = await running(stage)
    for lost in range(1, 4):
        await restart(stage, dispatch=True)
        assert (stage.running(), stage.job(job_id).recoveries) == ([job_id], lost)
    await restart(stage, dispatch=True)
    assert (stage.job(job_id).state, stage.session(session_id).state) == (JobState.STALLED, SessionState.BLOCKED)
    (item,) = stage.desk()
    assert (item.reason, item.attempts) == ("lost_too_often", 4)
    await stage.store.write(stage.approving(item))
    assert (stage.running(), stage.job(job_id).recoveries) == ([job_id], 0)


async def test_restarts_do_not_use_up_retries() -> None:
    stage = await Stage.open(with_policy(max_recoveries=100))
    session_id = await stage.create()
    job_id = await stage.send(session_id, max_retries=2)
    for _ in range(5):
        await restart(stage, dispatch=True)
    assert (stage.job(job_id).attempt, stage.job(job_id).failures) == (6, 0)
    for failures in (1, 2):
        await stage.store.write(stage.failing(stage.ticket(job_id)))
        job = stage.job(job_id)
        assert (job.state, job.failures, job.recoveries) == (JobState.QUEUED, failures, 0)
        stage.clock.advance(60_000_000)
        await stage.look()
    await stage.store.write(stage.failing(stage.ticket(job_id)))
    assert stage.job(job_id).state is JobState.FAILED
    stage.check()


async def test_being_handed_back_is_neither_a_failure_nor_a_loss() -> None:
    stage = await Stage.open(with_policy(max_recoveries=0))
    _, job_id = await running(stage)
    for _ in range(5):
        await stage.store.write(stage.handing_back(stage.ticket(job_id)))
    job = stage.job(job_id)
    assert (job.attempt, job.failures, job.recoveries) == (6, 0, 0)


@requirement("recovery.actions.are_evented")
async def test_lost_runs_can_be_cancelled_instead() -> None:
    stage = await Stage.open(with_policy(local_runs=LocalRuns.CANCEL))
    session_id, job_id = await running(stage)
    before = len(stage.check().events)
    found = await restart(stage, dispatch=True)
    assert steps(found.events[before:]) == [
        (job_id, "running", "stalled", "crash_recovery"),
        (session_id, "ACTIVE", "BLOCKED", "crash_recovery"),
        (job_id, "stalled", "cancelled", "policy"),
        (session_id, "BLOCKED", "IDLE", "run_cancelled"),
    ]
    (told,) = found.of("session_scheduler.cancelled")
    assert (told.payload["cancelled_by"], told.payload["reason"]) == ("runtime", "policy")
    assert stage.desk(None) == []


@requirement("recovery.start.stalls_orphans")
async def test_a_cloud_run_waits_for_a_person_whatever_the_settings_say() -> None:
    """No cloud run can be accepted yet; one that is in the rows is treated as one."""
    stage = await Stage.open(with_policy(local_runs=LocalRuns.REQUEUE))
    _, job_id = await running(stage)
    stage.memory.opened.db.execute("UPDATE job SET backend = 'cloud'").close()
    await restart(stage, dispatch=True)
    assert stage.job(job_id).state is JobState.STALLED
    assert [(one.job_id, one.reason, one.backend) for one in stage.desk()] == [(job_id, "may_have_left", "cloud")]


# -- a worker that does not come back -------------------------------------------------------------------------------


@requirement("recovery.lease.late_result_is_fenced", "recovery.actions.are_evented")
async def test_a_run_that_is_given_up_is_queued_again_and_its_connection_keeps_its_slots() -> None:
    stage = await Stage.open(settings_of(4, each=2))
    session_id, job_id = await running(stage)
    late = stage.ticket(job_id)
    before = len(stage.check().events)
    assert await stage.batch(stage.giving_up(late)) == [Action.REQUEUE]
    fresh = stage.check().events[before:]
    assert steps(fresh)[:3] == [
        (job_id, "running", "stalled", "lease_expired"),
        (session_id, "ACTIVE", "BLOCKED", "lease_expired"),
        (job_id, "stalled", "queued", "policy"),
    ]
    stalled = next(one for one in fresh if one.type == "workflow_recovery")
    assert (stalled.payload["last_heartbeat_ts"], stalled.payload["threshold_secs"]) == (
        rfc3339(stage.clock.now_us()), 30,
    )  # fmt: skip
    assert (stage.running(), stage.job(job_id).attempt) == ([job_id], 2)
    assert stage.queue.usage.largest() == {"desk": 2}, "the old connection may be open yet"
    waiting = await stage.send(await stage.create())
    assert stage.job(waiting).state is JobState.QUEUED, "the provider's slots are taken"
    (ended,) = await stage.batch(stage.finishing(late, "too late"))
    assert (ended.state, ended.counted) == (JobState.RUNNING, False)
    assert stage.running() == [job_id, waiting], "its connection is closed"
    kept = stage.store.read_now(lambda reader: views.job_artifacts(reader, job_id))
    assert [(one.attempt, one.kind) for one in kept] == [(1, "late_answer")]
    assert stage.session(session_id).next_seq == 2
    stage.check()


@requirement("recovery.lease.late_result_is_fenced")
async def test_what_was_given_up_before_a_person_comes_late_as_well() -> None:
    stage = await Stage.open()
    session_id, job_id = await running(stage)
    late = stage.ticket(job_id)
    assert await stage.batch(stage.giving_up(late, told=True)) == [Action.DESK]
    (item,) = stage.desk()
    assert item.reason == "answer_begun"
    assert stage.session(session_id).state is SessionState.BLOCKED
    behind = await stage.send(session_id)
    assert stage.running() == [], "nothing of a BLOCKED session starts"
    for unit in (stage.finishing(late, "late"), stage.failing(late), stage.handing_back(late), stage.releasing(late)):
        (ended,) = await stage.batch(unit)
        assert (ended.state, ended.counted) == (JobState.STALLED, False)
    assert stage.queue.usage.largest() == {}
    await stage.batch(stage.approving(item))
    assert stage.running() == [job_id]
    await stage.batch(stage.finishing(stage.ticket(job_id)))
    assert stage.running() == [behind]
    stage.check()


@requirement("recovery.lease.late_result_is_fenced")
async def test_only_what_is_running_can_be_given_up() -> None:
    stage = await Stage.open()
    _, job_id = await running(stage)
    ticket = stage.ticket(job_id)
    assert await stage.batch(stage.giving_up(ticket, epoch=stage.epoch + 1)) == [None]
    await stage.batch(stage.finishing(ticket))
    assert await stage.batch(stage.giving_up(ticket)) == [None]
    assert stage.check().of("workflow_recovery") == []


async def test_connections_of_workers_that_were_given_up_die_with_their_process() -> None:
    stage = await Stage.open(settings_of(4, each=1))
    _, job_id = await running(stage)
    await stage.batch(stage.giving_up(stage.ticket(job_id)))
    assert (stage.running(), stage.queue.usage.largest()) == ([], {"desk": 1})
    await restart(stage, dispatch=True)
    assert (stage.running(), stage.queue.usage.largest()) == ([job_id], {"desk": 1})


# -- rows that somebody changed by hand -----------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["running = 1, state = 'ACTIVE'", "waiting = 2, state = 'BLOCKED'", "running = 1"])
async def test_a_session_that_counts_runs_it_does_not_have_is_named_and_can_be_counted_anew(damage: str) -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    ended = await stage.send(session_id)
    await stage.batch(stage.finishing(stage.ticket(ended)))
    told = told_states(stage.check().events)
    stage.memory.opened.db.execute(f"UPDATE session SET {damage}").close()
    with pytest.raises(IntegrityBroken) as refused:
        await stage.begin()
    assert (refused.value.context["session_id"], refused.value.context["reason"]) == (session_id, "counts_differ")
    assert "doctor --repair" in refused.value.hint
    stage.store.follow(Dispatcher(stage.queue, stage.clock, stage.epoch))
    assert await stage.batch(recovery.recount, recovery.recount) == [[session_id], []]
    await stage.begin()
    assert stage.session(session_id).state is told[session_id]
    found = stage.store.read_now(lambda reader: check_log(reader, stage.memory.key.verifier_key))
    last = [one.payload for one in found if one.type == "recovery.attempted"]
    assert [(one["reason"], one["result"]) for one in last] == [("counts_differ", "counted_anew")]
    assert stage.job(await stage.send(session_id)).state is JobState.RUNNING


async def test_a_sound_workspace_is_counted_as_it_is() -> None:
    stage = await Stage.open(with_policy(local_runs=LocalRuns.DESK))
    await running(stage)
    await restart(stage, dispatch=True)
    await running(stage)
    before = stage.check()
    assert await stage.store.write(recovery.recount) == []
    assert stage.check() == before
