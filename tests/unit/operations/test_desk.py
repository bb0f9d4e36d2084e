"""Desk operations: a lost run waits for a person, a week at most; every answer is evidence, and counts once."""

from __future__ import annotations

import msgspec
import pytest

from handshake.kernel.desk import DeskItem, DeskState, shown_sha256
from handshake.kernel.errors import InvalidTransition, NotFound, StateConflict
from handshake.kernel.ids import JobId, SessionId
from handshake.kernel.job import JobState
from handshake.kernel.session import SessionState
from handshake.kernel.settings import DESK_RECOVERY_EXPIRY_S, AutomationLevel, LocalRuns, RecoverySettings, Settings
from handshake.operations import desk, views
from tests.requirement import requirement
from tests.running import Stage, settings_of

SECOND_US = 1_000_000
WEEK_US = DESK_RECOVERY_EXPIRY_S * SECOND_US


def careful(total: int = 64) -> Settings:
    """Return settings under which every lost run comes before a person."""
    return msgspec.structs.replace(settings_of(total), recovery=RecoverySettings(local_runs=LocalRuns.DESK))


async def lost(total: int = 64) -> tuple[Stage, SessionId, JobId, DeskItem]:
    """Return a stage on which a run was lost and waits for a person, and a later turn waits behind it."""
    stage = await Stage.open(careful(total))
    session_id = await stage.create()
    job_id = await stage.send(session_id)
    await stage.send(session_id, "behind")
    await stage.begin()
    await stage.look()
    (item,) = stage.desk()
    return stage, session_id, job_id, item


@requirement("recovery.start.stalls_orphans", "recovery.actions.are_evented")
async def test_a_lost_run_is_stalled_its_session_blocked_and_a_person_is_asked() -> None:
    stage, session_id, job_id, item = await lost()
    assert (item.job_id, item.session_id, item.reason, item.attempts) == (job_id, session_id, "policy", 1)
    assert item.expires_at_us == item.created_at_us + WEEK_US
    assert stage.job(job_id).state is JobState.STALLED
    assert stage.session(session_id).state is SessionState.BLOCKED
    found = stage.check()
    assert stage.running() == [], "nothing of a BLOCKED session starts"
    (asked,) = found.of("gov_human_intervention_requested")
    assert (asked.payload["decision_id"], asked.payload["target_ref"]) == (item.item_id, job_id)
    (attempted,) = found.of("recovery.attempted")
    assert (attempted.payload["result"], attempted.payload["reason"]) == ("desk", "policy")


@requirement("recovery.actions.are_evented")
async def test_approving_runs_it_again_before_what_waits_behind_it() -> None:
    stage, session_id, job_id, item = await lost()
    (answered,) = await stage.batch(stage.approving(item))
    assert (answered.state, answered.decided_by) == (DeskState.APPROVED, "operator")
    assert stage.running() == [job_id]
    assert (stage.job(job_id).attempt, stage.session(session_id).state) == (2, SessionState.ACTIVE)
    told = stage.check().of("gov_human_intervention_received")
    assert [(one.payload["decision"], one.payload["user_id"]) for one in told] == [("approved", "operator")]
    await stage.batch(stage.finishing(stage.ticket(job_id)))
    assert len(stage.running()) == 1, "the turn behind it"
    stage.check()


async def test_approving_while_the_slots_are_taken_queues_it() -> None:
    stage, _, job_id, item = await lost(1)
    other = await stage.send(await stage.create())
    await stage.batch(stage.approving(item))
    assert stage.running() == [other]
    await stage.batch(stage.finishing(stage.ticket(other)))
    assert stage.running() == [job_id]


async def test_approving_what_was_shown_otherwise_changes_nothing() -> None:
    stage, _, job_id, item = await lost()
    before = stage.check()
    other = shown_sha256(msgspec.structs.replace(item, attempts=9))
    with pytest.raises(StateConflict):
        await stage.store.write(
            lambda tx: desk.approve(
                tx, stage.queue, item.item_id, shown=other, by="operator", level=AutomationLevel.HYBRID
            )
        )
    assert stage.check() == before
    assert stage.job(job_id).state is JobState.STALLED


@requirement("recovery.actions.are_evented")
async def test_denying_fails_it_and_lets_its_session_go_on() -> None:
    stage, session_id, job_id, item = await lost()
    await stage.batch(stage.denying(item))
    job = stage.job(job_id)
    assert (job.state, job.reason, job.error_code) == (JobState.FAILED, "denied", desk.DENIED_CODE)
    (ended,) = stage.check().of("session_scheduler.ended")
    assert (ended.job_id, ended.payload["reason"]) == (job_id, "denied")
    assert len(stage.running()) == 1
    assert stage.session(session_id).state is SessionState.ACTIVE


