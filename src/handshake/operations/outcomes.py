"""Outcomes: what came of a run's attempt; each function is one unit of work.

An outcome counts only for the attempt and runtime that the row still names. What comes late is kept as an
artifact of a discarded attempt and changes no state.

Source:
    session.state.terminal_is_sticky, scheduler.retry.*, recovery.lease.late_result_is_fenced (01 §4–6).
"""

from __future__ import annotations

from typing import Any

import msgspec

from handshake.kernel.catalogue import LlmInference, SchedulerRetry, SessionStateChange, TokenFigures
from handshake.kernel.errors import HandshakeError
from handshake.kernel.event import Context
from handshake.kernel.ids import MessageId
from handshake.kernel.job import JobState, RunTicket, move
from handshake.kernel.lane import Lane
from handshake.kernel.limit import SlotKey
from handshake.kernel.message import MessageRole, SourceKind
from handshake.kernel.queue import RunQueue
from handshake.kernel.queued_run import QueuedRun
from handshake.kernel.retry import Backoff, Fault, FaultKind, RetryAt, decide
from handshake.kernel.session import Ending, Facts, SessionState, derive
from handshake.kernel.units import US_PER_MS
from handshake.kernel.usage import TokenUsage
from handshake.operations.runs import append_message, require_one
from handshake.ports.store import Content, Tx

KNOWN_FINISHES = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
"""Finish reasons that are told as they are; a provider's own word is told as `other`."""

LATE = "late_answer"
PARTIAL = "partial_answer"
PROVIDER_ERROR = "provider_error"


class Timing(msgspec.Struct, frozen=True, gc=False):
    """How long an attempt took, in milliseconds of the monotonic clock."""

    latency_ms: int
    first_token_ms: int | None


class Answer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A model's whole answer; `prompt_hash` is the SHA-256 of the request's bytes."""

    message_id: MessageId
    content: Content
    prompt_hash: str
    finish_reason: str | None
    usage: TokenUsage | None
    timing: Timing


class Failure(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An attempt without a whole answer: a provider's fault, or a refusal before anything was sent."""

    error: HandshakeError
    fault: Fault | None
    prompt_hash: str
    partial: Content | None
    provider_body: Content | None
    timing: Timing


class Ended(msgspec.Struct, frozen=True, gc=False):
    """Where the job stands after an outcome; `counted` is False if the outcome came late."""

    state: JobState
    counted: bool
    retry_ms: int | None = None


class _Attempt(msgspec.Struct, frozen=True, gc=False):
    """The row of a job as an outcome needs it."""

    state: str
    attempt: int
    runtime_epoch: int
    turn_id: str
    turn_seq: int
    trace_id: str
    wp_id: str | None
    mt_id: str | None
    lane: str
    priority: int
    provider_id: str
    model_id: str
    concurrency_group: str | None
    fairness_key: str
    enqueue_seq: int
    created_at_us: int
    started_at_us: int
    max_retries: int
    retry_backoff: str
    holds_slot: int
    failures: int

    @property
    def key(self) -> SlotKey:
        return SlotKey(self.provider_id, self.model_id, self.concurrency_group)

    def context(self, ticket: RunTicket) -> Context:
        return Context(
            job_id=ticket.job_id,
            model_id=self.model_id,
            model_session_id=ticket.session_id,
            mt_id=self.mt_id,
            trace_id=self.trace_id,
            wp_id=self.wp_id,
        )


def finish(tx: Tx, queue: RunQueue, ticket: RunTicket, answer: Answer, *, epoch: int) -> Ended:
    """Record an answer: message, usage, state of job and session, in one commit."""
    row = _attempt(tx, ticket)
    if not _counts(row, ticket, epoch):
        return _discard(tx, queue, ticket, row, answer.content, LATE)
    filtered = answer.finish_reason == "content_filter"
    state = JobState.COMPLETED_WITH_ISSUES if filtered else JobState.COMPLETED
    usage = answer.usage or TokenUsage()
    context = row.context(ticket)
    next_seq, after = _session_after(tx, ticket)
    append_message(
        tx,
        context,
        answer.content,
        message_id=answer.message_id,
        seq=next_seq,
        turn_id=row.turn_id,
        turn_seq=row.turn_seq,
        role=MessageRole.ASSISTANT,
        source_kind=SourceKind.MODEL,
        trusted=True,
        token_count=usage.completion_tokens,
    )
    changed = tx.run(
        "job_answered",
        {
            "job_id": ticket.job_id,
            "state": move(ticket.job_id, JobState.RUNNING, state),
            "now_us": tx.now_us,
            "reason": None if answer.finish_reason == "stop" else _known_finish(answer.finish_reason),
            "error_code": None,
            "prompt_hash": answer.prompt_hash,
            "answer_message_id": answer.message_id,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.total_tokens,
            "attempt": ticket.attempt,
            "epoch": epoch,
        },
    )
    require_one(changed, ticket.session_id)
    _settle_session(
        tx, ticket, after, next_seq=next_seq + 1, size=answer.content.size_bytes, tokens=usage.total_tokens or 0
    )
    tx.append(
        _inference(ticket, row, answer.prompt_hash, answer.timing, after, answer=answer),
        context,
    )
    queue.free_connection(row.key)
    queue.vacate(ticket.session_id, Lane(row.lane))
    return Ended(state, True)


