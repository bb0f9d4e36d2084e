"""Tests of outcomes: what an attempt leaves, what is tried again, and what comes too late."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
import pytest

from handshake.kernel.errors import ProviderTimeout, StateConflict
from handshake.kernel.ids import ArtifactId, JobId, SessionId
from handshake.kernel.job import JobState, RunTicket
from handshake.kernel.retry import Backoff, Fault, FaultKind, RetryAt, decide
from handshake.kernel.session import SessionState
from handshake.kernel.usage import TokenUsage
from handshake.operations import outcomes, views
from handshake.operations.attempts import LATE, Attempted, Ended, attempted
from handshake.operations.outcomes import KNOWN_FINISHES, PARTIAL, PROVIDER_ERROR
from handshake.operations.views import JobArtifact
from handshake.ports.store import Tx
from tests.requirement import requirement
from tests.running import FINAL, PASSING, USAGE, Stage, content_of, settings_of

RESET_AFTER_TEXT = Fault(FaultKind.RESET, sent=True, consumed=True)


async def one_run(settings: Any = None) -> tuple[Stage, SessionId, JobId]:
    stage = await Stage.open(settings)
    session_id = await stage.create()
    return stage, session_id, await stage.send(session_id)


def left_by(stage: Stage, job_id: JobId) -> list[tuple[int, str, bytes | None]]:
    """Return what the attempts of a job left besides its answer: attempt, kind and bytes."""

    def read(reader: Any) -> list[tuple[int, str, bytes | None]]:
        found: list[JobArtifact] = views.job_artifacts(reader, job_id)
        return [(one.attempt, one.kind, reader.artifact(one.artifact_id)) for one in found]

    return stage.store.read_now(read)


def inferences(stage: Stage, job_id: JobId) -> list[dict[str, Any]]:
    return [event.payload for event in stage.check().of("llm_inference") if event.job_id == job_id]


async def test_an_answer_is_message_usage_and_event_in_one_commit() -> None:
    stage, session_id, job_id = await one_run()
    (ended,) = await stage.batch(stage.finishing(stage.ticket(job_id), "Hi there"))
    assert ended == Ended(JobState.COMPLETED, True)
    job, session = stage.job(job_id), stage.session(session_id)
    assert (job.state, job.reason, job.error_code, job.holds_slot) == (JobState.COMPLETED, None, None, False)
    assert (job.prompt_tokens, job.completion_tokens, job.total_tokens) == (3, 2, 5)
    assert (session.state, session.total_tokens, session.last_error) == (SessionState.IDLE, 5, None)
    (event,) = inferences(stage, job_id)
    assert event["response_hash"] == content_of(b"Hi there").artifact_id
    assert (event["latency_ms"], event["time_to_first_token_ms"], event["attempt"]) == (7, 3, 1)
    assert event["token_usage"] == {"completion_tokens": 2, "prompt_tokens": 3, "total_tokens": 5}
    assert event["session_state_after"] == "IDLE"
    answer = stage.check().messages[-1]
    assert (answer.role, answer.token_count, answer.message_id) == ("ASSISTANT", 2, job.answer_message_id)


async def test_an_answer_takes_the_number_that_its_session_stands_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key keeps numbers apart: the session's count moves only from the number that the message was given."""
    stage, session_id, job_id = await one_run()
    with monkeypatch.context() as patch:
        for wrong in (-1, 1):
            patch.setattr(outcomes, "attempted", partial(moved, by=wrong))
            (refused,) = await stage.batch(stage.finishing(stage.ticket(job_id)))
            assert isinstance(refused, StateConflict)
    assert stage.session(session_id).next_seq == 2
    assert len(stage.check().messages) == 1


def moved(tx: Tx, ticket: RunTicket, *, by: int) -> Attempted:
    """Return the row that an outcome is about, with another number for the next message."""
    row = attempted(tx, ticket)
    return msgspec.structs.replace(row, next_seq=row.next_seq + by)


