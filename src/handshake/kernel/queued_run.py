"""Queued run: what the order knows of a run that waits, and what it tells of one that it did not start."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from handshake.kernel.admission import Bill
from handshake.kernel.budget import Amounts
from handshake.kernel.ids import JobId, SessionId
from handshake.kernel.job import JobStep
from handshake.kernel.lane import Lane
from handshake.kernel.ledger import Short
from handshake.kernel.limit import SlotKey


class QueuedRun(msgspec.Struct, frozen=True, gc=False):
    """What the order needs to know of a queued run; times in microseconds since 1970.

    `is_limited` says that it was told already that a rate makes it wait.
    """

    job_id: JobId
    session_id: SessionId
    enqueue_seq: int
    turn_seq: int
    lane: Lane
    priority: int
    key: SlotKey
    fairness_key: str
    attempt: int
    created_at_us: int
    not_before_us: int
    trace_id: str
    wp_id: str | None
    mt_id: str | None
    estimated_tokens: int = 0
    estimated_usd_micro: int = 0
    is_limited: bool = False
    step: JobStep = JobStep.CALL

    @property
    def slots(self) -> SlotKey | None:
        """The slots that it needs besides a global one; a run that goes on at its tools needs none."""
        return self.key if self.step is JobStep.CALL else None

    @property
    def bill(self) -> Bill:
        """Who pays for the run's next attempt, and what that is expected to take."""
        expected = Amounts(self.estimated_tokens, self.estimated_usd_micro)
        return Bill(self.key.provider_id, self.session_id, self.wp_id, expected)


class Limited(msgspec.Struct, frozen=True, gc=False):
    """A run begins to wait for its provider's rate; `wait_us` is the least time until it may start."""

    run: QueuedRun
    wait_us: int


class Refused(msgspec.Struct, frozen=True, gc=False):
    """A run left the queue, because it cannot fit under a budget any more; `first` if none was refused under it yet."""

    run: QueuedRun
    short: Short
    first: bool


class Notices(NamedTuple):
    """What happened to runs that were not started; for the log."""

    limited: list[Limited]
    refused: list[Refused]
