"""Tool steps: a run whose model asked for tools: its calls in its thread, what each gave, and how the turn goes on.

Each function is a unit of work or a step of one. Between two of them nothing is remembered but rows, so a run goes on
after a crash, or after a person's answer, where it stood.

Source:
    gate.result.correlated, scheduler.session.head_only, recovery.checkpoint.points (01 §4, §8).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from handshake.kernel.asked_call import AskedCall
from handshake.kernel.catalogue import SchedulerEnded, TurnTainted
from handshake.kernel.errors import IntegrityBroken
from handshake.kernel.event import Actor, Context
from handshake.kernel.ids import ArtifactId, MessageId
from handshake.kernel.job import Job, JobState, RunTicket, move
from handshake.kernel.lane import Lane
from handshake.kernel.message import MessageRole, SourceKind
from handshake.kernel.queue import RunQueue
from handshake.kernel.queued_run import QueuedRun
from handshake.kernel.retry import Reach
from handshake.kernel.session import Facts, SessionState, may_dispatch
from handshake.kernel.session_checkpoint import Trigger
from handshake.kernel.tool_call import ToolCallRecord
from handshake.kernel.tool_message import CalledTool, read_call
from handshake.kernel.usage import TokenUsage
from handshake.operations import call_ends, checkpointing, continuing, outcomes, records, stalling, tool_calls
from handshake.operations.attempts import (
    Attempted,
    Ended,
    attempted,
    columns,
    counts,
    discard,
    judged,
    settle_in_index,
)
from handshake.operations.continuing import Following
from handshake.operations.outcomes import Answer
from handshake.operations.runs import append_message, require_one
from handshake.ports.store import Content, Reader, Tx

TOOLS_DONE = "tools_done"
"""Why a run ended whose calls have all ended: another one goes on with its turn."""
TOOLS_FAILED = "tools_failed"
"""Why a run failed at its tools."""
TOOL_APPROVAL = "tool_approval"
"""Why a run waits for a person."""


class WantedCall(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A call that a model asked for, with what its rows will hold."""

    message_id: MessageId
    content: Content
    """Of the TOOL_CALL message."""
    asked: AskedCall
    """The call as the gate reads it."""
    shown: Content | None
    """Its canonical arguments after redaction, or what the model wrote where that is no JSON."""