@requirement("provider.usage.missing_is_null")
@pytest.mark.parametrize("usage", [None, TokenUsage(), TokenUsage(4, None, None)])
async def test_a_figure_that_was_not_reported_is_null_and_not_0(usage: TokenUsage | None) -> None:
    stage, _, job_id = await one_run()
    await stage.batch(stage.finishing(stage.ticket(job_id), usage=usage))
    job = stage.job(job_id)
    prompt_tokens = usage.prompt_tokens if usage else None
    assert (job.prompt_tokens, job.completion_tokens, job.total_tokens) == (prompt_tokens, None, None)
    (event,) = inferences(stage, job_id)
    figures = {"prompt_tokens": prompt_tokens} if prompt_tokens else {}
    assert event["token_usage"] == (None if usage is None else figures)
    assert stage.check().messages[-1].token_count is None
    assert job.estimated_tokens > 4
    assert (job.settled_tokens, job.settled_is_estimate) == (job.estimated_tokens, True)


async def test_an_answer_that_was_filtered_completes_with_issues() -> None:
    stage, _, job_id = await one_run()
    await stage.batch(stage.finishing(stage.ticket(job_id), finish_reason="content_filter"))
    job = stage.job(job_id)
    assert (job.state, job.reason) == (JobState.COMPLETED_WITH_ISSUES, "content_filter")
    assert job.answer_message_id


@pytest.mark.parametrize("reason", [None, *sorted(KNOWN_FINISHES), "a word of its own", "x" * 10_000, "\n"])
async def test_a_finish_reason_is_told_in_a_closed_vocabulary(reason: str | None) -> None:
    stage, _, job_id = await one_run()
    await stage.batch(stage.finishing(stage.ticket(job_id), finish_reason=reason))
    told = inferences(stage, job_id)[0].get("finish_reason")
    assert told == (reason if reason is None or reason in KNOWN_FINISHES else "other")


async def test_an_empty_answer_is_an_answer() -> None:
    stage, _, job_id = await one_run()
    await stage.batch(stage.finishing(stage.ticket(job_id), ""))
    assert stage.job(job_id).state is JobState.COMPLETED
    assert stage.check().messages[-1].content_bytes == 0


@requirement("scheduler.retry.transient_only", "session.state.active_iff_one_running")
async def test_a_fault_that_passes_queues_the_same_job_again_after_its_backoff() -> None:
    stage, session_id, job_id = await one_run()
    verdict = decide(PASSING, job_id=job_id, attempt=1, max_retries=3, backoff=Backoff.EXPONENTIAL)
    assert isinstance(verdict, RetryAt)
    now_us = stage.clock.now_us()
    (ended,) = await stage.batch(stage.failing(stage.ticket(job_id), body='{"error": "busy"}'))
    assert ended == Ended(JobState.QUEUED, True, verdict.backoff_ms)
    job = stage.job(job_id)
    assert (job.state, job.attempt, job.wait_reason) == (JobState.QUEUED, 1, "backoff")
    assert job.not_before_us == now_us + verdict.backoff_ms * 1_000
    assert stage.session(session_id).state is SessionState.IDLE
    stage.clock.advance(verdict.backoff_ms * 1_000 - 1)
    await stage.look()
    assert stage.running() == []
    stage.clock.advance(1)
    await stage.look()
    assert stage.running() == [job_id]
    assert (stage.job(job_id).attempt, stage.job(job_id).wait_reason) == (2, None)
    assert left_by(stage, job_id) == [(1, PROVIDER_ERROR, b'{"error": "busy"}')]
    (retry,) = [event.payload for event in stage.check().of("session_scheduler.retry")]
    assert (retry["attempt"], retry["backoff_ms"], retry["fault"], retry["status"]) == (
        1,
        verdict.backoff_ms,
        "status",
        503,
    )
    dispatched = stage.check().of("session_scheduler.dispatch")[-1].payload
    assert (dispatched["attempt"], dispatched["queue_wait_ms"]) == (2, 0)


@requirement("scheduler.retry.transient_only")
async def test_a_run_gives_up_after_its_last_retry() -> None:
    stage, session_id, job_id = await one_run()
    for attempt in range(1, 5):
        assert (stage.running(), stage.job(job_id).attempt) == ([job_id], attempt)
        await stage.batch(stage.failing(stage.ticket(job_id), error=ProviderTimeout(job_id=job_id)))
        stage.clock.advance(100_000_000)
        await stage.look()
    job, session = stage.job(job_id), stage.session(session_id)
    assert (job.state, job.reason, job.error_code) == (JobState.FAILED, "status_503", "HSK-504-PROVIDER-TIMEOUT")
    assert (session.state, session.last_error) == (SessionState.IDLE, "HSK-504-PROVIDER-TIMEOUT")
    assert [event["error_code"] for event in inferences(stage, job_id)] == ["HSK-504-PROVIDER-TIMEOUT"] * 4


