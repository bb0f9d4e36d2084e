"""Tests of sessions: how they begin, pause and end, and what of them never changes."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import pytest

from handshake.kernel.errors import InvalidTransition, NotFound, RateLimited, StateConflict
from handshake.kernel.ids import ModelId, ProviderId, SessionId
from handshake.kernel.job import Backend, JobState
from handshake.kernel.lane import Lane
from handshake.kernel.session import ExecutionMode, MemoryPolicy, ParameterClass, Session, SessionState
from handshake.operations import sessions
from handshake.testing.invariants import Event
from tests.requirement import requirement
from tests.running import PASSING, Stage, settings_of

WHOLE: dict[str, Any] = {
    "model_id": ModelId("acme/large: 2 @ home"),
    "provider_id": ProviderId("other"),
    "role": "rolepack:law/clerk",
    "memory_policy": MemoryPolicy.WORKSPACE_SCOPED,
    "lane": Lane.BACKGROUND,
    "wp_id": "WP-7",
    "mt_id": "MT-3",
    "work_profile_id": "careful",
    "execution_mode": ExecutionMode.SPLIT_POLICY_AND_PLANNING,
    "parameter_class": ParameterClass.P32B,
    "title": "A clerk",
}
FIXED = (*WHOLE, "session_id", "backend", "parent_session_id", "root_session_id", "spawn_depth", "created_at_us")


def told(stage: Stage, session_id: SessionId, kind: str) -> list[Event]:
    return [event for event in stage.check().of(kind) if event.session_id == session_id]


async def test_a_new_session_is_as_it_was_asked_for() -> None:
    stage = await Stage.open()
    session = stage.session(await stage.create(**WHOLE))
    assert {name: getattr(session, name) for name in WHOLE} == WHOLE
    assert (session.state, session.backend, session.spawn_depth) == (SessionState.CREATED, Backend.LOCAL, 0)
    assert (session.parent_session_id, session.root_session_id) == (None, session.session_id)
    (event,) = told(stage, session.session_id, "session.created")
    assert event.payload["memory_policy"] == "WORKSPACE_SCOPED"
    assert (event.payload["wp_id"], event.payload["mt_id"]) == ("WP-7", "MT-3")


@requirement("session.create.existing_id_is_refused")
@pytest.mark.parametrize("change", [{}, *({name: value} for name, value in WHOLE.items()), WHOLE], ids=str)
async def test_a_known_id_is_refused_whatever_else_is_asked_for(change: dict[str, Any]) -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    before, log = stage.session(session_id), len(stage.check().events)
    with pytest.raises(StateConflict) as refused:
        await stage.create(session_id=session_id, **change)
    assert refused.value.context == {"session_id": session_id, "reason": "session_exists"}
    assert stage.session(session_id) == before
    assert len(stage.check().events) == log


@requirement("session.create.existing_id_is_refused")
async def test_an_ended_session_is_not_brought_back_and_two_of_a_batch_are_one() -> None:
    stage = await Stage.open()
    new = stage.new_session()
    results = await stage.batch(*[lambda tx: sessions.create(tx, new, max_open=9)] * 2)
    assert isinstance(results[0], Session)
    assert isinstance(results[1], StateConflict)
    await stage.batch(stage.completing(new.session_id))
    with pytest.raises(StateConflict):
        await stage.create(session_id=new.session_id)
    assert stage.session(new.session_id).state is SessionState.COMPLETED


async def test_open_sessions_have_a_limit_and_ended_ones_do_not_count() -> None:
    stage = await Stage.open()
    first = stage.new_session()
    await stage.batch(lambda tx: sessions.create(tx, first, max_open=1))
    with pytest.raises(RateLimited) as refused:
        await stage.store.write(lambda tx: sessions.create(tx, stage.new_session(), max_open=1))
    assert refused.value.context == {"reason": "open_sessions", "limit": 1}
    await stage.batch(stage.completing(first.session_id))
    again = await stage.store.write(lambda tx: sessions.create(tx, stage.new_session(), max_open=1))
    assert again.state is SessionState.CREATED


@requirement("session.bindings.fixed", "session.memory_policy.is_fixed", "session.grants.change_only_by_own_operation")
async def test_nothing_that_happens_to_a_session_changes_what_it_is() -> None:
    stage = await Stage.open()
    session_id = await stage.create(**WHOLE)

    def fixed() -> dict[str, Any]:
        session = stage.session(session_id)
        return {name: getattr(session, name) for name in FIXED}

    before = fixed()
    job_id = await stage.send(session_id, "one", lane=Lane.PRIMARY, priority=3, max_output_tokens=9)
    await stage.batch(stage.failing(stage.ticket(job_id), PASSING))
    stage.clock.advance(10_000_000)
    await stage.look()
    await stage.batch(stage.pausing(session_id), stage.finishing(stage.ticket(job_id)), stage.resuming(session_id))
    again = await stage.send(session_id, "two")
    await stage.batch(stage.cancelling(again))
    await stage.begin()
    await stage.batch(stage.completing(session_id))
    assert fixed() == before
    stage.check()


@requirement(
    "session.bindings.fixed", "session.memory_policy.is_fixed", "session.grants.change_only_by_own_operation",
    "session.state.is_derived",
)  # fmt: skip
def test_no_query_can_change_what_a_session_is() -> None:
    text = "".join(
        one.read_text() for one in (files("handshake.storage") / "sql").iterdir() if one.name.endswith(".sql")
    )
    updates = re.findall(r"UPDATE session SET (.*?)\bWHERE", text, re.DOTALL)
    written = {name for update in updates for name in re.findall(r"(\w+)\s*=(?!=)", re.sub(r"CASE.*?END", "", update))}
    assert len(updates) == text.count("UPDATE session") > 3
    assert "REPLACE INTO session" not in text
    assert "DELETE FROM session" not in text
    assert written == {
        "ending", "running", "waiting", "blockers", "paused", "dispatched", "state", "next_seq", "next_turn_seq",
        "thread_bytes", "total_tokens", "last_error", "updated_at_us", "ended_at_us", "settled_tokens",
        "settled_cost_usd_micro", "checkpoint_count", "checkpoint_seq", "checkpoint_state", "checkpoint_trigger",
        "checkpoint_at_us", "streamed_tokens", "last_job_seq", "tainted",
    }  # fmt: skip
    assert not written & set(FIXED)
    assert {name.strip() for update in updates for name in re.findall(r"\bstate = (\S+?),", update)} == {":state"}


@requirement("session.grants.change_only_by_own_operation")
def test_no_query_can_change_what_a_grant_or_an_approval_gives() -> None:
    text = (files("handshake.storage") / "sql" / "grant.sql").read_text()
    for table, changes in (
        ("capability_grant", {"used_count", "used_bytes", "used_amount", "revoked_at_us", "revoked_by"}),
        ("approval", {"used_at_us", "revoked_at_us", "revoked_by"}),
    ):
        updates = re.findall(rf"UPDATE {table} SET (.*?)\bWHERE", text, re.DOTALL)
        assert {name for update in updates for name in re.findall(r"(\w+)\s*=(?!=)", update)} == changes
        assert f"DELETE FROM {table}" not in text
        assert f"REPLACE INTO {table}" not in text


@requirement("session.pause.keeps_queue")
async def test_a_paused_session_keeps_its_queue_and_starts_it_in_order() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    (paused,) = await stage.batch(stage.pausing(session_id))
    assert paused.state is SessionState.PAUSED
    jobs = [await stage.send(session_id, text, priority=90 - 10 * n) for n, text in enumerate("abc")]
    assert [stage.job(one).state for one in jobs] == [JobState.QUEUED] * 3
    (resumed,) = await stage.batch(stage.resuming(session_id))
    assert resumed.state is SessionState.CREATED
    for job_id in jobs:
        assert stage.running() == [job_id]
        await stage.batch(stage.finishing(stage.ticket(job_id)))
    reasons = [event.payload["reason"] for event in told(stage, session_id, "session.state_change")]
    assert reasons == ["pause_requested", "resume_requested"]


@requirement("session.pause.keeps_queue")
async def test_pausing_while_a_run_is_running_acts_when_it_is_over() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    first, second = [await stage.send(session_id, text) for text in "ab"]
    (paused,) = await stage.batch(stage.pausing(session_id))
    assert (paused.state, paused.paused) == (SessionState.ACTIVE, True)
    await stage.batch(stage.finishing(stage.ticket(first)))
    assert stage.session(session_id).state is SessionState.PAUSED
    assert stage.job(second).state is JobState.QUEUED
    await stage.batch(stage.resuming(session_id))
    assert stage.running() == [second]


@requirement("session.pause.keeps_queue")
async def test_a_pause_that_is_lifted_while_a_run_is_running_delays_nothing() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    first, second = [await stage.send(session_id, text) for text in "ab"]
    await stage.batch(stage.pausing(session_id), stage.resuming(session_id))
    await stage.batch(stage.finishing(stage.ticket(first)))
    assert stage.running() == [second]


@requirement("session.pause.keeps_queue")
async def test_a_retry_of_a_paused_session_waits_for_the_resume() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    job_id = await stage.send(session_id)
    await stage.batch(stage.pausing(session_id), stage.failing(stage.ticket(job_id)))
    stage.clock.advance(10_000_000)
    await stage.look()
    assert stage.running() == []
    assert stage.session(session_id).state is SessionState.PAUSED
    await stage.batch(stage.resuming(session_id))
    assert stage.running() == [job_id]


async def test_pausing_and_resuming_twice_is_the_same_and_is_told_once() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    await stage.batch(stage.resuming(session_id), *[stage.pausing(session_id)] * 2, *[stage.resuming(session_id)] * 2)
    assert len(told(stage, session_id, "session.state_change")) == 2


async def test_a_session_completes_only_without_open_turns() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    job_id = await stage.send(session_id)
    (refused,) = await stage.batch(stage.completing(session_id))
    assert isinstance(refused, StateConflict)
    await stage.batch(stage.finishing(stage.ticket(job_id)))
    stage.clock.advance(2_000_000)
    (completed,) = await stage.batch(stage.completing(session_id))
    assert completed.state is SessionState.COMPLETED
    (event,) = told(stage, session_id, "session.completed")
    assert event.payload == {
        "duration_ms": 2_000, "messages_count": 2, "session_id": session_id, "status": "COMPLETED",
        "total_cost_usd": "0.000000", "total_tokens": 5,
    }  # fmt: skip


@requirement("session.state.terminal_is_sticky")
@pytest.mark.parametrize("end", ["completing", "cancelling_session"])
async def test_nothing_changes_an_ended_session(end: str) -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    job_id = await stage.send(session_id)
    ticket = stage.ticket(job_id)
    if end == "completing":
        await stage.batch(stage.finishing(ticket))
    stage.clock.advance(1)
    await stage.batch(getattr(stage, end)(session_id))
    ended, log = stage.session(session_id), len(stage.check().events)
    stage.clock.advance(1)
    results = await stage.batch(
        stage.pausing(session_id),
        stage.resuming(session_id),
        stage.completing(session_id),
        stage.accepting(stage.turn(session_id)),
        stage.finishing(ticket, "late"),
        stage.failing(ticket),
        stage.handing_back(ticket),
        stage.releasing(ticket),
    )
    assert all(isinstance(result, InvalidTransition) for result in results[:4])
    assert not any(result.counted for result in results[4:])
    assert stage.session(session_id) == ended
    assert len(stage.check().events) == log
    await stage.begin()
    assert stage.session(session_id) == ended


@requirement("session.state.terminal_is_sticky")
async def test_a_cancelled_session_is_not_completed_and_a_completed_one_not_cancelled() -> None:
    stage = await Stage.open()
    completed, cancelled = await stage.create(), await stage.create()
    await stage.batch(stage.completing(completed), stage.cancelling_session(cancelled))
    results = await stage.batch(stage.cancelling_session(completed), stage.completing(cancelled))
    assert [type(result) for result in results] == [InvalidTransition] * 2
    assert stage.session(completed).state is SessionState.COMPLETED
    assert stage.session(cancelled).state is SessionState.CANCELLED


@pytest.mark.parametrize("verb", ["pausing", "resuming", "completing", "cancelling_session"])
@pytest.mark.parametrize("text", ["", "nobody", "0" * 36, "018f0000-0000-7000-8000-000000000001", "x" * 10_000])
async def test_a_session_that_is_not_there_is_not_found(verb: str, text: str) -> None:
    stage = await Stage.open()
    (refused,) = await stage.batch(getattr(stage, verb)(SessionId(text)))
    assert isinstance(refused, NotFound)
    assert stage.check().events == []


@requirement("session.id.stands_everywhere")
async def test_the_session_stands_on_every_event_and_record_of_its_life() -> None:
    stage = await Stage.open(settings_of(2))
    lives = []
    for _ in range(2):
        session_id = await stage.create(wp_id="WP-1")
        job_id = await stage.send(session_id, f"question of {session_id}")
        await stage.batch(stage.failing(stage.ticket(job_id), PASSING, body=f"error of {session_id}"))
        stage.clock.advance(10_000_000)
        await stage.look()
        await stage.batch(stage.pausing(session_id), stage.finishing(stage.ticket(job_id)), stage.resuming(session_id))
        cancelled = await stage.send(session_id, "cancel this")
        await stage.batch(stage.cancelling(cancelled), stage.releasing(stage.ticket(cancelled), "late"))
        await stage.send(session_id, "and crash")
        await stage.begin()
        await stage.batch(stage.cancelling_session(session_id))
        lives.append(session_id)
    found = stage.check()
    life = [event for event in found.events if not event.type.startswith("meta.")]
    assert {event.session_id for event in life} == set(lives)
    kinds = {event.type for event in life}
    assert kinds == {
        "session.created", "session.message", "session.state_change", "session.completed", "session_scheduler.enqueue",
        "session_scheduler.dispatch", "session_scheduler.retry", "session_scheduler.cancelled", "llm_inference",
        "workflow_recovery", "checkpoint.created",
    }  # fmt: skip
    jobs = {job.job_id: job.session_id for job in found.jobs}
    assert all(event.job_id is None or jobs[event.job_id] == event.session_id for event in life)  # type: ignore[index]
    db = stage.memory.opened.db
    (unowned,) = db.execute(
        "SELECT count(*) FROM artifact WHERE sha256 NOT IN (SELECT content_artifact_id FROM message) AND sha256 NOT IN "
        "(SELECT artifact_id FROM job_artifact JOIN job USING (job_id) WHERE session_id IS NOT NULL)"
    ).fetchall()
    assert unowned == (0,)


def test_a_caller_names_neither_depth_nor_state_nor_parent() -> None:
    given = set(sessions.NewSession.__struct_fields__)
    assert given - {"budget", "grants", "user_id"} < set(Session.__struct_fields__)
    assert not given & {"spawn_depth", "state", "parent_session_id", "root_session_id", "ending", "running", "paused"}
