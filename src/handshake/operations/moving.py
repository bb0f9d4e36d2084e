"""Moving: stores changed facts of a session with the state that follows from them; a step of another unit of work."""

from __future__ import annotations

import msgspec

from handshake.kernel.catalogue import SessionStateChange
from handshake.kernel.event import Actor, Context
from handshake.kernel.session import Facts, Session, derive
from handshake.kernel.session_checkpoint import Trigger
from handshake.operations import checkpointing
from handshake.operations.runs import require_one
from handshake.ports.store import Tx


def about(session: Session, actor: Actor) -> Context:
    """Return the context of an event about a session."""
    return Context(
        actor=actor,
        model_id=session.model_id,
        model_session_id=session.session_id,
        mt_id=session.mt_id,
        wp_id=session.wp_id,
    )


def facts_of(session: Session) -> Facts:
    """Return what the state of a session follows from."""
    return Facts(session.ending, session.running, session.waiting, session.blockers, session.paused, session.dispatched)


def move(tx: Tx, before: Session, after: Session, *, reason: str, actor: Actor) -> Session:
    """Store changed facts with the state that follows from them, and the event that tells it."""
    state = derive(facts_of(after))
    trigger = _trigger(before, after)
    after = msgspec.structs.replace(
        after,
        state=state,
        updated_at_us=tx.now_us,
        checkpoint_count=before.checkpoint_count + 1,
        checkpoint_seq=before.next_seq - 1,
        checkpoint_state=state,
        checkpoint_trigger=trigger.value,
        checkpoint_at_us=tx.now_us,
        streamed_tokens=0,
    )
    changed = tx.run(
        "session_move",
        {
            "session_id": before.session_id,
            "before": before.state,
            "ending": after.ending,
            "running": after.running,
            "waiting": after.waiting,
            "blockers": after.blockers,
            "paused": after.paused,
            "state": after.state,
            "now_us": tx.now_us,
            **checkpointing.columns(trigger),
        },
    )
    require_one(changed, before.session_id)
    checkpointing.tell(tx, about(before, actor), before.checkpoint_count, trigger)
    tx.append(
        SessionStateChange(from_state=before.state, reason=reason, session_id=before.session_id, to_state=after.state),
        about(before, actor),
    )
    return after


def _trigger(before: Session, after: Session) -> Trigger:
    if after.paused and not before.paused:
        return Trigger.PAUSE
    return Trigger.BLOCK if after.blockers > before.blockers else Trigger.OPERATOR_DECISION