@requirement("scheduler.retry.transient_only")
@pytest.mark.parametrize("fault", [FINAL, Fault(FaultKind.GARBAGE), Fault(FaultKind.TOO_LARGE), None])
async def test_a_final_fault_or_a_refusal_ends_the_job_at_once(fault: Fault | None) -> None:
    stage, session_id, job_id = await one_run()
    (ended,) = await stage.batch(stage.failing(stage.ticket(job_id), fault))
    assert ended == Ended(JobState.FAILED, True)
    job = stage.job(job_id)
    assert (job.state, job.reason, job.attempt) == (JobState.FAILED, told_of(fault), 1)
    assert stage.session(session_id).state is SessionState.IDLE
    again = await stage.send(session_id, "next")
    assert stage.running() == [again]
    await stage.batch(stage.finishing(stage.ticket(again)))
    assert stage.session(session_id).last_error is None


def told_of(fault: Fault | None) -> str:
    if fault is None:
        return "refused"
    return fault.kind.value if fault.status is None else f"status_{fault.status}"


@requirement("scheduler.retry.not_after_bytes")
async def test_after_text_was_handed_on_the_run_fails_and_keeps_what_came() -> None:
    stage, _, job_id = await one_run()
    (ended,) = await stage.batch(stage.failing(stage.ticket(job_id), RESET_AFTER_TEXT, partial="Once upon"))
    assert ended == Ended(JobState.FAILED, True)
    assert left_by(stage, job_id) == [(1, PARTIAL, b"Once upon")]
    assert [message.role for message in stage.check().messages] == ["USER"]


@requirement("session.state.terminal_is_sticky", "scheduler.cancel.is_deterministic")
@pytest.mark.parametrize("outcome", ["finishing", "failing", "handing_back", "releasing"])
async def test_an_outcome_behind_a_cancel_is_late(outcome: str) -> None:
    stage, session_id, job_id = await one_run()
    ticket = stage.ticket(job_id)
    late = getattr(stage, outcome)(ticket)
    cancelled, ended = await stage.batch(stage.cancelling(job_id), late)
    assert (cancelled.cancelled, cancelled.may_have_left, cancelled.open_attempt) == (True, True, 1)
    assert ended == Ended(JobState.CANCELLED, False)
    job = stage.job(job_id)
    assert (job.state, job.reason, job.holds_slot) == (JobState.CANCELLED, "test", False)
    assert stage.session(session_id).state is SessionState.IDLE
    assert left_by(stage, job_id) == ([(1, LATE, b"Answer")] if outcome == "finishing" else [])
    assert inferences(stage, job_id) == []
    assert [message.role for message in stage.check().messages] == ["USER"]


@requirement("session.state.terminal_is_sticky")
async def test_an_outcome_counts_once() -> None:
    stage, _, job_id = await one_run()
    ticket = stage.ticket(job_id)
    results = await stage.batch(
        stage.finishing(ticket, "first"), stage.finishing(ticket, "second"), stage.failing(ticket, FINAL)
    )
    assert [result.counted for result in results] == [True, False, False]
    assert stage.job(job_id).state is JobState.COMPLETED
    assert len(stage.check().messages) == 2


@pytest.mark.parametrize("outcome", ["finishing", "failing", "handing_back", "releasing"])
async def test_an_outcome_of_an_earlier_attempt_is_late(outcome: str) -> None:
    stage, _, job_id = await one_run()
    first = stage.ticket(job_id)
    await stage.batch(stage.failing(first))
    stage.clock.advance(10_000_000)
    await stage.look()
    (ended,) = await stage.batch(getattr(stage, outcome)(first))
    assert ended == Ended(JobState.RUNNING, False)
    assert stage.running() == [job_id]
    assert stage.job(job_id).holds_slot