@requirement("recovery.actions.are_evented")
async def test_what_nobody_answers_fails_after_a_week_and_not_before() -> None:
    stage, _, job_id, item = await lost()
    stage.clock.advance(WEEK_US - 1)
    assert await stage.batch(stage.expiring()) == [[]]
    stage.clock.advance(1)
    assert await stage.batch(stage.expiring()) == [[job_id]]
    (answered,) = stage.desk(None)
    assert (answered.item_id, answered.state, answered.decided_by) == (item.item_id, DeskState.EXPIRED, "runtime")
    assert (stage.job(job_id).state, stage.job(job_id).reason) == (JobState.FAILED, "expired")
    attempted = stage.check().of("recovery.attempted")
    assert [(one.payload["reason"], one.payload["result"]) for one in attempted] == [
        ("policy", "desk"), ("expired", "failed"),
    ]  # fmt: skip
    with pytest.raises(InvalidTransition):
        await stage.store.write(stage.approving(item))


async def test_what_expired_while_nothing_ran_fails_at_the_next_start() -> None:
    stage, _, job_id, _ = await lost()
    stage.clock.advance(WEEK_US)
    await stage.begin()
    assert stage.job(job_id).state is JobState.FAILED
    stage.check()


async def test_cancelling_a_lost_run_takes_the_question_back() -> None:
    stage, _, job_id, item = await lost()
    await stage.batch(stage.cancelling(job_id))
    assert stage.job(job_id).state is JobState.CANCELLED
    assert [one.state for one in stage.desk(None)] == [DeskState.WITHDRAWN]
    assert len(stage.running()) == 1
    for unit in (stage.approving(item), stage.denying(item)):
        with pytest.raises(InvalidTransition):
            await stage.store.write(unit)
    stage.check()


async def test_cancelling_its_session_takes_the_question_back() -> None:
    stage, session_id, _, _ = await lost()
    await stage.batch(stage.cancelling_session(session_id))
    assert [one.state for one in stage.desk(None)] == [DeskState.WITHDRAWN]
    assert stage.session(session_id).state is SessionState.CANCELLED
    stage.check()


async def test_an_answer_is_given_once() -> None:
    stage, _, job_id, item = await lost()
    first, second, third = await stage.batch(stage.approving(item), stage.approving(item), stage.denying(item))
    assert first.state is DeskState.APPROVED
    assert isinstance(second, InvalidTransition)
    assert isinstance(third, InvalidTransition)
    assert stage.running() == [job_id]


async def test_a_run_of_a_paused_session_waits_for_both() -> None:
    stage, session_id, job_id, item = await lost()
    await stage.batch(stage.pausing(session_id))
    assert stage.session(session_id).state is SessionState.BLOCKED
    await stage.batch(stage.approving(item))
    assert (stage.running(), stage.session(session_id).state) == ([], SessionState.PAUSED)
    await stage.batch(stage.resuming(session_id))
    assert stage.running() == [job_id]


async def test_a_question_outlives_restarts_and_is_not_asked_twice() -> None:
    stage, _, job_id, item = await lost()
    for _ in range(3):
        await stage.begin()
    assert stage.desk() == [item]
    await stage.batch(stage.approving(item))
    assert stage.running() == [job_id]


async def test_views_count_what_waits_and_lists_have_pages() -> None:
    stage = await Stage.open(careful())
    for _ in range(5):
        await stage.send(await stage.create())
    await stage.begin()
    assert stage.store.read_now(views.workspace).desk == 5
    first = stage.store.read_now(lambda reader: desk.items(reader, limit=2))
    rest = stage.store.read_now(lambda reader: desk.items(reader, after=first[-1].item_seq))
    assert [one.item_seq for one in first + rest] == [1, 2, 3, 4, 5]
    with pytest.raises(NotFound):
        stage.store.read_now(lambda reader: desk.item(reader, "nobody"))


async def test_what_is_out_of_time_cannot_be_approved_although_nobody_has_looked_yet() -> None:
    stage, _, job_id, item = await lost()
    stage.clock.advance(WEEK_US)
    (refused,) = await stage.batch(stage.approving(item))
    assert isinstance(refused, InvalidTransition)
    assert stage.job(job_id).state is JobState.STALLED
    await stage.batch(stage.expiring())
    assert stage.job(job_id).state is JobState.FAILED
    stage.check()
