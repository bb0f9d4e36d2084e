"""Recovery: what a start does with runs that a dead process left running.

The instance lock proves that the process is dead. Every such run becomes `stalled`, with evidence; then the
shipped policy applies: a local run without tools has no effect outside, so it is queued again (01 §8).
"""

from __future__ import annotations

from typing import Any

from handshake.kernel.catalogue import SessionStateChange, WorkflowRecovery
from handshake.kernel.event import Context
from handshake.kernel.ids import JobId
from handshake.kernel.job import JobState, move
from handshake.kernel.session import Ending, Facts, SessionState, derive
from handshake.operations.runs import require_one
from handshake.ports.store import Tx

ORPHANS_PER_UNIT = 256


def begin_epoch(tx: Tx) -> int:
    """Start a new runtime epoch and return its number; connections of older ones are gone with their process."""
    tx.run("workspace_next_epoch", {})
    tx.run("job_release_ended", {})
    row = tx.row("workspace_get")
    assert row is not None, "the store made the row"
    epoch = row[2]
    assert isinstance(epoch, int), "the column is a STRICT INTEGER"
    return epoch


def take_over(tx: Tx) -> int:
    """Move up to `ORPHANS_PER_UNIT` orphaned runs through `stalled` back into the queue; return how many.

    Source:
        recovery.start.stalls_orphans, recovery.start.dispatches_queue, recovery.actions.are_evented.
    """
    orphans = tx.rows("job_orphans", {"limit": ORPHANS_PER_UNIT})
    for row in orphans:
        _requeue(tx, row)
    return len(orphans)


def _requeue(tx: Tx, row: tuple[Any, ...]) -> None:
    job_id, session_id, _, _, _, trace_id, model_id, wp_id, mt_id = row
    context = Context(
        job_id=job_id, model_id=model_id, model_session_id=session_id, mt_id=mt_id, trace_id=trace_id, wp_id=wp_id
    )
    facts = tx.row("session_facts", {"session_id": session_id})
    assert facts is not None, "sessions are never deleted"
    values: tuple[Any, ...] = facts
    ending, _, waiting, blockers, paused, _, state = values
    stalled = Facts(Ending(ending), 0, waiting + 1, blockers, bool(paused), dispatched=True)
    steps = (
        (JobState.RUNNING, JobState.STALLED, stalled, "crash_recovery"),
        (JobState.STALLED, JobState.QUEUED, Facts(Ending(ending), 0, waiting, blockers, bool(paused), True), "policy"),
    )
    before = SessionState(state)
    for from_state, to_state, given, reason in steps:
        _move_job(tx, job_id, session_id, from_state, to_state, reason)
        after = derive(given)
        changed = tx.run(
            "session_move",
            {
                "session_id": session_id,
                "before": before,
                "ending": ending,
                "running": given.running,
                "waiting": given.waiting,
                "blockers": blockers,
                "paused": paused,
                "state": after,
                "now_us": tx.now_us,
            },
        )
        require_one(changed, session_id)
        tx.append(
            WorkflowRecovery(
                from_state=from_state,
                job_id=job_id,
                last_heartbeat_ts=None,
                reason=reason,
                threshold_secs=0,
                to_state=to_state,
                workflow_run_id=job_id,
            ),
            context,
        )
        tx.append(SessionStateChange(from_state=before, reason=reason, session_id=session_id, to_state=after), context)
        before = after


def _move_job(tx: Tx, job_id: str, session_id: str, before: JobState, after: JobState, reason: str) -> None:
    changed = tx.run(
        "job_move",
        {
            "job_id": job_id,
            "before": before,
            "after": move(JobId(job_id), before, after),
            "reason": reason,
            "not_before_us": 0,
            "wait_reason": None,
            "holds_slot": 0,
            "ended_at_us": None,
            "error_code": None,
        },
    )
    require_one(changed, session_id)
