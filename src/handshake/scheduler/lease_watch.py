"""Lease watch: finds attempts whose worker did not come back in time, and only if this process was not late itself.

It looks at all live attempts every few seconds, so that a lease costs a run nothing.

Source:
    recovery.lease.late_result_is_fenced, recovery.clock.jumps_are_harmless (01 §8).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import msgspec

from handshake.kernel.moment import rfc3339
from handshake.kernel.units import US_PER_S, Microseconds
from handshake.operations.attempt import Attempt
from handshake.operations.stalling import LastSign
from handshake.ports.clock import Clock
from handshake.scheduler.alarm import Alarm

LOOK_EVERY_US = 5 * US_PER_S
"""How often leases are looked at; so much longer than it says may one last."""


class _Sign(msgspec.Struct, gc=False):
    """What was seen of an attempt, when it was looked at."""

    heard_us: int | None = None
    parts: int = 0


class LeaseWatch:
    """Watches the attempts of one dispatcher.

    Args:
        clock: leases are spans of its monotonic time.
        live: the attempts in progress.
        expired: called for each attempt whose lease has ended, with the last sign of life; if it leaves the attempt
            in progress, it is called again at the next look.
    """

    def __init__(
        self,
        clock: Clock,
        live: Callable[[], Iterable[Attempt]],
        expired: Callable[[Attempt, LastSign], Awaitable[None]],
    ) -> None:
        self._clock = clock
        self._live = live
        self._expired = expired
        self._alarm = Alarm(clock, self._look)
        self._due_us: int | None = None
        self._signs: dict[Attempt, _Sign] = {}

    def begin(self) -> None:
        """Look from time to time for as long as attempts are in progress; on the event loop only."""
        if self._due_us is None:
            self._set()

    def close(self) -> None:
        """Look no more."""
        self._alarm.cancel()
        self._due_us = None
        self._signs = {}

    def _set(self) -> None:
        self._due_us = self._clock.monotonic_us() + LOOK_EVERY_US
        self._alarm.set_in(LOOK_EVERY_US)

    async def _look(self) -> None:
        now_us = self._clock.monotonic_us()
        late_us = now_us - self._due_us if self._due_us is not None else 0
        self._due_us = None
        attempts = [attempt for attempt in self._live() if attempt.calling]
        self._signs = {attempt: self._sign_of(attempt, now_us) for attempt in attempts}
        for attempt in attempts:
            attempt.lease_us += max(0, late_us)  # nobody could answer while the process or its loop stood still
        for attempt in attempts:
            if now_us > attempt.lease_us and attempt.calling:
                await self._expired(attempt, self._last_sign(attempt, now_us))
        if any(True for _ in self._live()):
            self._set()

    def _sign_of(self, attempt: Attempt, now_us: int) -> _Sign:
        sign = self._signs.get(attempt) or _Sign()
        if len(attempt.parts) > sign.parts:
            sign.heard_us, sign.parts = now_us, len(attempt.parts)
        return sign

    def _last_sign(self, attempt: Attempt, now_us: int) -> LastSign:
        heard_us = self._signs[attempt].heard_us
        threshold_s = attempt.lease_span_us // US_PER_S
        if heard_us is None:
            return LastSign(None, threshold_s)
        return LastSign(rfc3339(Microseconds(self._clock.now_us() - (now_us - heard_us))), threshold_s)
