"""Attempts: the row that an outcome is about, what the attempt took, and what becomes of one that came late.

An outcome counts only for the attempt and runtime that the row still names. What comes late is kept as an
artifact of a discarded attempt and changes no state but what the attempt itself still held.

Source:
    recovery.lease.late_result_is_fenced, scheduler.rate.reconciles_usage (01 §4–6).
"""

from __future__ import annotations

from typing import Any

import msgspec

from handshake.kernel.admission import Bill
from handshake.kernel.budget import NOTHING, Amounts, Settled, judge
from handshake.kernel.event import Context
from handshake.kernel.ids import JobId
from handshake.kernel.job import JobState, RunTicket
from handshake.kernel.limit import SlotKey
from handshake.kernel.queue import RunQueue
from handshake.kernel.retry import Reach
from handshake.kernel.session import Ending, Facts, SessionState, derive
from handshake.kernel.units import US_PER_MS
from handshake.kernel.usage import TokenUsage
from handshake.ports.store import Content, Tx

LATE = "late_answer"


class Ended(msgspec.Struct, frozen=True, gc=False):
    """Where the job stands after an outcome; `counted` is False if the outcome came late."""

    state: JobState
    counted: bool
    retry_ms: int | None = None
    goes_on: bool = False
    """Whether another run goes on with its turn."""


class Attempted(msgspec.Struct, frozen=True, gc=False):
    """The rows of a job and of its session as an outcome needs them; `next_seq` numbers the session's next message."""

    state: str
    attempt: int
    runtime_epoch: int
    turn_id: str
    turn_seq: int
    trace_id: str
    wp_id: str | None
    mt_id: str | None
    lane: str
    priority: int
    provider_id: str
    model_id: str
    concurrency_group: str | None
    fairness_key: str
    enqueue_seq: int
    created_at_us: int
    started_at_us: int
    max_retries: int
    retry_backoff: str
    holds_slot: int
    failures: int
    estimated_tokens: int
    estimated_cost_usd_micro: int
    ending: str
    waiting: int
    blockers: int
    paused: int
    next_seq: int
    run_seq: int
    checkpoint_count: int
    checkpoint_seq: int
    streamed_tokens: int
    step: str
    tainted: int

    @property
    def session_after(self) -> SessionState:
        """The session's state once this run is over."""
        return derive(Facts(Ending(self.ending), 0, self.waiting, self.blockers, bool(self.paused), dispatched=True))

    @property
    def key(self) -> SlotKey:
        """The slots that it holds."""
        return SlotKey(self.provider_id, self.model_id, self.concurrency_group)

    @property
    def expected(self) -> Amounts:
        """What it has reserved."""
        return Amounts(self.estimated_tokens, self.estimated_cost_usd_micro)

    def bill(self, ticket: RunTicket) -> Bill:
        """Return who pays for it."""
        return Bill(self.provider_id, ticket.session_id, self.wp_id, self.expected)

    def context(self, ticket: RunTicket) -> Context:
        """Return the context of an event about it."""
        return Context(
            job_id=ticket.job_id,
            model_id=self.model_id,
            model_session_id=ticket.session_id,
            mt_id=self.mt_id,
            trace_id=self.trace_id,
            wp_id=self.wp_id,
        )


def attempted(tx: Tx, ticket: RunTicket) -> Attempted:
    """Return the row that an outcome is about."""
    return last_attempt(tx, ticket.job_id)


def last_attempt(tx: Tx, job_id: JobId) -> Attempted:
    """Return the row of a run as its last attempt left it."""
    row = tx.row("job_attempt", {"job_id": job_id})
    assert row is not None, "jobs are never deleted"
    values: tuple[Any, ...] = row
    return Attempted(*values)


def counts(row: Attempted, ticket: RunTicket, epoch: int) -> bool:
    """Return whether the row still names the attempt of `ticket` in this runtime, so that its outcome counts."""
    return row.state == JobState.RUNNING and row.attempt == ticket.attempt and row.runtime_epoch == epoch


def discard(
    tx: Tx,
    queue: RunQueue,
    ticket: RunTicket,
    row: Attempted,
    content: Content | None,
    settled: Settled,
    reach: Reach,
) -> Ended:
    """Keep what came late, free what the attempt still held, and settle what it had reserved."""
    keep(tx, ticket, LATE, content)
    attempt = {"job_id": ticket.job_id, "attempt": ticket.attempt}
    if tx.run("job_release", attempt):
        tx.run("job_settle", {"job_id": ticket.job_id, **columns(settled)})
        tx.run("session_settle", {"session_id": ticket.session_id, **columns(settled)})
        settle_in_index(queue, ticket, row, settled, reach)
        queue.free_connection(row.key)
    elif tx.run("connection_closed", attempt):  # it was given up, and settled then
        queue.free_connection(row.key)
    return Ended(JobState(row.state), False)


def keep(tx: Tx, ticket: RunTicket, kind: str, content: Content | None) -> None:
    """Keep what an attempt left as an artifact of it."""
    if content is None or content.size_bytes == 0:
        return
    tx.put(content)
    tx.run(
        "job_artifact_put",
        {
            "job_id": ticket.job_id,
            "attempt": ticket.attempt,
            "kind": kind,
            "artifact_id": content.artifact_id,
            "created_at_us": tx.now_us,
        },
    )


def judged(queue: RunQueue, row: Attempted, usage: TokenUsage | None, reach: Reach) -> Settled:
    """Return what an attempt took: as reported, else all that was expected, else nothing if nothing was sent."""
    if reach is not Reach.SENT:
        return Settled(NOTHING, False)
    return judge(row.expected, usage, queue.limits.price_of(row.key))


def write_off(tx: Tx, ticket: RunTicket, row: Attempted) -> Settled:
    """Settle in full what an attempt had reserved that was given up; what it answers later changes no sum."""
    settled = Settled(row.expected, True)
    tx.run("job_settle", {"job_id": ticket.job_id, **columns(settled)})
    tx.run("session_settle", {"session_id": ticket.session_id, **columns(settled)})
    return settled


def columns(settled: Settled) -> dict[str, object]:
    """Return what an attempt took as the queries that settle it want it."""
    return {
        "settled_tokens": settled.amounts.tokens,
        "settled_cost": settled.amounts.usd_micro,
        "is_estimate": settled.is_estimate,
    }


def settle_in_index(
    queue: RunQueue,
    ticket: RunTicket,
    row: Attempted,
    settled: Settled,
    reach: Reach,
    closed_ms: int | None = None,
) -> None:
    """Correct rates and budgets in memory, and close the provider for `closed_ms`; last in its unit."""
    queue.settle(row.bill(ticket), settled.amounts, reach)
    if closed_ms is not None:
        queue.close_provider(row.provider_id, closed_ms * US_PER_MS)
