"""Continuing: the next run of a turn, queued by the commit that ends the one before it.

A turn is one input and everything until the model needs nothing more; each call of its model is a run of its own. So
limits, order and cancellation see every call, and between two of them nothing is remembered but rows.

Source:
    scheduler.session.head_only (01 §4): the last outcome and the enqueue of the continuation are one commit.
"""

from __future__ import annotations

from typing import Any

import msgspec

from handshake.kernel.budget import expect
from handshake.kernel.catalogue import SchedulerEnqueue
from handshake.kernel.ids import JobId
from handshake.kernel.job import RunTicket
from handshake.kernel.lane import Lane
from handshake.kernel.queue import RunQueue
from handshake.kernel.queued_run import QueuedRun
from handshake.kernel.settings import ASSUMED_OUTPUT_TOKENS, MAX_RUNS_PER_TURN
from handshake.operations import records
from handshake.operations.attempts import Attempted
from handshake.ports.store import Tx

TURN_TOO_LONG = "turn_too_long"
"""Why a turn ended that would have gone on beyond its bound."""


class Following(msgspec.Struct, frozen=True, gc=False):
    """The run that goes on with a turn, with the id that it will have."""

    job_id: JobId


def may_follow(row: Attempted) -> bool:
    """Return whether the turn of a run may have one more."""
    return row.run_seq < MAX_RUNS_PER_TURN


def insert(tx: Tx, queue: RunQueue, ticket: RunTicket, row: Attempted, following: Following) -> QueuedRun:
    """Insert the row and the event of the run that goes on; the caller puts the result into the index.

    It goes before later turns of its session, with the lane, priority and bounds of the run before it.
    """
    facts: Any = tx.row("job_following_facts", {"job_id": ticket.job_id})
    thread_bytes, max_output_tokens = facts
    expected = expect(thread_bytes, max_output_tokens or ASSUMED_OUTPUT_TOKENS, queue.limits.price_of(row.key))
    enqueue_seq = tx.insert(
        "job_follow",
        {
            "job_id": following.job_id,
            "before": ticket.job_id,
            "created_at_us": tx.now_us,
            "estimated_tokens": expected.tokens,
            "estimated_cost_usd_micro": expected.usd_micro,
        },
    )
    tx.run("session_followed", {"session_id": ticket.session_id, "enqueue_seq": enqueue_seq})
    event = SchedulerEnqueue(
        concurrency_group=row.concurrency_group,
        job_id=following.job_id,
        lane=Lane(row.lane),
        priority=row.priority,
        session_id=ticket.session_id,
    )
    tx.append(event, msgspec.structs.replace(row.context(ticket), job_id=following.job_id))
    queued = tx.row("job_queued", {"job_id": following.job_id})
    assert queued is not None, "it was queued in this transaction"
    return records.queued_run(queued)
