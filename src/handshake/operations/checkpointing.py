"""Checkpointing: marks up to where a session is stored, in the statement that changes its row anyway, and tells it.

Source:
    recovery.checkpoint.points (01 §8).
"""

from __future__ import annotations

from handshake.kernel.catalogue import CheckpointCreated
from handshake.kernel.event import Actor, Context
from handshake.kernel.ids import SessionId
from handshake.kernel.session_checkpoint import Trigger, checkpoint_id
from handshake.ports.store import Tx


def columns(trigger: Trigger | None) -> dict[str, object]:
    """Return what the queries that change a session's row want of a checkpoint; None is none."""
    return {"marks": int(trigger is not None), "trigger": trigger}


def decided(context: Context) -> Trigger:
    """Return the trigger of a checkpoint after a decision: a person's, or the runtime's own policy."""
    return Trigger.OPERATOR_DECISION if context.actor is Actor.HUMAN else Trigger.RECOVERY


def tell(tx: Tx, context: Context, made: int, trigger: Trigger | None) -> None:
    """Tell of a checkpoint of the context's session, of which `made` were made before; None is none."""
    if trigger is None:
        return
    session_id = context.model_session_id or ""
    tx.append(
        CheckpointCreated(
            checkpoint_id=checkpoint_id(SessionId(session_id), made + 1), session_id=session_id, trigger=trigger.value
        ),
        context,
    )
