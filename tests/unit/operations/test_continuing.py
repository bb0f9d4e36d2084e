"""Tests of continuing: the next run of a turn comes with the answer before it, and goes before everything later."""

from __future__ import annotations

from typing import Any

from handshake.gate.egress import ThreadMessage
from handshake.kernel.ids import JobId, SessionId
from handshake.kernel.job import JobState, JobStep
from handshake.kernel.lane import Lane
from handshake.kernel.message import MessageRole
from handshake.kernel.session import SessionState
from handshake.kernel.settings import MAX_RUNS_PER_TURN
from handshake.operations.continuing import TURN_TOO_LONG
from handshake.operations.turns import load_request
from tests.requirement import requirement
from tests.running import FINAL, Stage, settings_of


async def stage_of(**given: Any) -> tuple[Stage, SessionId]:
    stage = await Stage.open(**given)
    return stage, await stage.create(lane=Lane.SUBAGENT)


def next_id(stage: Stage) -> JobId:
    return JobId(stage.new_id())


async def test_the_next_run_of_a_turn_is_queued_with_the_answer_before_it() -> None:
    stage, session_id = await stage_of()
    first = await stage.send(session_id, max_output_tokens=77, priority=3)
    second = next_id(stage)
    commits = stage.store.commits
    await stage.batch(stage.finishing(stage.ticket(first), "I need more", next_job_id=second))
    assert stage.store.commits == commits + 1
    before, after = stage.job(first), stage.job(second)
    assert (before.state, after.state) == (JobState.COMPLETED, JobState.RUNNING), "it starts in the same commit"
    assert (before.run_seq, after.run_seq, after.step) == (1, 2, JobStep.CALL)
    same = ("turn_id", "turn_seq", "trace_id", "lane", "priority", "max_output_tokens", "timeout_ms", "fairness_key")
    assert [getattr(after, one) for one in same] == [getattr(before, one) for one in same]
    assert after.estimated_tokens == -(-len("Hello" + "I need more") // 4) + 77, "what it will send, and its answer"
    assert stage.session(session_id).state is SessionState.ACTIVE
    events = [event.type for event in stage.check().events if event.job_id == second]
    assert events == ["session_scheduler.enqueue", "session_scheduler.dispatch"]


@requirement("scheduler.session.head_only")
async def test_a_turn_goes_on_before_later_turns_whatever_their_priority() -> None:
    stage, session_id = await stage_of()
    first = await stage.send(session_id, "one")
    later = await stage.send(session_id, "two", priority=0)
    second, third = next_id(stage), next_id(stage)
    await stage.batch(stage.finishing(stage.ticket(first), next_job_id=second))
    assert stage.running() == [second]
    await stage.batch(stage.finishing(stage.ticket(second), next_job_id=third))
    assert stage.running() == [third]
    await stage.batch(stage.finishing(stage.ticket(third)))
    assert stage.running() == [later]
    assert [ticket.job_id for ticket in stage.performed] == [first, second, third, later]
    stage.check()


async def test_the_order_outlives_a_restart() -> None:
    stage, session_id = await stage_of(settings=settings_of(1, reserved=0))
    first = await stage.send(session_id, "one")
    later = await stage.send(session_id, "two")
    await stage.batch(stage.pausing(session_id))
    second = next_id(stage)
    await stage.batch(stage.finishing(stage.ticket(first), next_job_id=second))
    assert stage.running() == []
    await stage.begin()
    await stage.batch(stage.resuming(session_id))
    assert stage.running() == [second]
    await stage.batch(stage.finishing(stage.ticket(second)))
    assert stage.running() == [later]


async def test_its_request_holds_the_turn_so_far() -> None:
    stage, session_id = await stage_of()
    first = await stage.send(session_id, "one")
    await stage.send(session_id, "two")
    second = next_id(stage)
    await stage.batch(stage.finishing(stage.ticket(first), "more", next_job_id=second))
    ticket = stage.ticket(second)
    request = stage.store.read_now(lambda reader: load_request(reader, ticket, max_bytes=None))
    assert request is not None
    assert request.thread == [ThreadMessage(MessageRole.USER, "one"), ThreadMessage(MessageRole.ASSISTANT, "more")]


async def test_a_late_answer_queues_nothing() -> None:
    stage, session_id = await stage_of()
    first = await stage.send(session_id)
    ticket = stage.ticket(first)
    await stage.batch(stage.cancelling(first))
    second = next_id(stage)
    (ended,) = await stage.batch(stage.finishing(ticket, next_job_id=second))
    assert not ended.counted
    assert [job.job_id for job in stage.check().jobs] == [first]


async def test_a_turn_can_be_cancelled_between_two_of_its_runs() -> None:
    stage, session_id = await stage_of()
    first = await stage.send(session_id)
    await stage.batch(stage.pausing(session_id))
    second = next_id(stage)
    await stage.batch(stage.finishing(stage.ticket(first), next_job_id=second))
    await stage.batch(stage.cancelling_session(session_id))
    assert stage.job(second).state is JobState.CANCELLED
    stage.check()


async def test_a_run_that_goes_on_fails_and_retries_for_itself() -> None:
    stage, session_id = await stage_of()
    first = await stage.send(session_id)
    second = next_id(stage)
    await stage.batch(stage.finishing(stage.ticket(first), next_job_id=second))
    await stage.batch(stage.failing(stage.ticket(second), FINAL))
    assert stage.job(second).state is JobState.FAILED
    assert stage.session(session_id).state is SessionState.IDLE
    stage.check()


async def test_a_turn_that_never_ends_is_stopped() -> None:
    stage, session_id = await stage_of()
    job_id = await stage.send(session_id)
    for _ in range(MAX_RUNS_PER_TURN - 1):
        following = next_id(stage)
        await stage.batch(stage.finishing(stage.ticket(job_id), next_job_id=following))
        job_id = following
    assert stage.job(job_id).run_seq == MAX_RUNS_PER_TURN
    await stage.batch(stage.finishing(stage.ticket(job_id), next_job_id=next_id(stage)))
    last = stage.job(job_id)
    assert (last.state, last.reason) == (JobState.COMPLETED_WITH_ISSUES, TURN_TOO_LONG)
    assert len(stage.check().jobs) == MAX_RUNS_PER_TURN