def fail(tx: Tx, queue: RunQueue, ticket: RunTicket, failure: Failure, *, epoch: int) -> Ended:
    """Record an attempt that failed: queued again if the fault passes, else the end of the job."""
    row = _attempt(tx, ticket)
    if not _counts(row, ticket, epoch):
        return _discard(tx, queue, ticket, row, failure.partial, LATE)
    verdict = None
    if failure.fault is not None:
        verdict = decide(
            failure.fault,
            job_id=ticket.job_id,
            attempt=row.failures + 1,
            max_retries=row.max_retries,
            backoff=Backoff(row.retry_backoff),
        )
    _keep(tx, ticket, PARTIAL, failure.partial)
    _keep(tx, ticket, PROVIDER_ERROR, failure.provider_body)
    next_seq, after = _session_after(tx, ticket)
    context = row.context(ticket)
    tx.append(
        _inference(ticket, row, failure.prompt_hash, failure.timing, after, error_code=failure.error.code), context
    )
    if isinstance(verdict, RetryAt):
        assert failure.fault is not None, "a verdict comes from a fault"
        not_before_us = tx.now_us + verdict.backoff_ms * US_PER_MS
        _requeue(tx, ticket, after, next_seq, not_before_us=not_before_us, failures=row.failures + 1)
        tx.append(_retry_event(ticket, failure.fault, verdict.backoff_ms), context)
        _requeue_in_index(queue, ticket, row, not_before_us=not_before_us)
        return Ended(JobState.QUEUED, True, verdict.backoff_ms)
    changed = tx.run(
        "job_answered",
        {
            "job_id": ticket.job_id,
            "state": move(ticket.job_id, JobState.RUNNING, JobState.FAILED),
            "now_us": tx.now_us,
            "reason": _reason_of(failure.fault),
            "error_code": failure.error.code,
            "prompt_hash": failure.prompt_hash,
            "answer_message_id": None,
            "prompt_tokens": None,
            "completion_tokens": None,
            "total_tokens": None,
            "attempt": ticket.attempt,
            "epoch": epoch,
        },
    )
    require_one(changed, ticket.session_id)
    _settle_session(tx, ticket, after, next_seq=next_seq, size=0, tokens=0, last_error=failure.error.code)
    queue.free_connection(row.key)
    queue.vacate(ticket.session_id, Lane(row.lane))
    return Ended(JobState.FAILED, True)


def hand_back(tx: Tx, queue: RunQueue, ticket: RunTicket, partial: Content | None, *, epoch: int) -> Ended:
    """Queue a run again whose attempt a stopping runtime has cut; nobody else's fault, so no backoff."""
    row = _attempt(tx, ticket)
    if not _counts(row, ticket, epoch):
        return _discard(tx, queue, ticket, row, partial, LATE)
    _keep(tx, ticket, PARTIAL, partial)
    next_seq, after = _session_after(tx, ticket)
    _requeue(tx, ticket, after, next_seq, not_before_us=0, failures=row.failures)
    context = row.context(ticket)
    tx.append(_retry_event(ticket, Fault(FaultKind.STOPPED), 0), context)
    tx.append(
        SessionStateChange(
            from_state=SessionState.ACTIVE, reason="handed_back", session_id=ticket.session_id, to_state=after
        ),
        context,
    )
    _requeue_in_index(queue, ticket, row, not_before_us=0)
    return Ended(JobState.QUEUED, True, 0)


def release(tx: Tx, queue: RunQueue, ticket: RunTicket, partial: Content | None) -> Ended:
    """Free the provider slots of a cancelled attempt whose connection is confirmed closed."""
    return _discard(tx, queue, ticket, _attempt(tx, ticket), partial, LATE)


def _attempt(tx: Tx, ticket: RunTicket) -> _Attempt:
    row = tx.row("job_attempt", {"job_id": ticket.job_id})
    assert row is not None, "jobs are never deleted"
    values: tuple[Any, ...] = row
    return _Attempt(*values)


def _counts(row: _Attempt, ticket: RunTicket, epoch: int) -> bool:
    return row.state == JobState.RUNNING and row.attempt == ticket.attempt and row.runtime_epoch == epoch


