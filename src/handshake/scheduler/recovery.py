"""Recovery: what becomes of runs that a dead process left running, and of those whose worker does not come back.

The instance lock proves that the process is dead. Every such run becomes `stalled`, with evidence; then the policy
of `kernel.recovery` applies, in the same unit of work (01 §8).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from handshake.kernel.catalogue import RecoveryAttempted, SessionStateChange
from handshake.kernel.errors import IntegrityBroken, StoreFailed
from handshake.kernel.event import Actor, Context
from handshake.kernel.ids import JobId, SessionId
from handshake.kernel.job import Backend, Job, JobState, JobStep, RunTicket
from handshake.kernel.queue import RunQueue
from handshake.kernel.recovery import Action, Loss, Verdict, settle
from handshake.kernel.retry import Reach
from handshake.kernel.session import Ending, Facts, SessionState, derive
from handshake.kernel.settings import AutomationLevel, LocalRuns, Settings
from handshake.operations import attempts, budgets, call_ends, desk, records, stalling
from handshake.operations.approvals import Approvals
from handshake.operations.attempt import Attempt
from handshake.operations.cancelling import cancel_run
from handshake.operations.runs import require_one
from handshake.operations.stalling import LastSign
from handshake.ports.store import Reader, Store, Tx, Unit

T = TypeVar("T")

ORPHANS_PER_UNIT = 256
SESSIONS_PER_UNIT = 256


class Policy(msgspec.Struct, frozen=True, gc=False):
    """What the settings say about lost runs."""

    local_runs: LocalRuns
    max_recoveries: int
    level: AutomationLevel

    @classmethod
    def of(cls, settings: Settings) -> Policy:
        """Return the policy of a workspace."""
        recovery = settings.recovery
        return cls(recovery.local_runs, recovery.max_recoveries, settings.policy.automation_level)


async def recover(
    store: Store, queue: RunQueue, settings: Settings, new_id: Callable[[], str], calls: Approvals | None = None
) -> int:
    """Begin an epoch, take over what a dead runtime left, let what waited too long expire; return the epoch.

    Raises:
        IntegrityBroken: the database was changed by hand, so that no run of some session could start.
        StoreFailed: the store refuses it, also after the ballast was given up.
    """
    policy = Policy.of(settings)

    async def write(unit: Unit[T]) -> T:
        try:
            return await store.write(unit, outcome=True)
        except StoreFailed as full:
            if full.context.get("reason") != "disk_full" or not await store.make_room():
                raise
            return await store.write(unit, outcome=True)

    epoch = await write(begin_epoch)
    while await write(_taking_over(queue, policy, [new_id() for _ in range(ORPHANS_PER_UNIT)])):
        pass
    while await write(lambda tx: call_ends.end_lost(tx, epoch=epoch, limit=ORPHANS_PER_UNIT)):
        pass
    while (await write(lambda tx: desk.expire(tx, queue, calls))).count:
        pass
    await store.read(require_counted)
    return epoch


def _taking_over(queue: RunQueue, policy: Policy, item_ids: Sequence[str]) -> Unit[int]:
    return lambda tx: take_over(tx, queue, policy, item_ids)


def begin_epoch(tx: Tx) -> int:
    """Start a new runtime epoch and return its number; what older ones held is released and settled."""
    tx.run("workspace_next_epoch", {})
    budgets.settle_abandoned(tx)
    tx.run("job_release_ended", {})
    tx.run("connection_forget_all", {})
    row = tx.row("workspace_get")
    assert row is not None, "the store made the row"
    epoch = row[2]
    assert isinstance(epoch, int), "the column is a STRICT INTEGER"
    return epoch


def take_over(tx: Tx, queue: RunQueue, policy: Policy, item_ids: Sequence[str]) -> int:
    """Stall up to as many orphaned runs as there are ids, and apply the policy to each; return how many.

    Args:
        tx: the unit's transaction.
        queue: an index that nobody follows yet: it is read from the truth after this.
        policy: what becomes of them.
        item_ids: ids for what comes on the desk, at most `ORPHANS_PER_UNIT`.

    Source:
        recovery.start.stalls_orphans, recovery.start.dispatches_queue, recovery.actions.are_evented.
    """
    orphans = tx.rows("job_orphans", {"limit": min(len(item_ids), ORPHANS_PER_UNIT)})
    for (job_id,), item_id in zip(orphans, item_ids, strict=False):
        job = records.job(tx, JobId(str(job_id)))
        stalled = stalling.stall(tx, job, Loss.CRASH, LastSign(), connection_open=False)
        _settle(tx, queue, stalled, policy, item_id, told=False)
    return len(orphans)


def give_up(
    tx: Tx, queue: RunQueue, ticket: RunTicket, policy: Policy, sign: LastSign, *, epoch: int, item_id: str, told: bool
) -> Action | None:
    """Stall a run whose worker did not come back while its lease lasted, and apply the policy; None if it came back.

    Its connection holds its slots until it is confirmed closed, and what it says from now on comes late.

    Args:
        tx: the unit's transaction.
        queue: the index of the queue.
        ticket: the attempt that is given up.
        policy: what becomes of the run.
        sign: what is known of the worker.
        epoch: the runtime that started the attempt.
        item_id: the id of what may come on the desk.
        told: whether a listener was handed a part of the answer.

    Source:
        recovery.lease.late_result_is_fenced (01 §8).
    """
    job = records.job(tx, ticket.job_id)
    if job.state is not JobState.RUNNING or job.attempt != ticket.attempt or job.runtime_epoch != epoch:
        return None
    lost = attempts.attempted(tx, ticket)
    stalled = stalling.stall(tx, job, Loss.LEASE, sign, connection_open=True)
    settled = attempts.write_off(tx, ticket, lost) if job.holds_slot else None
    action = _settle(tx, queue, stalled, policy, item_id, told=told).action
    again = stalling.queued_again(tx, job) if action is Action.REQUEUE else None
    if settled is not None:
        attempts.settle_in_index(queue, ticket, lost, settled, Reach.SENT)
    queue.vacate(job.session_id, job.lane)
    if again is not None:
        queue.add(again)
    elif action is Action.DESK:
        queue.hold(job.session_id)
    return action


def giving_up(
    queue: RunQueue, policy: Policy, epoch: int, new_id: Callable[[], str]
) -> Callable[[Attempt, LastSign], Unit[Action | None]]:
    """Return what makes the unit of work that gives an attempt up."""

    def unit_for(attempt: Attempt, sign: LastSign) -> Unit[Action | None]:
        item_id, told = new_id(), bool(attempt.parts)
        return lambda tx: give_up(tx, queue, attempt.ticket, policy, sign, epoch=epoch, item_id=item_id, told=told)

    return unit_for


def require_counted(reader: Reader) -> None:
    """Refuse to work where a session counts other runs than it has: nothing of it could ever start.

    Raises:
        IntegrityBroken: there is such a session; the error names it and what to do.
    """
    row: Any = reader.row("session_miscounted", {"all": 0, "limit": 1})
    if row is not None:
        raise IntegrityBroken(
            subject="session",
            session_id=row[0],
            reason="counts_differ",
            counted_running=row[3],
            found_running=row[8],
            counted_waiting=row[4],
            found_waiting=row[9],
            hint="somebody changed the database by hand; `handshake doctor --repair` counts anew and tells the log",
        )


def recount(tx: Tx) -> list[SessionId]:
    """Let up to `SESSIONS_PER_UNIT` sessions count the runs that they have, and tell it; return which."""
    rows: list[Any] = tx.rows("session_miscounted", {"all": 1, "limit": SESSIONS_PER_UNIT})
    for session_id, ending, state, _, _, blockers, paused, dispatched, running, waiting in rows:
        after = derive(Facts(Ending(ending), running, waiting, blockers, bool(paused), bool(dispatched)))
        changed = {"running": running, "waiting": waiting, "state": after, "now_us": tx.now_us}
        require_one(tx.run("session_recount", {"session_id": session_id, **changed}), session_id)
        context = Context(model_session_id=session_id)
        tx.append(RecoveryAttempted(reason="counts_differ", result="counted_anew", session_id=session_id), context)
        if after != state:
            told = SessionStateChange(
                from_state=SessionState(state), reason="counted_anew", session_id=session_id, to_state=after
            )
            tx.append(told, context)
    return [SessionId(row[0]) for row in rows]


def _settle(tx: Tx, queue: RunQueue, job: Job, policy: Policy, item_id: str, *, told: bool) -> Verdict:
    at_tools = job.step is JobStep.TOOLS
    verdict = settle(
        Backend.LOCAL if at_tools else job.backend,  # what may have left has been answered
        local_runs=policy.local_runs,
        recoveries=job.recoveries,
        max_recoveries=policy.max_recoveries,
        told=told,
        unknown_effect=at_tools and call_ends.has_unknown_effect(tx, job),
    )
    if verdict.action is Action.REQUEUE:
        call_ends.ask_again(tx, job)
        stalling.requeue(tx, job, reason=verdict.reason, recoveries=job.recoveries + 1)
    elif verdict.action is Action.DESK:
        stalling.put_on_desk(tx, job, item_id=item_id, reason=verdict.reason, level=policy.level)
    else:
        stalling.tell_cancel(tx, job, reason=verdict.reason)
        cancel_run(tx, queue, job, reason=verdict.reason, by="runtime", actor=Actor.SYSTEM)
    return verdict
