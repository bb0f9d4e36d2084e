"""Records: rows of the store as the kernel's values, and ids for new ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from handshake.kernel.budget import Account, BudgetKey, BudgetScope, BudgetType
from handshake.kernel.errors import NotFound
from handshake.kernel.ids import CHANCE_BITS, JobId, SessionId, is_uuid, successors, uuid7
from handshake.kernel.job import Job
from handshake.kernel.lane import Lane
from handshake.kernel.limit import SlotKey
from handshake.kernel.message import Message
from handshake.kernel.queued_run import QueuedRun
from handshake.kernel.session import Session
from handshake.kernel.waiting import WaitReason
from handshake.ports.chance import Chance
from handshake.ports.clock import Clock
from handshake.ports.store import Reader, Row

_R = TypeVar("_R", Session, Job, Message)


class NewIds:
    """Makes ids from the ports of time and chance."""

    def __init__(self, clock: Clock, chance: Chance) -> None:
        self._clock = clock
        self._chance = chance

    def __call__(self) -> str:
        """Return a new UUIDv7."""
        return uuid7(self._clock.now_us(), self._chance.bits(CHANCE_BITS))

    def several(self) -> Iterator[str]:
        """Yield new UUIDv7 of one moment, in order: for the records of one unit of work, cheaper than one by one."""
        return successors(self())


def record(kind: type[_R], row: Row) -> _R:
    """Return the record whose columns `row` holds in the order of its fields."""
    return msgspec.convert(dict(zip(kind.__struct_fields__, row, strict=True)), kind, strict=False)


def session(reader: Reader, session_id: SessionId) -> Session:
    """Return a session.

    Raises:
        NotFound: there is none of this id.
    """
    row = reader.row("session_get", {"session_id": session_id}) if is_uuid(session_id) else None
    if row is None:
        raise NotFound(kind="session", session_id=session_id)
    return record(Session, row)


def job(reader: Reader, job_id: JobId) -> Job:
    """Return a job.

    Raises:
        NotFound: there is none of this id.
    """
    row = reader.row("job_get", {"job_id": job_id}) if is_uuid(job_id) else None
    if row is None:
        raise NotFound(kind="job", job_id=job_id)
    return record(Job, row)


def queued_run(row: Row) -> QueuedRun:
    """Return a row of `job_queue` as the order sees it."""
    (
        job_id,
        session_id,
        enqueue_seq,
        turn_seq,
        lane,
        priority,
        provider_id,
        model_id,
        group,
        fairness_key,
        attempt,
        created_at_us,
        not_before_us,
        trace_id,
        wp_id,
        mt_id,
        estimated_tokens,
        estimated_usd_micro,
        wait_reason,
        step,
    ) = row
    return msgspec.convert(
        {
            "job_id": job_id,
            "session_id": session_id,
            "enqueue_seq": enqueue_seq,
            "turn_seq": turn_seq,
            "lane": lane,
            "priority": priority,
            "key": (provider_id, model_id, group),
            "fairness_key": fairness_key,
            "attempt": attempt,
            "created_at_us": created_at_us,
            "not_before_us": not_before_us,
            "trace_id": trace_id,
            "wp_id": wp_id,
            "mt_id": mt_id,
            "estimated_tokens": estimated_tokens,
            "estimated_usd_micro": estimated_usd_micro,
            "is_limited": wait_reason == WaitReason.RATE_LIMIT,
            "step": step,
        },
        QueuedRun,
    )


def accounts(rows: list[Row]) -> dict[BudgetKey, Account]:
    """Return rows of `budget` as the kernel's values."""
    found: list[Any] = rows
    return {
        BudgetKey(BudgetScope(scope), name, BudgetType(kind)): Account(
            most, spent, reserved, bool(warned), bool(paused)
        )
        for scope, name, kind, most, spent, reserved, warned, paused in found
    }


def session_budget(reader: Reader, session_id: SessionId) -> dict[BudgetKey, Account]:
    """Return a session's own limits with what is spent and reserved under them."""
    return accounts(reader.rows("budget_of", {"scope": BudgetScope.SESSION, "name": session_id}))


def slot_key(provider_id: object, model_id: object, group: object) -> SlotKey:
    """Return the slot key of columns."""
    return SlotKey(str(provider_id), str(model_id), None if group is None else str(group))


def lane(column: object) -> Lane:
    """Return the lane that a column names."""
    return Lane(str(column))
