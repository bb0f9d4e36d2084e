"""Streamed: keeps what a long answer said so far, and marks it in its session, so that a crash leaves that much.

Source:
    recovery.checkpoint.points (01 §8).
"""

from __future__ import annotations

from handshake.kernel.job import RunTicket
from handshake.kernel.session_checkpoint import Trigger
from handshake.operations import checkpointing
from handshake.operations.attempts import attempted, counts
from handshake.ports.store import Content, Tx

SO_FAR = "answer_so_far"


def mark(tx: Tx, ticket: RunTicket, so_far: Content, *, epoch: int) -> None:
    """Keep the text so far as an artifact of its attempt; nothing for an attempt that counts no more."""
    row = attempted(tx, ticket)
    if not counts(row, ticket, epoch):
        return
    tx.put(so_far)
    tx.run(
        "job_artifact_replace",
        {
            "job_id": ticket.job_id,
            "attempt": ticket.attempt,
            "kind": SO_FAR,
            "artifact_id": so_far.artifact_id,
            "created_at_us": tx.now_us,
        },
    )
    marked = {"session_id": ticket.session_id, "now_us": tx.now_us, "trigger": Trigger.TOKENS}
    tx.run("session_marked", marked)
    checkpointing.tell(tx, row.context(ticket), row.checkpoint_count, Trigger.TOKENS)
