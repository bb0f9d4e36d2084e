"""Recovery: what a dead runtime left running is told, queued again and dispatched; nothing else is touched."""

from __future__ import annotations

from handshake.kernel.ids import JobId, SessionId
from handshake.kernel.job import JobState
from handshake.kernel.session import SessionState
from handshake.scheduler import recovery
from handshake.scheduler.recovery import ORPHANS_PER_UNIT
from handshake.testing.invariants import Contents, Event
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
    assert await stage.store.write(recovery.take_over) == 0


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
