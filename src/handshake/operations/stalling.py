"""Stalling: a run that was lost, and what becomes of it: queued again, put before a person, failed or cancelled.

Each function is a step of a unit of work, and touches no index: its callers do that last.

Source:
    recovery.start.stalls_orphans, recovery.actions.are_evented (01 §4, §8).
"""

from __future__ import annotations

from typing import Any

import msgspec

from handshake.kernel.catalogue import RecoveryAttempted, SchedulerEnded, SessionStateChange, WorkflowRecovery
from handshake.kernel.desk import DeskKind
from handshake.kernel.event import Actor, Context
from handshake.kernel.job import Job, JobState, JobStep, move
from handshake.kernel.queued_run import QueuedRun
from handshake.kernel.recovery import Loss
from handshake.kernel.session import Ending, Facts, SessionState, derive
from handshake.kernel.session_checkpoint import Trigger
from handshake.kernel.settings import AutomationLevel
from handshake.operations import asking, call_ends, checkpointing, records
from handshake.operations.asking import Question
from handshake.operations.runs import require_one
from handshake.ports.store import Tx


class LastSign(msgspec.Struct, frozen=True, gc=False):
    """When a worker was heard of last, if that is known, and how long it might have been silent."""

    heard_at: str | None = None
    threshold_s: int = 0


def stall(tx: Tx, job: Job, loss: Loss, sign: LastSign, *, connection_open: bool) -> Job:
    """Move a running job to `stalled`, and its session to BLOCKED.

    Args:
        tx: the unit's transaction.
        job: as it is stored.
        loss: how it was lost.
        sign: what is known of its worker.
        connection_open: whether its connection may be open yet: it then holds its slots until that is closed.
    """
    _move(tx, job, JobState.STALLED, loss.value)
    if connection_open and job.holds_slot:
        tx.run(
            "connection_left_open",
            {
                "job_id": job.job_id,
                "attempt": job.attempt,
                "provider_id": job.provider_id,
                "model_id": job.model_id,
                "concurrency_group": job.concurrency_group,
            },
        )
    context = about(job, Actor.SYSTEM)
    _tell_move(tx, context, job, JobState.STALLED, loss.value, sign)
    move_session(tx, context, running=0, waiting=1, reason=loss.value, trigger=Trigger.BLOCK)
    return msgspec.structs.replace(job, state=JobState.STALLED, holds_slot=False)


def requeue(tx: Tx, job: Job, *, reason: str, recoveries: int, actor: Actor = Actor.SYSTEM) -> Facts:
    """Queue a stalled run again, with nothing to wait for; return what its session's state then depends on."""
    changed = tx.run(
        "job_requeue",
        {
            "job_id": job.job_id,
            "before": job.state,
            "after": move(job.job_id, job.state, JobState.QUEUED),
            "not_before_us": 0,
            "wait_reason": None,
            "failures": job.failures,
            "recoveries": recoveries,
        },
    )
    require_one(changed, job.session_id)
    context = about(job, actor)
    _tell_move(tx, context, job, JobState.QUEUED, reason, LastSign())
    return move_session(tx, context, running=0, waiting=-1, reason=reason, trigger=checkpointing.decided(context))


def put_on_desk(tx: Tx, job: Job, *, item_id: str, reason: str, level: AutomationLevel) -> None:
    """Put a stalled run before a person; its session stays BLOCKED."""
    context = about(job, Actor.SYSTEM)
    asking.ask(
        tx,
        context,
        Question(item_id=item_id, kind=DeskKind.RECOVERY, reason=reason, attempts=job.attempt, level=level),
    )
    tx.append(RecoveryAttempted(reason=reason, result="desk", session_id=job.session_id), context)


