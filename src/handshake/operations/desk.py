"""Desk: what waits for a person: listed, shown, approved, denied and expired; changes are units of work."""

from __future__ import annotations

import msgspec

from handshake.kernel.catalogue import GovHumanInterventionReceived, RecoveryAttempted
from handshake.kernel.catalogue.governance import AutomationLevel as ToldLevel
from handshake.kernel.desk import DeskItem, DeskKind, DeskState, decide, require_shown
from handshake.kernel.errors import InvalidRequest, InvalidTransition, JobNotAwaitingUser, NotFound
from handshake.kernel.event import Actor, Context
from handshake.kernel.ids import ArtifactId, JobId, SessionId, is_uuid
from handshake.kernel.job import Job, JobState
from handshake.kernel.judgement import Reason
from handshake.kernel.queue import RunQueue
from handshake.kernel.session import may_dispatch
from handshake.kernel.settings import AutomationLevel
from handshake.operations import call_ends, records, stalling
from handshake.operations.approvals import Approvals
from handshake.operations.views import page_limit, page_start
from handshake.ports.store import Reader, Row, Tx

EXPIRED_PER_UNIT = 256
"""Items that expire in one unit of work."""
ONCE = "once"
"""How long an approval lasts unless somebody says otherwise."""
RUNTIME = "runtime"
"""Who answers when nobody did."""
DENIED_CODE = "HSK-409-JOB-NOT-RESUMABLE"
"""The code with which a lost run ends that is not run again."""


def items(
    reader: Reader, *, state: DeskState | None = None, after: int = 0, limit: int | None = None
) -> list[DeskItem]:
    """Return what is and was on the desk, in the order in which it came, after the number `after`."""
    rows = reader.rows("desk_page", {"after": page_start(after), "limit": page_limit(limit), "state": state})
    return [_item(row) for row in rows]


def item(reader: Reader, item_id: str) -> DeskItem:
    """Return one item.

    Raises:
        NotFound: there is none of this id.
    """
    row = reader.row("desk_get", {"item_id": item_id}) if is_uuid(item_id) else None
    if row is None:
        raise NotFound(kind="desk_item", item_id=item_id)
    return _item(row)


def call(reader: Reader, item_id: str) -> tuple[DeskItem, str]:
    """Return one item with the arguments of its call as canonical JSON; of a run there are none.

    Raises:
        NotFound: there is no such item.
    """
    found = item(reader, item_id)
    data = None if found.args_sha256 is None else reader.artifact(ArtifactId(found.args_sha256))
    return found, (data or b"").decode()


def waiting_count(reader: Reader) -> int:
    """Return how many items wait."""
    row = reader.row("desk_waiting_count")
    return int(row[0] or 0) if row else 0


def next_expiry_us(reader: Reader) -> int | None:
    """Return when the next waiting item expires, or None if none waits."""
    row = reader.row("desk_next_expiry")
    return None if row is None else int(row[0] or 0)


def approve(
    tx: Tx,
    queue: RunQueue,
    item_id: str,
    *,
    shown: str,
    by: str,
    level: AutomationLevel,
    calls: Approvals | None = None,
    lasting: str = ONCE,
) -> DeskItem:
    """Let the run of an item run again, or its call be made.

    Args:
        tx: the unit's transaction.
        queue: the index of the queue.
        item_id: what is approved.
        shown: SHA-256 of what the person was shown.
        by: who approves.
        level: how much may happen without a person, for the record.
        calls: answers about calls; None where no tools are.
        lasting: for how long calls like the one that was shown may be made (`kernel.approval.lasting`).

    Raises:
        NotFound: there is no such item.
        InvalidRequest: `lasting` says no lifetime, or more than once for a run.
        StateConflict: something else was shown.
        InvalidTransition: it was answered before, or has expired.
        JobNotAwaitingUser: its run waits no longer.
    """
    before = _open(tx, item_id, DeskState.APPROVED)
    require_shown(before, shown)
    if before.expires_at_us <= tx.now_us:  # its time is over, though nobody has looked yet
        raise InvalidTransition(item_id=item_id, from_state=DeskState.EXPIRED, to_state=DeskState.APPROVED)
    after = _close(tx, before, DeskState.APPROVED, by=by)
    _tell_answer(tx, after, level)
    if before.kind is DeskKind.TOOL_APPROVAL:
        _of_calls(calls).approve(tx, queue, before, words=lasting, by=by)
        return after
    if lasting != ONCE:
        raise InvalidRequest(field="for", reason="not_of_a_run", hint="a lost run is run again once")
    job = _stalled(tx, before)
    facts = stalling.requeue(tx, job, reason="approved", recoveries=0, actor=Actor.HUMAN)
    call_ends.ask_again(tx, job)
    queue.add(stalling.queued_again(tx, job))
    if may_dispatch(facts):
        queue.unhold(job.session_id)
    return after


