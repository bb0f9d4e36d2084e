"""Tests of runs: a turn is accepted whole or not at all, started by the order, and told at every step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import apsw
import msgspec
import pytest

from handshake.kernel.errors import (
    BudgetExceeded,
    ConsentRequired,
    Draining,
    HandshakeError,
    IntegrityBroken,
    InvalidRequest,
    InvalidTransition,
    NotFound,
    RateLimited,
    StateConflict,
)
from handshake.kernel.ids import JobId, ModelId, SessionId
from handshake.kernel.job import Backend, JobKind, JobState
from handshake.kernel.lane import Lane
from handshake.kernel.session import SessionState
from handshake.kernel.settings import ModelSettings
from handshake.operations import runs
from handshake.ports.store import Tx
from tests.requirement import requirement
from tests.running import MODEL, Stage, content_of, settings_of

PRICED = ModelSettings(input_usd_micro_per_million=2_500_000, output_usd_micro_per_million=0)


def rows_of(stage: Stage) -> dict[str, int]:
    """Return how many rows each table has."""
    db = stage.memory.opened.db
    tables = [str(row[0]) for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    return {table: sum(1 for _ in db.execute(f"SELECT 1 FROM {table}")) for table in tables}


class Failing:
    """A transaction whose call number `at` fails; the calls before it are done."""

    def __init__(self, tx: Tx, at: int, failure: Exception) -> None:
        self._tx = tx
        self._left = at
        self._failure = failure

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._tx, name)
        return self._counted(found) if callable(found) else found

    def _counted(self, act: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self._left -= 1
            if self._left < 0:
                raise self._failure
            return act(*arguments, **named)

        return call


async def test_a_turn_becomes_message_job_and_two_events() -> None:
    settings = settings_of(models={MODEL: ModelSettings(max_output_tokens=77, group="g")}, g=5)
    stage = await Stage.open(settings, dispatch=False)
    session_id = await stage.create(wp_id="WP-1", lane=Lane.SUBAGENT)
    turn = stage.turn(session_id, "Grüße", priority=7)
    (accepted,) = await stage.batch(stage.accepting(turn))
    assert accepted == runs.Accepted(turn.job_id, turn.turn_id, False)
    found = stage.check()
    (job,) = found.jobs
    assert (job.state, job.job_kind, job.attempt) == (JobState.QUEUED, JobKind.MODEL_RUN, 0)
    assert (job.lane, job.priority, job.concurrency_group) == (Lane.SUBAGENT, 7, "g")
    assert (job.wp_id, job.fairness_key, job.max_output_tokens) == ("WP-1", session_id, 77)
    (message,) = found.messages
    assert (message.seq, message.turn_seq, message.content_bytes, message.trusted) == (1, 1, 7, True)
    events = {event.type: event for event in found.events if event.job_id == turn.job_id}
    assert set(events) == {"session.message", "session_scheduler.enqueue"}
    assert events["session_scheduler.enqueue"].payload == {
        "concurrency_group": "g", "job_id": turn.job_id, "lane": "SUBAGENT", "priority": 7, "session_id": session_id,
    }  # fmt: skip


async def test_a_turn_may_choose_its_lane_and_its_longest_answer() -> None:
    stage = await Stage.open(settings_of(models={MODEL: ModelSettings(max_output_tokens=77)}))
    session_id = await stage.create(lane=Lane.SUBAGENT)
    job = stage.job(await stage.send(session_id, lane=Lane.PRIMARY, max_output_tokens=5))
    assert (job.lane, job.max_output_tokens) == (Lane.PRIMARY, 5)
    assert stage.session(session_id).lane is Lane.SUBAGENT


@requirement("message.append.is_atomic")
@pytest.mark.parametrize("failure", [StateConflict(reason="test"), KeyError("a bug"), apsw.FullError("disk")])
async def test_a_turn_that_fails_at_any_point_leaves_nothing(failure: Exception) -> None:
    stage = await Stage.open(dispatch=False)
    session_id = await stage.create()
    await stage.send(session_id, "before")
    before, log = rows_of(stage), stage.check().events
    failed = 0
    while True:
        accept = stage.accepting(stage.turn(session_id, "after", idempotency_key="key"))
        beside = stage.turn(session_id, f"beside {failed}")
        broken, _ = await stage.batch(
            lambda tx, accept=accept, at=failed: accept(Failing(tx, at, failure)),  # type: ignore[misc]
            stage.accepting(beside),
        )
        if not isinstance(broken, BaseException):
            break
        failed += 1
        found = stage.check()
        assert [one.job_id for one in found.jobs[1:]] != []
        assert len(found.messages) == 1 + failed
        assert {event.job_id for event in found.events[len(log) :]} == {one.job_id for one in found.jobs[1:]}
    assert failed >= 7
    after = rows_of(stage)
    assert after["message"] - before["message"] == after["job"] - before["job"] == failed + 2
    assert after["artifact"] - before["artifact"] == failed + 2
    marked = len(stage.check().of("checkpoint.created"))
    assert after["event"] - before["event"] == 2 * (failed + 2) + marked


@requirement("message.append.is_atomic")
async def test_no_message_stands_without_its_content() -> None:
    stage = await Stage.open(dispatch=False)
    session_id = await stage.create()
    await stage.send(session_id)
    with pytest.raises(apsw.ConstraintError):
        stage.memory.opened.db.execute("DELETE FROM artifact").close()
    with pytest.raises(apsw.ConstraintError):
        stage.memory.opened.db.execute("UPDATE message SET content_artifact_id = 'other'").close()
    stage.check()


@requirement("scheduler.idempotency.same_key_same_job")
async def test_the_same_key_is_the_same_job_also_within_a_batch() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    turns = [stage.turn(session_id, "once", idempotency_key="k") for _ in range(3)]
    first, second = await stage.batch(*map(stage.accepting, turns[:2]))
    assert (first.job_id, first.repeated) == (turns[0].job_id, False)
    assert (second.job_id, second.turn_id, second.repeated) == (first.job_id, first.turn_id, True)
    await stage.batch(stage.finishing(stage.ticket(first.job_id)))
    (third,) = await stage.batch(stage.accepting(turns[2]))
    assert third == second
    found = stage.check()
    assert len(found.jobs) == 1
    assert [message.role for message in found.messages] == ["USER", "ASSISTANT"]


@requirement("scheduler.idempotency.same_key_same_job")
async def test_a_key_is_answered_also_after_the_session_has_ended_and_after_a_restart() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    job_id = await stage.send(session_id, idempotency_key="k")
    await stage.batch(stage.cancelling_session(session_id))
    await stage.begin()
    (again,) = await stage.batch(stage.accepting(stage.turn(session_id, idempotency_key="k")))
    assert (again.job_id, again.repeated) == (job_id, True)


@requirement("scheduler.idempotency.same_key_same_job")
async def test_a_key_with_another_request_is_a_conflict_and_one_of_another_session_is_not() -> None:
    stage = await Stage.open()
    session_id, other_id = await stage.create(), await stage.create()
    job_id = await stage.send(session_id, "one", idempotency_key="k")
    (refused,) = await stage.batch(stage.accepting(stage.turn(session_id, "two", idempotency_key="k")))
    assert isinstance(refused, StateConflict)
    assert refused.context == {"reason": "idempotency_key_reused", "job_id": job_id}
    other = await stage.send(other_id, "two", idempotency_key="k")
    assert other != job_id
    assert len(stage.check().jobs) == 2


@requirement("message.content.hash_is_verified")
async def test_content_with_another_hash_than_claimed_is_refused_and_not_stored() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    true, other = content_of(b"Hello"), content_of(b"Hullo")
    before = rows_of(stage)
    (refused,) = await stage.batch(stage.accepting(stage.turn(session_id, content_hash=other.artifact_id)))
    assert isinstance(refused, InvalidRequest)
    assert refused.context["reason"] == "of_other_content"
    assert rows_of(stage) == before
    assert await stage.send(session_id, content_hash=true.artifact_id)


async def test_a_turn_needs_an_open_local_session() -> None:
    stage = await Stage.open(settings_of(models={"dear": PRICED}))
    cloud = await stage.create(backend=Backend.CLOUD, model_id=ModelId("dear"))
    ended = await stage.create()
    await stage.batch(stage.completing(ended))
    unknown = SessionId("018f0000-0000-7000-8000-000000000001")
    results = await stage.batch(*(stage.accepting(stage.turn(one)) for one in (cloud, ended, unknown)))
    assert [type(one) for one in results] == [ConsentRequired, InvalidTransition, NotFound]
    assert stage.check().jobs == []


@requirement("scheduler.budget.unknown_price_is_refused")
@pytest.mark.parametrize(
    "known", [None, ModelSettings(), ModelSettings(input_usd_micro_per_million=1), PRICED], ids=str
)
async def test_a_cloud_model_without_both_prices_is_refused_before_anybody_is_asked(
    known: ModelSettings | None,
) -> None:
    stage = await Stage.open(settings_of(models={} if known is None else {"dear": known}))
    cloud = await stage.create(backend=Backend.CLOUD, model_id=ModelId("dear"))
    (refused,) = await stage.batch(stage.accepting(stage.turn(cloud)))
    if known is PRICED:
        assert isinstance(refused, ConsentRequired)
    else:
        assert isinstance(refused, BudgetExceeded)
        assert refused.context["reason"] == "unknown_price"
        assert "input_usd_per_million" in refused.hint
    assert stage.check().jobs == []


@pytest.mark.parametrize("name", ["MAX_QUEUED_RUNS", "MAX_OPEN_TURNS_PER_SESSION"])
async def test_waiting_turns_have_a_limit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, name, 3)
    stage = await Stage.open(dispatch=False)
    session_id = await stage.create()
    jobs = [await stage.send(session_id) for _ in range(3)]
    with pytest.raises(RateLimited) as refused:
        await stage.send(session_id)
    assert refused.value.context == {"session_id": session_id, "reason": "queue_full"}
    await stage.batch(stage.cancelling(jobs[1]))
    await stage.send(session_id)
    assert len(stage.check().jobs) == 4


@requirement("scheduler.events.on_every_step", "session.state.active_iff_one_running")
async def test_a_run_that_gets_its_slots_is_told_with_how_long_it_waited() -> None:
    stage = await Stage.open(settings_of(1))
    first, second = await stage.create(), await stage.create()
    one = await stage.send(first)
    stage.clock.advance(1_000_000)
    two = await stage.send(second)
    assert (stage.session(first).state, stage.session(second).state) == (SessionState.ACTIVE, SessionState.CREATED)
    stage.clock.advance(2_500_000)
    await stage.batch(stage.finishing(stage.ticket(one)))
    dispatched = [event.payload for event in stage.check().of("session_scheduler.dispatch")]
    assert [(one["job_id"], one["queue_wait_ms"], one["session_state_after"]) for one in dispatched] == [
        (one, 0, "ACTIVE"),
        (two, 2_500, "ACTIVE"),
    ]


@requirement("scheduler.events.on_every_step")
async def test_enqueue_dispatch_and_cancel_leave_one_event_each() -> None:
    stage = await Stage.open(settings_of(1))
    session_id = await stage.create()
    first, second = [await stage.send(session_id, text) for text in "ab"]
    await stage.batch(stage.cancelling(second), stage.cancelling(second), stage.cancelling(first))
    told = Counter((event.type, event.job_id) for event in stage.check().events if event.job_id)
    for job_id in (first, second):
        assert told["session_scheduler.enqueue", job_id] == told["session_scheduler.cancelled", job_id] == 1
    assert (told["session_scheduler.dispatch", first], told["session_scheduler.dispatch", second]) == (1, 0)


@requirement("scheduler.rate.no_event_flood")
async def test_waiting_for_slots_makes_no_events() -> None:
    stage = await Stage.open(settings_of(1))
    running = await stage.send(await stage.create())
    waiting = [await stage.send(await stage.create()) for _ in range(20)]
    for _ in range(50):
        stage.clock.advance(60_000_000)
        await stage.look()
    found = stage.check()
    assert stage.running() == [running]
    told = Counter(event.job_id for event in found.events)
    assert [told[job_id] for job_id in waiting] == [2] * 20
    assert {event.type for event in found.events if event.job_id in waiting} == {
        "session.message",
        "session_scheduler.enqueue",
    }


@requirement("scheduler.order.is_deterministic")
async def test_the_same_work_gives_the_same_log() -> None:
    async def log() -> list[tuple[str, dict[str, Any]]]:
        stage = await Stage.open(settings_of(3, each=2))
        ids = [await stage.create(lane=lane) for lane in Lane for _ in range(2)]
        await stage.batch(*(stage.accepting(stage.turn(one, str(n), priority=90 - n)) for n, one in enumerate(ids * 3)))
        for _ in range(40):
            running = stage.running()
            for job_id in running[:2]:
                await stage.batch(stage.finishing(stage.ticket(job_id)))
            stage.clock.advance(1_000)
        assert stage.check().of("llm_inference")
        return [(event.type, event.payload) for event in stage.check().events]

    assert await log() == await log()


async def test_a_row_that_differs_from_the_index_starts_nothing_and_the_index_is_read_again() -> None:
    stage = await Stage.open(settings_of(1))
    first, second = await stage.create(), await stage.create()
    running, waiting = await stage.send(first), await stage.send(second)
    ended = "UPDATE job SET state = 'failed', ended_at_us = 1 WHERE job_id = ?"
    stage.memory.opened.db.execute(ended, (waiting,)).close()
    finish = stage.finishing(stage.ticket(running))
    (refused,) = await stage.batch(finish)
    assert isinstance(refused, IntegrityBroken)
    assert refused.context["reason"] == "index_differs"
    assert stage.job(running).state is JobState.RUNNING
    await stage.batch(finish)
    assert stage.job(running).state is JobState.COMPLETED
    assert (len(stage.queue), stage.queue.usage.total) == (0, 0)


async def test_an_id_is_asked_for_by_its_kind() -> None:
    assert runs.require_id("job", "018f0000-0000-7000-8000-000000000001")
    with pytest.raises(NotFound) as refused:
        runs.require_id("job", "nobody")
    assert refused.value.context == {"kind": "job", "id": "nobody"}


@requirement("session.state.active_iff_one_running", "scheduler.session.head_only")
async def test_many_turns_of_one_session_run_one_after_the_other() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    turns = [stage.turn(session_id, str(number), priority=99 - number) for number in range(64)]
    accepted = await stage.batch(*map(stage.accepting, turns))
    order: list[JobId] = []
    while running := stage.running():
        assert len(running) == 1
        order += running
        await stage.batch(stage.finishing(stage.ticket(running[0]), "ok"))
    assert order == [one.job_id for one in accepted]
    thread = stage.check().messages
    assert [message.seq for message in thread] == list(range(1, 129))


@requirement("scheduler.queue.never_drops")
async def test_what_is_accepted_in_a_batch_that_fails_is_accepted_after_all() -> None:
    stage = await Stage.open(settings_of(2))
    ids = [await stage.create() for _ in range(6)]

    def full_disk(tx: Tx) -> None:
        raise apsw.FullError("disk")

    units = [stage.accepting(stage.turn(one)) for one in ids]
    results = await stage.batch(*units[:3], full_disk, *units[3:])
    failed = [one for one in results if isinstance(one, BaseException)]
    assert [type(one) for one in failed] == [type(results[3])]
    assert isinstance(results[3], HandshakeError)
    assert len(stage.check().jobs) == 6
    assert len(stage.running()) == 2


@requirement("scheduler.draining.finishes")
async def test_a_runtime_that_drains_takes_no_new_turn_and_still_knows_the_old_ones() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    turn = stage.turn(session_id, idempotency_key="k")
    first = await stage.store.write(stage.accepting(turn))
    stage.dispatcher.drain()
    before = stage.check()
    with pytest.raises(Draining):
        await stage.store.write(stage.accepting(stage.turn(session_id)))
    again = await stage.store.write(stage.accepting(msgspec.structs.replace(turn, job_id=JobId(stage.new_id()))))
    assert (again.job_id, again.repeated) == (first.job_id, True)
    assert stage.check() == before
    assert not stage.dispatcher.is_dispatching