def fail(tx: Tx, job: Job, *, reason: str, error_code: str, actor: Actor) -> Facts:
    """End a stalled run as failed, and its open calls; return what its session's state then depends on."""
    if job.step is JobStep.TOOLS:
        call_ends.end_calls(tx, job, about(job, actor))
    _move(tx, job, JobState.FAILED, reason, error_code=error_code, ended_at_us=tx.now_us)
    context = about(job, actor)
    _tell_move(tx, context, job, JobState.FAILED, reason, LastSign())
    tx.append(
        SchedulerEnded(job_id=job.job_id, reason=reason, session_id=job.session_id, state=JobState.FAILED), context
    )
    return move_session(tx, context, running=0, waiting=-1, reason=reason, trigger=checkpointing.decided(context))


def tell_cancel(tx: Tx, job: Job, *, reason: str) -> None:
    """Tell that a stalled run is cancelled because it was lost."""
    _tell_move(tx, about(job, Actor.SYSTEM), job, JobState.CANCELLED, reason, LastSign())


def about(job: Job, actor: Actor) -> Context:
    """Return the context of an event about a job."""
    return Context(
        actor=actor,
        job_id=job.job_id,
        model_id=job.model_id,
        model_session_id=job.session_id,
        mt_id=job.mt_id,
        trace_id=job.trace_id,
        wp_id=job.wp_id,
    )


def queued_again(tx: Tx, job: Job) -> QueuedRun:
    """Return a run that was queued again in this transaction as the order sees it."""
    row = tx.row("job_queued", {"job_id": job.job_id})
    assert row is not None, "it was queued in this transaction"
    return records.queued_run(row)


def _move(
    tx: Tx, job: Job, after: JobState, reason: str, *, error_code: str | None = None, ended_at_us: int | None = None
) -> None:
    changed = tx.run(
        "job_move",
        {
            "job_id": job.job_id,
            "before": job.state,
            "after": move(job.job_id, job.state, after),
            "reason": reason,
            "not_before_us": 0,
            "wait_reason": None,
            "holds_slot": 0,
            "ended_at_us": ended_at_us,
            "error_code": error_code,
        },
    )
    require_one(changed, job.session_id)


def _tell_move(tx: Tx, context: Context, job: Job, after: JobState, reason: str, sign: LastSign) -> None:
    tx.append(
        WorkflowRecovery(
            from_state=job.state,
            job_id=job.job_id,
            last_heartbeat_ts=sign.heard_at,
            reason=reason,
            threshold_secs=sign.threshold_s,
            to_state=after,
            workflow_run_id=job.job_id,
        ),
        context,
    )


def move_session(
    tx: Tx, context: Context, *, running: int, waiting: int, reason: str, trigger: Trigger | None
) -> Facts:
    """Set how many runs of the session run, add to those that wait, and tell the state that follows.

    Args:
        tx: the unit's transaction.
        context: whose session, and who caused it.
        running: how many runs of the session run from now on.
        waiting: how many more wait for something outside the queue.
        reason: why, as a token.
        trigger: of the checkpoint that is made, or None.
    """
    session_id = context.model_session_id or ""
    row = tx.row("session_facts", {"session_id": session_id})
    assert row is not None, "sessions are never deleted"
    values: tuple[Any, ...] = row
    ending, _, waited, blockers, paused, dispatched, before, made = values
    facts = Facts(Ending(ending), running, waited + waiting, blockers, bool(paused), bool(dispatched))
    after = derive(facts)
    changed = tx.run(
        "session_move",
        {
            "session_id": session_id,
            "before": before,
            "ending": ending,
            "running": facts.running,
            "waiting": facts.waiting,
            "blockers": blockers,
            "paused": paused,
            "state": after,
            "now_us": tx.now_us,
            **checkpointing.columns(trigger),
        },
    )
    require_one(changed, session_id)
    checkpointing.tell(tx, context, made, trigger)
    tx.append(
        SessionStateChange(from_state=SessionState(before), reason=reason, session_id=session_id, to_state=after),
        context,
    )
    return facts
