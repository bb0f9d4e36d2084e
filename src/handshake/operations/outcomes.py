"""Outcomes: what came of a run's attempt; each function is one unit of work.

An outcome counts only for the attempt and runtime that the row still names. What comes late is kept as an
artifact of a discarded attempt and changes no state.

Source:
    session.state.terminal_is_sticky, scheduler.retry.*, recovery.lease.late_result_is_fenced (01 §4–6).
"""

from __future__ import annotations

import msgspec

from handshake.kernel.budget import BYTES_PER_TOKEN, Settled
from handshake.kernel.catalogue import (
    LlmInference,
    SchedulerRateLimited,
    SchedulerRetry,
    SessionStateChange,
    TokenFigures,
)
from handshake.kernel.errors import HandshakeError, Refused, Request
from handshake.kernel.ids import MessageId
from handshake.kernel.job import JobState, RunTicket, move
from handshake.kernel.lane import Lane
from handshake.kernel.message import MessageRole, SourceKind
from handshake.kernel.queue import RunQueue
from handshake.kernel.queued_run import QueuedRun
from handshake.kernel.retry import Backoff, Fault, FaultKind, GiveUp, Reach, RetryAt, closure_ms, decide
from handshake.kernel.session import SessionState
from handshake.kernel.session_checkpoint import Trigger, due
from handshake.kernel.units import US_PER_MS
from handshake.kernel.usage import TokenUsage
from handshake.kernel.waiting import WaitReason
from handshake.operations import checkpointing, continuing
from handshake.operations.attempts import (
    Attempted,
    Ended,
    attempted,
    columns,
    counts,
    discard,
    judged,
    keep,
    settle_in_index,
)
from handshake.operations.continuing import Following
from handshake.operations.runs import append_message, require_one
from handshake.ports.store import Content, Tx

KNOWN_FINISHES = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
"""Finish reasons that are told as they are; a provider's own word is told as `other`."""

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
    tried: bool = True
    """Whether the call was opened, so that a connection may have been tried."""

    @property
    def reach(self) -> Reach:
        """How far the attempt came; a refusal by policy or form comes before any byte of the request."""
        if not self.tried:
            return Reach.NOTHING
        if self.fault is not None:
            return self.fault.reach
        return Reach.ENDPOINT if isinstance(self.error, Refused | Request) else Reach.SENT


def finish(
    tx: Tx, queue: RunQueue, ticket: RunTicket, answer: Answer, *, epoch: int, following: Following | None = None
) -> Ended:
    """Record an answer: message, usage, states, and the run that goes on with the turn, all in one commit."""
    row = attempted(tx, ticket)
    settled = judged(queue, row, answer.usage, Reach.SENT)
    if not counts(row, ticket, epoch):
        return discard(tx, queue, ticket, row, answer.content, settled, Reach.SENT)
    stopped = following is not None and not continuing.may_follow(row)
    issues = stopped or answer.finish_reason == "content_filter"
    state = JobState.COMPLETED_WITH_ISSUES if issues else JobState.COMPLETED
    usage = answer.usage or TokenUsage()
    context = row.context(ticket)
    next_seq, after = row.next_seq, row.session_after
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
        trusted=not row.tainted,
        token_count=usage.completion_tokens,
    )
    _end_job(
        tx,
        ticket,
        state,
        settled,
        epoch=epoch,
        prompt_hash=answer.prompt_hash,
        reason=continuing.TURN_TOO_LONG if stopped else _reason_to_tell(answer.finish_reason),
        answer=answer,
    )
    streamed = streamed_by(answer)
    trigger = _due(row, after, messages=1, streamed=streamed)
    _settle_session(
        tx,
        ticket,
        after,
        settled,
        next_seq=next_seq + 1,
        said=1,
        size=answer.content.size_bytes,
        tokens=usage.total_tokens or 0,
        streamed=streamed,
        trigger=trigger,
    )
    tx.append(
        inference(ticket, row, answer.prompt_hash, answer.timing, after, answer=answer),
        context,
    )
    checkpointing.tell(tx, context, row.checkpoint_count, trigger)
    next_run = None if following is None or stopped else continuing.insert(tx, queue, ticket, row, following)
    settle_in_index(queue, ticket, row, settled, Reach.SENT)
    queue.free_connection(row.key)
    if next_run is not None:
        queue.add(next_run)
    queue.vacate(ticket.session_id, Lane(row.lane))
    return Ended(state, True)


