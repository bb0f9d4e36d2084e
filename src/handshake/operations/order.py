"""Order: the scheduler's order, rates and budgets between memory and rows; part of the closing unit of each batch.

Memory keeps times of the monotonic clock, rows those of the wall. Within one runtime epoch a row's own offset leads
back to the very same monotonic time, whatever the wall clock did meanwhile; after a restart the clocks of that
moment do.

Source:
    scheduler.rate.survives_restart, recovery.clock.jumps_are_harmless (01 §5, §8).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from handshake.kernel.bucket import Bucket
from handshake.kernel.catalogue import SchedulerRateLimited
from handshake.kernel.event import Context
from handshake.kernel.lane import Lane
from handshake.kernel.queue import Passes, RunQueue
from handshake.kernel.queued_run import Limited, Refused
from handshake.kernel.rate import Gate
from handshake.kernel.retry import RETRY_AFTER_MAX_MS
from handshake.kernel.units import US_PER_MS
from handshake.operations import budgets, records
from handshake.ports.store import Reader, Row, Tx


class Instant(msgspec.Struct, frozen=True, gc=False):
    """One moment by both clocks, in microseconds, and the runtime epoch in which it is."""

    now_us: int
    """Of the monotonic clock."""
    wall_us: int
    epoch: int


def restore(tx: Tx, queue: RunQueue, at: Instant) -> None:
    """Fill what an empty index knows of passes, rates and budgets."""
    queue.restore(_passes(tx))
    for row in tx.rows("gates"):
        provider_id, gate = str(row[0]), _as_of(row, at)
        if provider_id in queue.limits.rates or gate.closed_until_us > at.now_us:
            queue.admission.rates.restore(provider_id, gate)
    ledger = queue.admission.ledger
    ledger.load(records.accounts(tx.rows("budgets_configured")).items())
    ledger.load(records.accounts(tx.rows("budgets_of_open_work")).items())


def store(tx: Tx, queue: RunQueue, at: Instant) -> Sequence[Refused]:
    """Store what changed, tell the log what happened to runs that were not started, and return those that ended."""
    _store_passes(tx, queue)
    if not queue.admission:
        return ()
    limited, refused = queue.drain_notices()
    for waits in limited:
        _tell_limited(tx, waits)
    for one in refused:
        budgets.refuse(tx, one)
    for nearly in queue.admission.ledger.drain_warnings():
        budgets.warn(tx, nearly)
    budgets.put(tx, queue.drain_accounts())
    for provider_id, gate in queue.admission.rates.drain_dirty().items():
        _store_gate(tx, provider_id, gate, at)
    return refused


def wall_gates(reader: Reader) -> dict[str, Gate]:
    """Return what is owed to providers with the wall times of the rows, for those who only look."""
    return {str(row[0]): _gate(row, 0) for row in reader.rows("gates")}


def _gate(row: Row, offset_us: int) -> Gate:
    columns: Any = row
    _, requests_owed, requests_at_us, tokens_owed, tokens_at_us, closed_until_us, _, _ = columns
    return Gate(
        Bucket(requests_owed, requests_at_us - offset_us),
        Bucket(tokens_owed, tokens_at_us - offset_us),
        closed_until_us - offset_us,
    )


def _as_of(row: Row, at: Instant) -> Gate:
    """Return a row by the monotonic clock; one of an earlier epoch is no later than now, and its closure bounded."""
    columns: Any = row
    epoch, offset_us = columns[6], columns[7]
    if epoch == at.epoch:
        return _gate(row, offset_us)
    gate = _gate(row, at.wall_us - at.now_us)
    return Gate(
        Bucket(gate.requests.owed, min(gate.requests.at_us, at.now_us)),
        Bucket(gate.tokens.owed, min(gate.tokens.at_us, at.now_us)),
        min(gate.closed_until_us, at.now_us + RETRY_AFTER_MAX_MS * US_PER_MS),
    )


def _store_gate(tx: Tx, provider_id: str, gate: Gate, at: Instant) -> None:
    offset_us = at.wall_us - at.now_us
    tx.run(
        "gate_put",
        {
            "provider_id": provider_id,
            "requests_owed": gate.requests.owed,
            "requests_at_us": gate.requests.at_us + offset_us,
            "tokens_owed": gate.tokens.owed,
            "tokens_at_us": gate.tokens.at_us + offset_us,
            "closed_until_us": gate.closed_until_us + offset_us,
            "epoch": at.epoch,
            "offset_us": offset_us,
        },
    )


def _tell_limited(tx: Tx, waits: Limited) -> None:
    """Tell that a run begins to wait for its provider's rate; once, however long it waits."""
    run = waits.run
    if not tx.run("job_limited", {"job_id": run.job_id}):
        return
    tx.append(
        SchedulerRateLimited(
            attempt=run.attempt + 1,
            backoff_ms=-(-waits.wait_us // US_PER_MS),
            job_id=run.job_id,
            provider=run.key.provider_id,
            session_id=run.session_id,
        ),
        Context(
            job_id=run.job_id,
            model_id=run.key.model_id,
            model_session_id=run.session_id,
            mt_id=run.mt_id,
            trace_id=run.trace_id,
            wp_id=run.wp_id,
        ),
    )


def _store_passes(tx: Tx, queue: RunQueue) -> None:
    passes = queue.drain_dirty()
    for lane, value in passes.lanes.items():
        tx.run("pass_lane_put", {"lane": lane, "pass": value})
    for (lane, priority, tree), value in passes.trees.items():
        tx.run("pass_tree_put", {"tree": tree, "lane": lane, "priority": priority, "pass": value})
    for (lane, priority), value in passes.virtual.items():
        tx.run("pass_virtual_put", {"lane": lane, "priority": priority, "pass": value})


def _passes(tx: Tx) -> Passes:
    return Passes(
        lanes={Lane(str(lane)): _number(value) for lane, value in tx.rows("pass_lanes")},
        trees={
            (Lane(str(lane)), _number(priority), str(tree)): _number(value)
            for lane, priority, tree, value in tx.rows("pass_trees")
        },
        virtual={
            (Lane(str(lane)), _number(priority)): _number(value) for lane, priority, value in tx.rows("pass_virtual")
        },
    )


def _number(column: object) -> int:
    assert isinstance(column, int), "the column is a STRICT INTEGER"
    return column