def deny(
    tx: Tx, queue: RunQueue, item_id: str, *, by: str, level: AutomationLevel, calls: Approvals | None = None
) -> DeskItem:
    """Let the run of an item fail, or its call be refused.

    Raises:
        NotFound: there is no such item.
        InvalidTransition: it was answered before, or has expired.
        JobNotAwaitingUser: its run waits no longer.
    """
    before = _open(tx, item_id, DeskState.DENIED)
    after = _close(tx, before, DeskState.DENIED, by=by)
    _tell_answer(tx, after, level)
    if before.kind is DeskKind.TOOL_APPROVAL:
        _of_calls(calls).refuse(tx, queue, before, Reason.DENIED_BY_PERSON, actor=Actor.HUMAN, by=by)
    else:
        _fail(tx, queue, _stalled(tx, before), reason="denied", actor=Actor.HUMAN)
    return after


class Expired(msgspec.Struct, frozen=True, gc=False):
    """What became of items whose time was over."""

    count: int
    failed: list[JobId]
    """Runs that ended with them; others go on."""


def expire(tx: Tx, queue: RunQueue, calls: Approvals | None = None) -> Expired:
    """Fail the runs, and refuse the calls, of up to `EXPIRED_PER_UNIT` items whose time is over.

    Source:
        recovery.actions.are_evented (01 §2).
    """
    due = [_item(row) for row in tx.rows("desk_expired", {"now_us": tx.now_us, "limit": EXPIRED_PER_UNIT})]
    jobs = []
    for one in due:
        _close(tx, one, DeskState.EXPIRED, by=RUNTIME)
        if one.kind is DeskKind.RECOVERY:
            job = _stalled(tx, one)
            tx.append(
                RecoveryAttempted(reason="expired", result="failed", session_id=job.session_id),
                stalling.about(job, Actor.SYSTEM),
            )
            jobs.append(job)
    for job in jobs:
        _fail(tx, queue, job, reason="expired", actor=Actor.SYSTEM)
    for one in due:
        if one.kind is DeskKind.TOOL_APPROVAL:
            _of_calls(calls).refuse(tx, queue, one, Reason.APPROVAL_EXPIRED, actor=Actor.SYSTEM, by=RUNTIME)
    return Expired(len(due), [job.job_id for job in jobs])


def _item(row: Row) -> DeskItem:
    return msgspec.convert(dict(zip(DeskItem.__struct_fields__, row, strict=True)), DeskItem)


def _open(tx: Tx, item_id: str, after: DeskState) -> DeskItem:
    found = item(tx, item_id)
    decide(found, after)
    return found


def _stalled(tx: Tx, one: DeskItem) -> Job:
    assert one.job_id is not None, "an item of recovery is about a run"
    job = records.job(tx, JobId(one.job_id))
    if job.state is not JobState.STALLED:
        raise JobNotAwaitingUser(job_id=job.job_id, item_id=one.item_id, state=job.state.value)
    return job


def _of_calls(calls: Approvals | None) -> Approvals:
    assert calls is not None, "where calls are asked about, they are answered"
    return calls


def _close(tx: Tx, before: DeskItem, after: DeskState, *, by: str) -> DeskItem:
    state = decide(before, after)
    changed = tx.run("desk_answer", {"item_id": before.item_id, "state": state, "now_us": tx.now_us, "by": by})
    assert changed == 1, "it was read as waiting in this transaction"
    return msgspec.structs.replace(before, state=state, decided_at_us=tx.now_us, decided_by=by)


def _tell_answer(tx: Tx, one: DeskItem, level: AutomationLevel) -> None:
    session = records.session(tx, SessionId(one.session_id))
    context = Context(
        actor=Actor.HUMAN,
        actor_id=one.decided_by,
        job_id=one.job_id,
        model_id=one.model_id,
        model_session_id=one.session_id,
        mt_id=session.mt_id,
        wp_id=session.wp_id,
    )
    tx.append(
        GovHumanInterventionReceived(
            automation_level=ToldLevel(level.value),
            decision=one.state.value,
            decision_id=one.item_id,
            gate_type=one.kind.value,
            target_ref=one.job_id or one.session_id,
            user_id=one.decided_by or "",
        ),
        context,
    )


def _fail(tx: Tx, queue: RunQueue, job: Job, *, reason: str, actor: Actor) -> None:
    facts = stalling.fail(tx, job, reason=reason, error_code=DENIED_CODE, actor=actor)
    if may_dispatch(facts):
        queue.unhold(job.session_id)