def fail(tx: Tx, queue: RunQueue, ticket: RunTicket, failure: Failure, *, epoch: int) -> Ended:
    """Record an attempt that failed: queued again if the fault passes, else the end of the job."""
    row = attempted(tx, ticket)
    reach = failure.reach
    settled = judged(queue, row, None, reach)
    if not counts(row, ticket, epoch):
        return discard(tx, queue, ticket, row, failure.partial, settled, reach)
    verdict, closed_ms = _verdict(ticket, row, failure.fault)
    keep(tx, ticket, PARTIAL, failure.partial)
    keep(tx, ticket, PROVIDER_ERROR, failure.provider_body)
    next_seq, after = row.next_seq, row.session_after
    context = row.context(ticket)
    tx.append(
        inference(ticket, row, failure.prompt_hash, failure.timing, after, error_code=failure.error.code), context
    )
    if closed_ms is not None:
        tx.append(_limit_event(ticket, closed_ms), context)
    trigger = _due(row, after)
    checkpointing.tell(tx, context, row.checkpoint_count, trigger)
    if isinstance(verdict, RetryAt):
        assert failure.fault is not None, "a verdict comes from a fault"
        waits = _Waits(
            tx.now_us + verdict.backoff_ms * US_PER_MS,
            WaitReason.BACKOFF if closed_ms is None else WaitReason.RATE_LIMIT,
            row.failures + 1,
        )
        _requeue(tx, ticket, after, settled, next_seq, waits, trigger)
        tx.append(_retry_event(ticket, failure.fault, verdict.backoff_ms), context)
        settle_in_index(queue, ticket, row, settled, reach, closed_ms)
        _requeue_in_index(queue, ticket, row, waits)
        return Ended(JobState.QUEUED, True, verdict.backoff_ms)
    _end_job(
        tx,
        ticket,
        JobState.FAILED,
        settled,
        epoch=epoch,
        prompt_hash=failure.prompt_hash,
        reason=_reason_of(failure.fault),
        error_code=failure.error.code,
    )
    _settle_session(tx, ticket, after, settled, next_seq=next_seq, last_error=failure.error.code, trigger=trigger)
    settle_in_index(queue, ticket, row, settled, reach, closed_ms)
    queue.free_connection(row.key)
    queue.vacate(ticket.session_id, Lane(row.lane))
    return Ended(JobState.FAILED, True)


def _verdict(ticket: RunTicket, row: Attempted, fault: Fault | None) -> tuple[RetryAt | GiveUp | None, int | None]:
    """Return what to do after a fault, and for how long it closes the provider; neither if a refusal was no fault."""
    if fault is None:
        return None, None
    failures, backoff = row.failures + 1, Backoff(row.retry_backoff)
    verdict = decide(fault, job_id=ticket.job_id, attempt=failures, max_retries=row.max_retries, backoff=backoff)
    return verdict, closure_ms(fault, job_id=ticket.job_id, attempt=failures, backoff=backoff)


def hand_back(
    tx: Tx, queue: RunQueue, ticket: RunTicket, partial: Content | None, *, epoch: int, reach: Reach = Reach.SENT
) -> Ended:
    """Queue a run again whose attempt a stopping runtime has cut; nobody else's fault, so no backoff."""
    row = attempted(tx, ticket)
    settled = judged(queue, row, None, reach)
    if not counts(row, ticket, epoch):
        return discard(tx, queue, ticket, row, partial, settled, reach)
    keep(tx, ticket, PARTIAL, partial)
    next_seq, after = row.next_seq, row.session_after
    waits = _Waits(0, None, row.failures)
    _requeue(tx, ticket, after, settled, next_seq, waits, Trigger.SHUTDOWN)
    context = row.context(ticket)
    checkpointing.tell(tx, context, row.checkpoint_count, Trigger.SHUTDOWN)
    tx.append(_retry_event(ticket, Fault(FaultKind.STOPPED), 0), context)
    tx.append(
        SessionStateChange(
            from_state=SessionState.ACTIVE, reason="handed_back", session_id=ticket.session_id, to_state=after
        ),
        context,
    )
    settle_in_index(queue, ticket, row, settled, reach)
    _requeue_in_index(queue, ticket, row, waits)
    return Ended(JobState.QUEUED, True, 0)


def release(tx: Tx, queue: RunQueue, ticket: RunTicket, partial: Content | None, *, reach: Reach = Reach.SENT) -> Ended:
    """Free the provider slots of a cancelled attempt whose connection is confirmed closed, and what it had reserved."""
    row = attempted(tx, ticket)
    return discard(tx, queue, ticket, row, partial, judged(queue, row, None, reach), reach)


