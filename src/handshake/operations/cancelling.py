"""Cancelling: end one run by request; the flag is durable before the executing call is told.

Source:
    scheduler.cancel.is_deterministic, scheduler.cancel.is_prompt (INV-SCHED-004, 01 §6).
"""

from __future__ import annotations

from typing import Any

import msgspec

from handshake.kernel.catalogue import SchedulerCancelled, SessionStateChange
from handshake.kernel.errors import InvalidTransition
from handshake.kernel.event import Actor, Context
from handshake.kernel.job import TERMINAL, WAITING, Job, JobState, JobStep, move
from handshake.kernel.queue import RunQueue
from handshake.kernel.session import Ending, Facts, SessionState, derive, may_dispatch
from handshake.operations import asking, call_ends, checkpointing
from handshake.operations.runs import require_one
from handshake.ports.store import Tx


class CancelResult(msgspec.Struct, frozen=True, gc=False):
    """What a cancel did: whether bytes may have left, and the attempt whose connection is to be closed, if any."""

    cancelled: bool
    may_have_left: bool
    open_attempt: int | None


def cancel_run(tx: Tx, queue: RunQueue, job: Job, *, reason: str, by: str, actor: Actor = Actor.HUMAN) -> CancelResult:
    """Cancel a run in whatever state it is. Cancelling twice is the same.

    Raises:
        InvalidTransition: the run has ended otherwise.
    """
    if job.state is JobState.CANCELLED:
        return CancelResult(True, job.attempt > 0, None)
    if job.state in TERMINAL:
        raise InvalidTransition(job_id=job.job_id, from_state=job.state.value, to_state=JobState.CANCELLED.value)
    was_running = job.state is JobState.RUNNING
    changed = tx.run(
        "job_move",
        {
            "job_id": job.job_id,
            "before": job.state,
            "after": move(job.job_id, job.state, JobState.CANCELLED),
            "reason": reason,
            "not_before_us": 0,
            "wait_reason": None,
            "holds_slot": job.holds_slot,
            "ended_at_us": tx.now_us,
            "error_code": None,
        },
    )
    require_one(changed, job.session_id)
    context = Context(
        actor=actor,
        job_id=job.job_id,
        model_id=job.model_id,
        model_session_id=job.session_id,
        mt_id=job.mt_id,
        trace_id=job.trace_id,
        wp_id=job.wp_id,
    )
    if job.state in WAITING:
        asking.withdraw(tx, job.job_id, by=by)
    tx.append(SchedulerCancelled(cancelled_by=by, job_id=job.job_id, reason=reason, session_id=job.session_id), context)
    if job.step is JobStep.TOOLS:
        call_ends.end_calls(tx, job, context, started=not was_running)
    free = _leave(tx, job, context)
    if was_running:
        queue.vacate(job.session_id, job.lane)
    elif job.state is JobState.QUEUED:
        queue.drop(job.job_id)
    elif free:
        queue.unhold(job.session_id)
    return CancelResult(True, job.attempt > 0, job.attempt if was_running or job.holds_slot else None)


def _leave(tx: Tx, job: Job, context: Context) -> bool:
    """Take the run out of its session's facts and tell the state that follows; return whether others may start."""
    row = tx.row("session_facts", {"session_id": job.session_id})
    assert row is not None, "sessions are never deleted"
    values: tuple[Any, ...] = row
    ending, running, waiting, blockers, paused, dispatched, state, made = values
    if job.state is JobState.RUNNING:
        running = 0
    elif job.state in WAITING:
        waiting -= 1
    else:
        return False
    facts = Facts(Ending(ending), running, waiting, blockers, bool(paused), bool(dispatched))
    after = derive(facts)
    changed = tx.run(
        "session_move",
        {
            "session_id": job.session_id,
            "before": state,
            "ending": ending,
            "running": running,
            "waiting": waiting,
            "blockers": blockers,
            "paused": paused,
            "state": after,
            "now_us": tx.now_us,
            **checkpointing.columns(checkpointing.decided(context)),
        },
    )
    require_one(changed, job.session_id)
    checkpointing.tell(tx, context, made, checkpointing.decided(context))
    tx.append(
        SessionStateChange(
            from_state=SessionState(state), reason="run_cancelled", session_id=job.session_id, to_state=after
        ),
        context,
    )
    return may_dispatch(facts)
