"""Retry: whether a failed provider call is tried again, and after how long.

Deterministic: the jitter is derived from the job and the attempt, so a replay waits the same time.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

import msgspec

from handshake.kernel.ids import JobId
from handshake.kernel.units import US_PER_MS, Microseconds

BACKOFF_BASE_MS = 500
BACKOFF_MAX_MS = 60_000
RETRY_AFTER_MAX_MS = 3_600_000

TOO_MANY_REQUESTS = 429
_RETRIED_STATUS = frozenset({408, 409, TOO_MANY_REQUESTS})


class Backoff(StrEnum):
    """How the wait between attempts grows."""

    EXPONENTIAL = "EXPONENTIAL"
    FIXED = "FIXED"


class FaultKind(StrEnum):
    """What went wrong with a provider call."""

    CONNECT = "connect"  # no connection; nothing was sent
    RESET = "reset"  # connection broke
    STATUS = "status"  # the provider said no: a status other than 200, or an error inside its answer
    INCOMPLETE = "incomplete"  # the stream ended before its end mark
    GARBAGE = "garbage"  # bytes that are not the protocol
    TOO_LARGE = "too_large"  # more than the limit
    TIMEOUT_FIRST_BYTE = "timeout_first_byte"
    TIMEOUT_IDLE = "timeout_idle"
    TIMEOUT_TOTAL = "timeout_total"
    STOPPED = "stopped"  # the runtime stopped while the call went on


class Reach(StrEnum):
    """How far an attempt came."""

    NOTHING = "nothing"  # no connection was tried
    ENDPOINT = "endpoint"  # a connection was tried; nothing of the request was sent
    SENT = "sent"  # bytes of the request may have left


_TIMEOUTS = frozenset({FaultKind.TIMEOUT_FIRST_BYTE, FaultKind.TIMEOUT_IDLE, FaultKind.TIMEOUT_TOTAL})
_TRANSIENT = _TIMEOUTS | {FaultKind.CONNECT, FaultKind.RESET, FaultKind.INCOMPLETE, FaultKind.STOPPED}


class Fault(msgspec.Struct, frozen=True, gc=False):
    """A failed call as data: ids and numbers only, never a word of the provider."""

    kind: FaultKind
    status: int | None = None
    retry_after_ms: int | None = None
    sent: bool = False
    """Whether bytes may have left."""
    consumed: bool = False
    """Whether a response byte was handed on to a caller."""

    @property
    def reach(self) -> Reach:
        """How far the call came."""
        return Reach.SENT if self.sent or self.consumed else Reach.ENDPOINT

    @property
    def is_timeout(self) -> bool:
        """Whether the provider was too slow, rather than wrong."""
        return self.kind in _TIMEOUTS


class RetryAt(msgspec.Struct, frozen=True, gc=False):
    """Try again, not before `backoff_ms` from now."""

    backoff_ms: int


class GiveUp(msgspec.Struct, frozen=True, gc=False):
    """Do not try again; `partial` if text was already handed on."""

    partial: bool


def is_transient(fault: Fault) -> bool:
    """Return whether the same call could succeed later (01 §5): timeouts, lost connections, 408, 409, 429, 5xx."""
    if fault.kind is FaultKind.STATUS:
        status = fault.status or 0
        return status in _RETRIED_STATUS or 500 <= status <= 599
    return fault.kind in _TRANSIENT


def backoff_ms(job_id: JobId, attempt: int, backoff: Backoff) -> int:
    """Return the wait before the attempt after `attempt`, in milliseconds, jitter of ±25 % included.

    Args:
        job_id: seeds the jitter together with `attempt`.
        attempt: the attempt that failed, 1 for the first.
        backoff: EXPONENTIAL doubles from `BACKOFF_BASE_MS` up to `BACKOFF_MAX_MS`; FIXED stays at the base.
    """
    grown = BACKOFF_BASE_MS if backoff is Backoff.FIXED else BACKOFF_BASE_MS << min(attempt - 1, 16)
    span = min(grown, BACKOFF_MAX_MS)
    digest = hashlib.sha256(f"{job_id}:{attempt}".encode()).digest()
    return span * (768 + int.from_bytes(digest[:2], "big") % 513) // 1024


def decide(fault: Fault, *, job_id: JobId, attempt: int, max_retries: int, backoff: Backoff) -> RetryAt | GiveUp:
    """Return what to do after the failing attempt number `attempt` failed with `fault`.

    Attempts that a crash, a lost worker or a shutdown cut are not counted: they say nothing against the run.

    A provider's `Retry-After` is honoured up to `RETRY_AFTER_MAX_MS`. After a response byte was handed
    on there is no silent retry.

    Source:
        scheduler.retry.transient_only, scheduler.retry.not_after_bytes (01 §5).
    """
    if fault.consumed:
        return GiveUp(partial=True)
    if not is_transient(fault) or attempt > max_retries:
        return GiveUp(partial=False)
    wait_ms = backoff_ms(job_id, attempt, backoff)
    if fault.retry_after_ms is not None:
        wait_ms = max(wait_ms, min(fault.retry_after_ms, RETRY_AFTER_MAX_MS))
    return RetryAt(wait_ms)


def closure_ms(fault: Fault, *, job_id: JobId, attempt: int, backoff: Backoff) -> int | None:
    """Return for how long nothing more goes to the provider after `fault`, in milliseconds; None if it stays open.

    A 429, or any answer with `Retry-After`, closes it: for as long as that says, or else for the run's backoff.

    Source:
        scheduler.rate.honours_retry_after (01 §5).
    """
    if fault.retry_after_ms is not None:
        return min(fault.retry_after_ms, RETRY_AFTER_MAX_MS)
    return backoff_ms(job_id, attempt, backoff) if fault.status == TOO_MANY_REQUESTS else None


def as_span_us(wait_ms: int) -> Microseconds:
    """Return milliseconds as a span of microseconds."""
    return Microseconds(wait_ms * US_PER_MS)
