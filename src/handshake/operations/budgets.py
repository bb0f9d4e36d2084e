"""Budgets: set limits, settle what the dead had reserved, and end runs that do not fit; units of work or parts of them.

What is spent counts from when a limit is first set. What is reserved belongs to attempts whose connection may be open.

Source:
    scheduler.budget.reserved_before_dispatch (01 §5).
"""

from __future__ import annotations

from collections.abc import Mapping

from handshake.kernel.budget import Account, BudgetKey, BudgetScope, BudgetType, relimit, threshold
from handshake.kernel.catalogue import BudgetPaused, SchedulerEnded, SessionBudgetWarning
from handshake.kernel.errors import BudgetExceeded, IntegrityBroken
from handshake.kernel.event import Context
from handshake.kernel.ids import SessionId
from handshake.kernel.job import JobState, move
from handshake.kernel.ledger import NearlySpent
from handshake.kernel.queued_run import Refused
from handshake.kernel.settings import BudgetSettings, WorkspaceBudgets
from handshake.operations import records
from handshake.operations.runs import require_one
from handshake.ports.store import Tx

EXHAUSTED = "budget_exceeded"
"""Why a run ended that did not fit under a budget."""


def limits_of(given: BudgetSettings) -> dict[BudgetType, int]:
    """Return the limits that are set."""
    by_kind = {
        BudgetType.TOKENS: given.tokens,
        BudgetType.USD_MICRO: given.usd_micro,
        BudgetType.CALLS: given.calls,
    }
    return {kind: most for kind, most in by_kind.items() if most is not None}


def configure(tx: Tx, given: WorkspaceBudgets) -> int:
    """Bring the workspace's and the work packets' limits to what the configuration says; return how many changed.

    One that was taken out before and stands there again goes on from what was spent under it.
    """
    wanted = {BudgetKey(BudgetScope.WORKSPACE, "", kind): most for kind, most in limits_of(given).items()}
    for wp_id, of_packet in given.work_packets.items():
        wanted |= {BudgetKey(BudgetScope.WORK_PACKET, wp_id, kind): most for kind, most in limits_of(of_packet).items()}
    known = records.accounts(tx.rows("budgets_configured"))
    for key in known.keys() - wanted.keys():
        tx.run("budget_drop", _named(key))
    fresh = wanted.keys() - known.keys()
    for key in fresh:
        tx.run("budget_insert", {**_named(key), "most": wanted[key]})
    now = records.accounts(tx.rows("budgets_configured"))
    moved = {key: relimit(now[key], most) for key, most in wanted.items() if now[key].limit != most}
    put(tx, moved)
    return len(fresh | moved.keys())


def open_for_session(tx: Tx, session_id: SessionId, limits: Mapping[BudgetType, int]) -> None:
    """Set the limits of a new session."""
    for kind, most in limits.items():
        tx.run("budget_insert", {**_named(BudgetKey(BudgetScope.SESSION, session_id, kind)), "most": most})


def put(tx: Tx, accounts: Mapping[BudgetKey, Account]) -> None:
    """Store accounts, all with one statement.

    Raises:
        IntegrityBroken: one of them has no row; the batch fails and the index is read again.
    """
    rows = [
        {
            "scope": key.scope,
            "name": key.name,
            "kind": key.kind,
            "most": account.limit,
            "spent": account.spent,
            "reserved": account.reserved,
            "warned": account.warned,
            "paused": account.paused,
        }
        for key, account in accounts.items()
    ]
    if rows and tx.run_all("budget_put", rows) != len(rows):
        raise IntegrityBroken(subject="budget", reason="index_differs")


def settle_abandoned(tx: Tx) -> None:
    """Settle in full what attempts of a dead runtime had reserved; nobody knows what of it was used.

    Source:
        scheduler.budget.reserved_before_dispatch, recovery.start.stalls_orphans (01 §5, §8).
    """
    tx.run("budget_settle_abandoned", {})
    tx.run("session_settle_abandoned", {})
    tx.run("job_settle_abandoned", {})


def refuse(tx: Tx, refused: Refused) -> None:
    """End a queued run that cannot fit under a budget any more, before anything of it is sent."""
    run, short = refused.run, refused.short
    context = Context(
        job_id=run.job_id,
        model_id=run.key.model_id,
        model_session_id=run.session_id,
        mt_id=run.mt_id,
        trace_id=run.trace_id,
        wp_id=run.wp_id,
    )
    changed = tx.run(
        "job_refused",
        {
            "job_id": run.job_id,
            "state": move(run.job_id, JobState.QUEUED, JobState.FAILED),
            "now_us": tx.now_us,
            "reason": EXHAUSTED,
            "error_code": BudgetExceeded.code,
        },
    )
    require_one(changed, run.session_id)
    tx.run(
        "session_run_refused",
        {"session_id": run.session_id, "last_error": BudgetExceeded.code, "now_us": tx.now_us},
    )
    tx.append(
        SchedulerEnded(job_id=run.job_id, reason=EXHAUSTED, session_id=run.session_id, state=JobState.FAILED), context
    )
    if refused.first:
        key, account = short.key, short.account
        tx.append(
            BudgetPaused(
                budget_scope=key.scope,
                budget_type=key.kind,
                current_value=account.spent,
                limit_value=account.limit,
                session_id=run.session_id if key.scope is BudgetScope.SESSION else None,
                wp_id=key.name if key.scope is BudgetScope.WORK_PACKET else None,
            ),
            context,
        )


def warn(tx: Tx, nearly: NearlySpent) -> None:
    """Tell that a budget which binds a session is nearly used up."""
    tx.append(
        SessionBudgetWarning(
            budget_type=nearly.key.kind,
            current_value=nearly.account.spent,
            session_id=nearly.session_id,
            threshold_value=threshold(nearly.account.limit),
        ),
        Context(model_session_id=nearly.session_id),
    )


def _named(key: BudgetKey) -> dict[str, object]:
    return {"scope": key.scope, "name": key.name, "kind": key.kind}