class Told(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the model is told of a call, as a TOOL_RESULT message with the id that it will have."""

    message_id: MessageId
    content: Content
    is_trusted: bool


def ask(
    tx: Tx, queue: RunQueue, ticket: RunTicket, answer: Answer, wanted: Sequence[WantedCall], *, epoch: int
) -> Ended:
    """Record an answer that asks for tools: message, calls and usage, in one commit; the run goes on at its tools.

    A turn that has had as many runs as it may ends here.
    """
    row = attempted(tx, ticket)
    settled = judged(queue, row, answer.usage, Reach.SENT)
    if not counts(row, ticket, epoch):
        return discard(tx, queue, ticket, row, answer.content, settled, Reach.SENT)
    if not continuing.may_follow(row):
        return outcomes.finish(tx, queue, ticket, answer, epoch=epoch, following=Following(ticket.job_id))
    context = row.context(ticket)
    usage = answer.usage or TokenUsage()
    said = _say(tx, context, row, answer, wanted, epoch=epoch)
    changed = tx.run(
        "job_asked_tools",
        {
            "job_id": ticket.job_id,
            "prompt_hash": answer.prompt_hash,
            "answer_message_id": answer.message_id,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.total_tokens,
            "attempt": ticket.attempt,
            "epoch": epoch,
            **columns(settled),
        },
    )
    require_one(changed, ticket.session_id)
    changed = tx.run(
        "session_asked_tools",
        {
            "session_id": ticket.session_id,
            "next_seq": row.next_seq + 1 + len(wanted),
            "said": 1 + len(wanted),
            "bytes": said,
            "tokens": usage.total_tokens or 0,
            "streamed": outcomes.streamed_by(answer),
            "now_us": tx.now_us,
            **columns(settled),
        },
    )
    require_one(changed, ticket.session_id)
    tx.append(
        outcomes.inference(ticket, row, answer.prompt_hash, answer.timing, SessionState.ACTIVE, answer=answer), context
    )
    settle_in_index(queue, ticket, row, settled, Reach.SENT)
    queue.free_connection(row.key)
    return Ended(JobState.RUNNING, True)


def tell(tx: Tx, queue: RunQueue, ticket: RunTicket, told: Told, *, epoch: int, following: Following) -> Ended:
    """Append what came of a call to the thread; if it was the last one, end the run and queue the one that goes on.

    It joins the commit that ends the call. Of an attempt that counts no more nothing is told.
    """
    row = attempted(tx, ticket)
    if not counts(row, ticket, epoch):
        return Ended(JobState(row.state), False)
    append_result(tx, row.context(ticket), row, told)
    mark(tx, row.context(ticket), row.checkpoint_count)
    if tool_calls.open_calls(tx, ticket.session_id, ticket.job_id):
        return Ended(JobState.RUNNING, True)
    return _go_on(tx, queue, ticket, row, following)


def go_on(tx: Tx, queue: RunQueue, ticket: RunTicket, *, epoch: int, following: Following) -> Ended:
    """End a run that has no open call left, and queue the one that goes on with the turn."""
    row = attempted(tx, ticket)
    if not counts(row, ticket, epoch):
        return Ended(JobState(row.state), False)
    return _go_on(tx, queue, ticket, row, following)


def _go_on(tx: Tx, queue: RunQueue, ticket: RunTicket, row: Attempted, following: Following) -> Ended:
    _, next_run = conclude(tx, queue, ticket, row, following, before=JobState.RUNNING)
    queue.vacate(ticket.session_id, Lane(row.lane))
    queue.add(next_run)
    return Ended(JobState.COMPLETED, True, goes_on=True)


def conclude(
    tx: Tx, queue: RunQueue, ticket: RunTicket, row: Attempted, following: Following, *, before: JobState
) -> tuple[Facts, QueuedRun]:
    """End a run whose calls have all ended, and insert the one that goes on; the caller tells the index.

    Returns:
        What the session's state then depends on, and the run that goes on.
    """
    state = move(ticket.job_id, before, JobState.COMPLETED)
    changed = tx.run(
        "job_concluded",
        {"job_id": ticket.job_id, "before": before, "state": state, "now_us": tx.now_us, "reason": TOOLS_DONE},
    )
    require_one(changed, ticket.session_id)
    context = row.context(ticket)
    tx.append(
        SchedulerEnded(job_id=ticket.job_id, reason=TOOLS_DONE, session_id=ticket.session_id, state=state), context
    )
    waiting = -1 if before is JobState.AWAITING_USER else 0
    facts = stalling.move_session(tx, context, running=0, waiting=waiting, reason=TOOLS_DONE, trigger=None)
    return facts, continuing.insert(tx, queue, ticket, row, following)


def wait_for_person(tx: Tx, queue: RunQueue, ticket: RunTicket, *, epoch: int) -> Ended:
    """Let a run wait whose call a person must approve: its slots are free, its session is BLOCKED.

    It joins the commit that puts the call on the desk.

    Source:
        02 §3 step 7.
    """
    row = attempted(tx, ticket)
    if not counts(row, ticket, epoch):
        return Ended(JobState(row.state), False)
    context = row.context(ticket)
    changed = tx.run(
        "job_move",
        {
            "job_id": ticket.job_id,
            "before": JobState.RUNNING,
            "after": move(ticket.job_id, JobState.RUNNING, JobState.AWAITING_USER),
            "reason": TOOL_APPROVAL,
            "not_before_us": 0,
            "wait_reason": None,
            "holds_slot": 0,
            "ended_at_us": None,
            "error_code": None,
        },
    )
    require_one(changed, ticket.session_id)
    stalling.move_session(tx, context, running=0, waiting=1, reason=TOOL_APPROVAL, trigger=Trigger.BLOCK)
    queue.vacate(ticket.session_id, Lane(row.lane))
    queue.hold(ticket.session_id)
    return Ended(JobState.AWAITING_USER, True)


def resume(tx: Tx, queue: RunQueue, job: Job, *, actor: Actor, reason: str) -> None:
    """Queue a run again whose call was approved or refused: it goes on at its tools, and its provider is not called."""
    changed = tx.run(
        "job_requeue",
        {
            "job_id": job.job_id,
            "before": job.state,
            "after": move(job.job_id, job.state, JobState.QUEUED),
            "not_before_us": 0,
            "wait_reason": None,
            "failures": job.failures,
            "recoveries": job.recoveries,
        },
    )
    require_one(changed, job.session_id)
    context = stalling.about(job, actor)
    facts = stalling.move_session(
        tx, context, running=0, waiting=-1, reason=reason, trigger=checkpointing.decided(context)
    )
    queue.add(stalling.queued_again(tx, job))
    if may_dispatch(facts):
        queue.unhold(job.session_id)


def fail(tx: Tx, queue: RunQueue, ticket: RunTicket, error_code: str, *, epoch: int) -> Ended:
    """End a run that cannot go on at its tools, because what is stored of them is broken."""
    row = attempted(tx, ticket)
    if not counts(row, ticket, epoch):
        return Ended(JobState(row.state), False)
    job, context = records.job(tx, ticket.job_id), row.context(ticket)
    changed = tx.run(
        "job_move",
        {
            "job_id": ticket.job_id,
            "before": JobState.RUNNING,
            "after": move(ticket.job_id, JobState.RUNNING, JobState.FAILED),
            "reason": TOOLS_FAILED,
            "not_before_us": 0,
            "wait_reason": None,
            "holds_slot": 0,
            "ended_at_us": tx.now_us,
            "error_code": error_code,
        },
    )
    require_one(changed, ticket.session_id)
    tx.append(
        SchedulerEnded(job_id=ticket.job_id, reason=TOOLS_FAILED, session_id=ticket.session_id, state=JobState.FAILED),
        context,
    )
    call_ends.end_calls(tx, job, context)
    stalling.move_session(tx, context, running=0, waiting=0, reason=TOOLS_FAILED, trigger=None)
    queue.vacate(ticket.session_id, Lane(row.lane))
    return Ended(JobState.FAILED, True)


def hand_back(tx: Tx, queue: RunQueue, ticket: RunTicket, *, epoch: int) -> Ended:
    """Queue a run again whose tools a stopping runtime has cut; it goes on with the calls that are open."""
    row = attempted(tx, ticket)
    if not counts(row, ticket, epoch):
        return Ended(JobState(row.state), False)
    job = records.job(tx, ticket.job_id)
    changed = tx.run(
        "job_requeue",
        {
            "job_id": ticket.job_id,
            "before": JobState.RUNNING,
            "after": move(ticket.job_id, JobState.RUNNING, JobState.QUEUED),
            "not_before_us": 0,
            "wait_reason": None,
            "failures": job.failures,
            "recoveries": 0,
        },
    )
    require_one(changed, ticket.session_id)
    stalling.move_session(tx, row.context(ticket), running=0, waiting=0, reason="handed_back", trigger=Trigger.SHUTDOWN)
    again = stalling.queued_again(tx, job)
    queue.add(again)
    queue.vacate(ticket.session_id, Lane(row.lane))
    return Ended(JobState.QUEUED, True, 0)


def append_result(tx: Tx, context: Context, row: Attempted, told: Told) -> None:
    """Append a TOOL_RESULT to the thread of a session; untrusted content taints the turn and all that follow."""
    taints = not told.is_trusted
    append_message(
        tx,
        context,
        told.content,
        message_id=told.message_id,
        seq=row.next_seq,
        turn_id=row.turn_id,
        turn_seq=row.turn_seq,
        role=MessageRole.TOOL_RESULT,
        source_kind=SourceKind.TOOL,
        trusted=told.is_trusted,
        token_count=None,
    )
    session_id = context.model_session_id or ""
    changed = tx.run(
        "session_told",
        {
            "session_id": session_id,
            "seq": row.next_seq,
            "bytes": told.content.size_bytes,
            "now_us": tx.now_us,
            "taints": int(taints),
        },
    )
    require_one(changed, session_id)
    if taints:
        tx.append(
            TurnTainted(
                content_hash=told.content.artifact_id,
                message_id=told.message_id,
                session_id=session_id,
                source_kind=SourceKind.TOOL.value,
                turn_id=row.turn_id,
            ),
            context,
        )


def written(reader: Reader, row: ToolCallRecord) -> CalledTool:
    """Return what a run's model wrote of a call, exactly; the call is known by the id of its message.

    Raises:
        IntegrityBroken: the thread does not hold it.
    """
    found: Any = reader.row("message_of_call", {"job_id": row.job_id, "message_id": row.tool_call_id})
    data = None if found is None else reader.artifact(ArtifactId(found[0]))
    if data is None:
        raise IntegrityBroken(subject="tool_call", reason="message_missing", call_seq=row.call_seq)
    return read_call(data.decode())


def content_of(data: bytes) -> Content:
    """Return small bytes as content that is stored in the row of its artifact."""
    return Content(ArtifactId(hashlib.sha256(data).hexdigest()), len(data), tool_calls.JSON, data)


def mark(tx: Tx, context: Context, made: int) -> None:
    """Mark a checkpoint after a completed call (01 §8)."""
    marked = {"session_id": context.model_session_id, "now_us": tx.now_us, "trigger": Trigger.TOOL_CALL}
    tx.run("session_marked", marked)
    checkpointing.tell(tx, context, made, Trigger.TOOL_CALL)


def _say(tx: Tx, context: Context, row: Attempted, answer: Answer, wanted: Sequence[WantedCall], *, epoch: int) -> int:
    """Append the answer and the calls in it to the thread, and the calls' own rows; return how many bytes were said."""
    usage = answer.usage or TokenUsage()
    trusted = not row.tainted
    append_message(
        tx,
        context,
        answer.content,
        message_id=answer.message_id,
        seq=row.next_seq,
        turn_id=row.turn_id,
        turn_seq=row.turn_seq,
        role=MessageRole.ASSISTANT,
        source_kind=SourceKind.MODEL,
        trusted=trusted,
        token_count=usage.completion_tokens,
    )
    for place, one in enumerate(wanted, start=1):
        append_message(
            tx,
            context,
            one.content,
            message_id=one.message_id,
            seq=row.next_seq + place,
            turn_id=row.turn_id,
            turn_seq=row.turn_seq,
            role=MessageRole.TOOL_CALL,
            source_kind=SourceKind.MODEL,
            trusted=trusted,
            token_count=None,
        )
        tool_calls.request(tx, one.asked, one.shown, epoch=epoch)
    return answer.content.size_bytes + sum(one.content.size_bytes for one in wanted)
