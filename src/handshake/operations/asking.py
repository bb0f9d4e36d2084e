"""Asking: puts a question about a run on the desk, and takes it back when the run ends otherwise.

Both are steps of another unit of work, whose events say why.
"""

from __future__ import annotations

from handshake.kernel.catalogue import GovHumanInterventionRequested
from handshake.kernel.catalogue.governance import AutomationLevel as ToldLevel
from handshake.kernel.desk import DeskKind, DeskState
from handshake.kernel.event import Context
from handshake.kernel.settings import DESK_RECOVERY_EXPIRY_S, AutomationLevel
from handshake.kernel.units import US_PER_S
from handshake.ports.store import Tx


def ask(tx: Tx, context: Context, *, item_id: str, reason: str, attempts: int, level: AutomationLevel) -> None:
    """Put the run of `context` before a person, for `DESK_RECOVERY_EXPIRY_S`."""
    tx.run(
        "desk_insert",
        {
            "item_id": item_id,
            "kind": DeskKind.RECOVERY,
            "state": DeskState.WAITING,
            "reason": reason,
            "session_id": context.model_session_id,
            "job_id": context.job_id,
            "attempts": attempts,
            "created_at_us": tx.now_us,
            "expires_at_us": tx.now_us + DESK_RECOVERY_EXPIRY_S * US_PER_S,
        },
    )
    tx.append(
        GovHumanInterventionRequested(
            automation_level=ToldLevel(level.value),
            decision_id=item_id,
            gate_type=DeskKind.RECOVERY.value,
            target_ref=context.job_id or "",
        ),
        context,
    )


def withdraw(tx: Tx, job_id: str, *, by: str) -> None:
    """Take back what was asked about a run that a person or a policy ended otherwise."""
    tx.run("desk_withdraw", {"job_id": job_id, "now_us": tx.now_us, "by": by})
