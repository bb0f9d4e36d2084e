"""Call ends: what becomes of open calls whose run or session goes on no more, or whose runtime is dead.

Source:
    recovery.actions.are_evented, gate.event.on_every_path (INV-RECOVER-002, 01 §8).
"""

from __future__ import annotations

from handshake.kernel.event import Actor, Context
from handshake.kernel.ids import SessionId
from handshake.kernel.job import Job
from handshake.kernel.judgement import Reason
from handshake.kernel.tool_call import ToolCallState, may_repeat
from handshake.operations import records, tool_calls
from handshake.ports.store import Tx


def end_calls(tx: Tx, job: Job, context: Context, *, started: bool = True) -> None:
    """End the open calls of a run that goes on no more; what had begun has an outcome that nobody knows.

    Args:
        tx: the unit's transaction.
        job: the run.
        context: of the events that tell it.
        started: also those that have begun; False where who carries them out will tell what came of them.
    """
    for row in tool_calls.open_calls(tx, job.session_id, job.job_id):
        begun = row.state is ToolCallState.STARTED
        if started or not begun:
            reason = Reason.OUTCOME_UNKNOWN if begun else Reason.RUN_ENDED
            tool_calls.refuse(tx, tool_calls.asked_of(tx, row), row, context, reason)


def ask_again(tx: Tx, job: Job) -> None:
    """Let calls of a run be asked for anew whose outcome nobody knows, because somebody wants the run to go on."""
    for row in tool_calls.open_calls(tx, job.session_id, job.job_id):
        if row.state is ToolCallState.STARTED:
            tx.run("tool_call_again", {"call_seq": row.call_seq})


def has_unknown_effect(tx: Tx, job: Job) -> bool:
    """Return whether a run has begun a call that must not be made twice, and nobody knows what came of it."""
    return any(
        row.state is ToolCallState.STARTED and not may_repeat(row.idempotency, row.side_effect, row.idempotency_key)
        for row in tool_calls.open_calls(tx, job.session_id, job.job_id)
    )


def end_waiting(tx: Tx, session_id: str, context: Context, reason: Reason) -> None:
    """End the calls of a session that has ended, and of none of its runs, that wait for a person."""
    while rows := tool_calls.waiting(tx, session_id, job_id=None):
        for row in rows:
            tool_calls.refuse(tx, tool_calls.asked_of(tx, row), row, context, reason)


def end_lost(tx: Tx, *, epoch: int, limit: int) -> int:
    """End up to `limit` calls that a dead runtime began and no open run has; return how many."""
    rows = tool_calls.lost(tx, epoch=epoch, limit=limit)
    for row in rows:
        session = records.session(tx, SessionId(row.session_id))
        context = Context(
            actor=Actor.SYSTEM,
            job_id=row.job_id,
            model_id=session.model_id,
            model_session_id=session.session_id,
            mt_id=session.mt_id,
            trace_id=row.trace_id or None,
            wp_id=session.wp_id,
        )
        tool_calls.refuse(tx, tool_calls.asked_of(tx, row), row, context, Reason.OUTCOME_UNKNOWN)
    return len(rows)