@pytest.mark.parametrize("outcome", ["finishing", "releasing"])
async def test_an_outcome_of_a_dead_runtime_is_late(outcome: str) -> None:
    stage, _, job_id = await one_run()
    old, epoch = stage.ticket(job_id), stage.epoch
    await stage.begin()
    assert stage.job(job_id).attempt == 2
    unit = stage.finishing(old, "late", epoch=epoch) if outcome == "finishing" else stage.releasing(old, "late")
    (ended,) = await stage.batch(unit)
    assert ended == Ended(JobState.RUNNING, False)
    assert left_by(stage, job_id) == [(1, LATE, b"late")]
    await stage.batch(stage.finishing(stage.ticket(job_id), "in time"))
    assert stage.job(job_id).state is JobState.COMPLETED


async def test_a_ticket_that_names_the_present_attempt_of_another_epoch_is_late() -> None:
    stage, _, job_id = await one_run()
    (ended,) = await stage.batch(stage.finishing(stage.ticket(job_id), epoch=stage.epoch - 1))
    assert ended == Ended(JobState.RUNNING, False)
    assert stage.running() == [job_id]


async def test_a_run_that_is_still_running_keeps_its_slot_whoever_releases_it() -> None:
    stage, _, job_id = await one_run(settings_of(each=1))
    await stage.batch(stage.releasing(stage.ticket(job_id)))
    assert stage.job(job_id).holds_slot
    assert stage.queue.usage.largest() == {"desk": 1}


@requirement("session.pause.keeps_queue")
async def test_a_run_that_is_handed_back_is_queued_at_once_and_its_attempt_counts() -> None:
    stage, session_id, job_id = await one_run()
    await stage.dispatcher.close(0, before_cut=lambda: None)
    (ended,) = await stage.batch(stage.handing_back(stage.ticket(job_id), "half"))
    assert ended == Ended(JobState.QUEUED, True, 0)
    job = stage.job(job_id)
    assert (job.state, job.attempt, job.not_before_us, job.holds_slot) == (JobState.QUEUED, 1, 0, False)
    assert stage.session(session_id).state is SessionState.IDLE
    assert left_by(stage, job_id) == [(1, PARTIAL, b"half")]
    (told,) = [event.payload for event in stage.check().of("session_scheduler.retry")]
    assert (told["fault"], told["backoff_ms"]) == ("stopped", 0)
    await stage.begin()
    assert (stage.running(), stage.job(job_id).attempt) == ([job_id], 2)


@requirement("scheduler.limit.is_never_exceeded")
async def test_provider_slots_stay_taken_until_the_connection_is_closed() -> None:
    stage = await Stage.open(settings_of(each=1))
    first, second = await stage.create(), await stage.create()
    running, waiting = await stage.send(first), await stage.send(second)
    ticket = stage.ticket(running)
    await stage.batch(stage.cancelling(running))
    assert stage.running() == []
    assert stage.session(first).state is SessionState.IDLE
    await stage.batch(stage.releasing(ticket), stage.releasing(ticket))
    assert stage.running() == [waiting]


async def test_what_an_attempt_left_is_kept_once() -> None:
    stage, _, job_id = await one_run()
    ticket = stage.ticket(job_id)
    await stage.batch(stage.cancelling(job_id), stage.releasing(ticket, "cut"), stage.releasing(ticket, "cut again"))
    assert left_by(stage, job_id) == [(1, LATE, b"cut")]


async def test_the_same_bytes_are_one_artifact() -> None:
    stage, session_id, job_id = await one_run()
    await stage.batch(stage.finishing(stage.ticket(job_id), "Hello"))
    found = stage.check()
    assert {message.content_artifact_id for message in found.messages} == {content_of(b"Hello").artifact_id}
    text = stage.store.read_now(lambda reader: reader.artifact(ArtifactId(found.messages[0].content_artifact_id)))
    assert text == b"Hello"
    assert stage.session(session_id).thread_bytes == 10


async def test_a_ticket_of_no_job_is_a_bug() -> None:
    stage, session_id, job_id = await one_run()
    ticket = stage.ticket(job_id)
    nobody = RunTicket(JobId(session_id), session_id, 1, ticket.provider_id, ticket.model_id)
    (failure,) = await stage.batch(stage.finishing(nobody, usage=USAGE))
    assert isinstance(failure, AssertionError)
    assert stage.running() == [job_id]