def _discard(tx: Tx, queue: RunQueue, ticket: RunTicket, row: _Attempt, content: Content | None, kind: str) -> Ended:
    _keep(tx, ticket, kind, content)
    attempt = {"job_id": ticket.job_id, "attempt": ticket.attempt}
    if tx.run("job_release", attempt) or tx.run("connection_closed", attempt):
        queue.free_connection(row.key)
    return Ended(JobState(row.state), False)


def _keep(tx: Tx, ticket: RunTicket, kind: str, content: Content | None) -> None:
    if content is None or content.size_bytes == 0:
        return
    tx.put(content)
    tx.run(
        "job_artifact_put",
        {
            "job_id": ticket.job_id,
            "attempt": ticket.attempt,
            "kind": kind,
            "artifact_id": content.artifact_id,
            "created_at_us": tx.now_us,
        },
    )


def _session_after(tx: Tx, ticket: RunTicket) -> tuple[int, SessionState]:
    """Return the session's next message number, and its state once this run is over."""
    row = tx.row("session_outcome_facts", {"session_id": ticket.session_id})
    assert row is not None, "sessions are never deleted"
    values: tuple[Any, ...] = row
    ending, _, waiting, blockers, paused, _, next_seq = values
    after = derive(Facts(Ending(ending), 0, waiting, blockers, bool(paused), dispatched=True))
    return next_seq, after


def _settle_session(
    tx: Tx,
    ticket: RunTicket,
    after: SessionState,
    *,
    next_seq: int,
    size: int,
    tokens: int,
    last_error: str | None = None,
) -> None:
    changed = tx.run(
        "session_answered",
        {
            "session_id": ticket.session_id,
            "state": after,
            "next_seq": next_seq,
            "bytes": size,
            "tokens": tokens,
            "last_error": last_error,
            "now_us": tx.now_us,
        },
    )
    require_one(changed, ticket.session_id)


def _requeue(
    tx: Tx, ticket: RunTicket, after: SessionState, next_seq: int, *, not_before_us: int, failures: int
) -> None:
    changed = tx.run(
        "job_requeue",
        {
            "job_id": ticket.job_id,
            "before": JobState.RUNNING,
            "after": move(ticket.job_id, JobState.RUNNING, JobState.QUEUED),
            "not_before_us": not_before_us,
            "wait_reason": "backoff" if not_before_us else None,
            "failures": failures,
            "recoveries": 0,
        },
    )
    require_one(changed, ticket.session_id)
    _settle_session(tx, ticket, after, next_seq=next_seq, size=0, tokens=0)


def _requeue_in_index(queue: RunQueue, ticket: RunTicket, row: _Attempt, *, not_before_us: int) -> None:
    queue.free_connection(row.key)
    queue.add(
        QueuedRun(
            ticket.job_id,
            ticket.session_id,
            row.enqueue_seq,
            row.turn_seq,
            Lane(row.lane),
            row.priority,
            row.key,
            row.fairness_key,
            ticket.attempt,
            row.created_at_us,
            not_before_us,
            row.trace_id,
            row.wp_id,
            row.mt_id,
        )
    )
    queue.vacate(ticket.session_id, Lane(row.lane))


def _retry_event(ticket: RunTicket, fault: Fault, backoff_ms: int) -> SchedulerRetry:
    return SchedulerRetry(
        attempt=ticket.attempt,
        backoff_ms=backoff_ms,
        fault=fault.kind,
        job_id=ticket.job_id,
        session_id=ticket.session_id,
        status=fault.status,
    )


def _inference(
    ticket: RunTicket,
    row: _Attempt,
    prompt_hash: str,
    timing: Timing,
    after: SessionState,
    *,
    answer: Answer | None = None,
    error_code: str | None = None,
) -> LlmInference:
    usage = answer.usage if answer else None
    finish_reason = _known_finish(answer.finish_reason) if answer else None
    return LlmInference(
        attempt=ticket.attempt,
        error_code=error_code,
        finish_reason=finish_reason,
        latency_ms=timing.latency_ms,
        model_id=row.model_id,
        prompt_hash=prompt_hash,
        response_hash=answer.content.artifact_id if answer else None,
        session_state_after=after,
        time_to_first_token_ms=timing.first_token_ms,
        token_usage=None
        if usage is None
        else TokenFigures(
            completion_tokens=usage.completion_tokens,
            prompt_tokens=usage.prompt_tokens,
            total_tokens=usage.total_tokens,
        ),
        trace_id=row.trace_id,
    )


def _known_finish(word: str | None) -> str | None:
    return word if word is None or word in KNOWN_FINISHES else "other"


def _reason_of(fault: Fault | None) -> str:
    """Return why a job failed, as a token: the kind of fault, and the status if it was one."""
    if fault is None:
        return "refused"
    return f"status_{fault.status}" if fault.kind is FaultKind.STATUS and fault.status else fault.kind.value
