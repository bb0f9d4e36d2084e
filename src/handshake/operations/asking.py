"""Asking: puts a question about a run or a call on the desk, and takes it back when a run ends otherwise.

Both are steps of another unit of work, whose events say why.
"""

from __future__ import annotations

import msgspec

from handshake.kernel.catalogue import GovHumanInterventionRequested
from handshake.kernel.catalogue.governance import AutomationLevel as ToldLevel
from handshake.kernel.desk import DeskKind, DeskState
from handshake.kernel.event import Context
from handshake.kernel.settings import DESK_RECOVERY_EXPIRY_S, DESK_TOOL_APPROVAL_EXPIRY_S, AutomationLevel
from handshake.kernel.units import US_PER_S
from handshake.ports.store import Tx

_EXPIRY_S = {DeskKind.RECOVERY: DESK_RECOVERY_EXPIRY_S, DeskKind.TOOL_APPROVAL: DESK_TOOL_APPROVAL_EXPIRY_S}


class CallShown(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The call that a person is asked about, as it is stored with the question."""

    tool_id: str
    tool_version: str
    call_sha256: str
    args_sha256: str | None
    findings: str
    tainted_by: str


class Question(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a person is asked."""

    item_id: str
    kind: DeskKind
    reason: str
    attempts: int
    level: AutomationLevel
    call: CallShown | None = None


_NO_CALL = dict.fromkeys(CallShown.__struct_fields__)


def ask(tx: Tx, context: Context, question: Question) -> None:
    """Put a question about the run or call of `context` before a person, until it expires."""
    call = _NO_CALL if question.call is None else msgspec.structs.asdict(question.call)
    tx.run(
        "desk_insert",
        {
            "item_id": question.item_id,
            "kind": question.kind,
            "state": DeskState.WAITING,
            "reason": question.reason,
            "session_id": context.model_session_id,
            "job_id": context.job_id,
            "attempts": question.attempts,
            "created_at_us": tx.now_us,
            "expires_at_us": tx.now_us + _EXPIRY_S[question.kind] * US_PER_S,
            **call,
        },
    )
    tx.append(
        GovHumanInterventionRequested(
            automation_level=ToldLevel(question.level.value),
            decision_id=question.item_id,
            gate_type=question.kind.value,
            target_ref=context.job_id or context.model_session_id or "",
        ),
        context,
    )


def withdraw(tx: Tx, job_id: str, *, by: str) -> None:
    """Take back what was asked about a run that a person or a policy ended otherwise."""
    tx.run("desk_withdraw", {"job_id": job_id, "now_us": tx.now_us, "by": by})


def withdraw_calls(tx: Tx, session_id: str, *, by: str) -> None:
    """Take back what was asked about calls of a session that has ended, and of none of its runs."""
    tx.run("desk_withdraw_calls", {"session_id": session_id, "now_us": tx.now_us, "by": by})