def _end_job(
    tx: Tx,
    ticket: RunTicket,
    state: JobState,
    settled: Settled,
    *,
    epoch: int,
    prompt_hash: str,
    reason: str | None,
    error_code: str | None = None,
    answer: Answer | None = None,
) -> None:
    usage = (answer.usage if answer else None) or TokenUsage()
    changed = tx.run(
        "job_answered",
        {
            "job_id": ticket.job_id,
            "state": move(ticket.job_id, JobState.RUNNING, state),
            "now_us": tx.now_us,
            "reason": reason,
            "error_code": error_code,
            "prompt_hash": prompt_hash,
            "answer_message_id": answer.message_id if answer else None,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.total_tokens,
            "attempt": ticket.attempt,
            "epoch": epoch,
            **columns(settled),
        },
    )
    require_one(changed, ticket.session_id)


def _settle_session(
    tx: Tx,
    ticket: RunTicket,
    after: SessionState,
    settled: Settled,
    *,
    next_seq: int,
    said: int = 0,
    size: int = 0,
    tokens: int = 0,
    streamed: int = 0,
    last_error: str | None = None,
    trigger: Trigger | None = None,
) -> None:
    changed = tx.run(
        "session_answered" if trigger is None else "session_answered_marked",
        {
            "session_id": ticket.session_id,
            "state": after,
            "next_seq": next_seq,
            "said": said,
            "bytes": size,
            "tokens": tokens,
            "streamed": streamed,
            "last_error": last_error,
            "now_us": tx.now_us,
            "trigger": trigger,
            **columns(settled),
        },
    )
    require_one(changed, ticket.session_id)


class _Waits(msgspec.Struct, frozen=True, gc=False):
    """Until when a run waits that is queued again, and why, and how many of its attempts have failed."""

    not_before_us: int
    reason: WaitReason | None
    failures: int


def _requeue(
    tx: Tx,
    ticket: RunTicket,
    after: SessionState,
    settled: Settled,
    next_seq: int,
    waits: _Waits,
    trigger: Trigger | None,
) -> None:
    changed = tx.run(
        "job_requeue",
        {
            "job_id": ticket.job_id,
            "before": JobState.RUNNING,
            "after": move(ticket.job_id, JobState.RUNNING, JobState.QUEUED),
            "not_before_us": waits.not_before_us,
            "wait_reason": waits.reason,
            "failures": waits.failures,
            "recoveries": 0,
        },
    )
    require_one(changed, ticket.session_id)
    tx.run("job_settle", {"job_id": ticket.job_id, **columns(settled)})
    _settle_session(tx, ticket, after, settled, next_seq=next_seq, trigger=trigger)


def _due(row: Attempted, after: SessionState, *, messages: int = 0, streamed: int = 0) -> Trigger | None:
    """Return why a checkpoint is due with an outcome that adds so many messages and tokens, if it is."""
    since = row.next_seq - 1 - row.checkpoint_seq
    return due(after, messages=since + messages, tokens=row.streamed_tokens + streamed)


def streamed_by(answer: Answer) -> int:
    """Return how many tokens an answer has, as reported or else as its size tells."""
    reported = answer.usage.completion_tokens if answer.usage else None
    return answer.content.size_bytes // BYTES_PER_TOKEN if reported is None else reported


def _requeue_in_index(queue: RunQueue, ticket: RunTicket, row: Attempted, waits: _Waits) -> None:
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
            waits.not_before_us,
            row.trace_id,
            row.wp_id,
            row.mt_id,
            row.estimated_tokens,
            row.estimated_cost_usd_micro,
            waits.reason is WaitReason.RATE_LIMIT,
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


def _limit_event(ticket: RunTicket, closed_ms: int) -> SchedulerRateLimited:
    return SchedulerRateLimited(
        attempt=ticket.attempt,
        backoff_ms=closed_ms,
        job_id=ticket.job_id,
        provider=ticket.provider_id,
        session_id=ticket.session_id,
    )


def inference(
    ticket: RunTicket,
    row: Attempted,
    prompt_hash: str,
    timing: Timing,
    after: SessionState,
    *,
    answer: Answer | None = None,
    error_code: str | None = None,
) -> LlmInference:
    """Return the event of an attempt of a model call that ended; `after` is the session's state from then on."""
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


def _reason_to_tell(finish_reason: str | None) -> str | None:
    return None if finish_reason == "stop" else _known_finish(finish_reason)


def _known_finish(word: str | None) -> str | None:
    return word if word is None or word in KNOWN_FINISHES else "other"


def _reason_of(fault: Fault | None) -> str:
    """Return why a job failed, as a token: the kind of fault, and the status if it was one."""
    if fault is None:
        return "refused"
    return f"status_{fault.status}" if fault.kind is FaultKind.STATUS and fault.status else fault.kind.value
