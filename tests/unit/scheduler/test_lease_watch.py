"""Lease watch: who does not come back in time is given up, unless it was this process that was late."""

from __future__ import annotations

import asyncio

from handshake.kernel.ids import JobId, ModelId, ProviderId, SessionId
from handshake.kernel.job import RunTicket
from handshake.kernel.moment import rfc3339
from handshake.kernel.units import Microseconds
from handshake.operations.attempt import Attempt
from handshake.operations.stalling import LastSign
from handshake.scheduler.lease_watch import LOOK_EVERY_US, LeaseWatch
from handshake.testing.virtual_clock import START_US, VirtualClock
from tests.requirement import requirement

SECOND_US = 1_000_000
LEASE_US = 60 * SECOND_US
HOUR_US = 3_600 * SECOND_US


class Watched:
    """A watch over attempts that the test makes, and what it said has expired."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.live: list[Attempt] = []
        self.expired: list[tuple[Attempt, LastSign]] = []
        self.keeps = False
        """Whether an expired attempt stays in progress."""
        self.watch = LeaseWatch(self.clock, lambda: self.live, self._expire)

    async def _expire(self, attempt: Attempt, sign: LastSign) -> None:
        self.expired.append((attempt, sign))
        if not self.keeps:
            self.live.remove(attempt)

    def call(self, number: int = 1) -> Attempt:
        """Return an attempt that calls, with a lease from now."""
        ticket = RunTicket(JobId(str(number)), SessionId("s"), 1, ProviderId("p"), ModelId("m"))
        attempt = Attempt(ticket, lease_us=self.clock.monotonic_us() + LEASE_US, lease_span_us=LEASE_US, calling=True)
        self.live.append(attempt)
        self.watch.begin()
        return attempt

    async def pass_time(self, span_us: int, *, step_us: int = LOOK_EVERY_US) -> None:
        """Let time pass in small steps, as it does in a process that is not stopped."""
        await asyncio.sleep(0)
        while span_us > 0:
            self.clock.advance(min(step_us, span_us))
            span_us -= step_us
            for _ in range(4):
                await asyncio.sleep(0)


@requirement("recovery.lease.late_result_is_fenced")
async def test_a_lease_ends_and_not_before() -> None:
    watched = Watched()
    attempt = watched.call()
    await watched.pass_time(LEASE_US)
    assert watched.expired == []
    await watched.pass_time(2 * LOOK_EVERY_US)
    assert [one for one, _ in watched.expired] == [attempt]
    assert watched.expired[0][1] == LastSign(None, 60)


async def test_the_last_sign_of_life_is_told() -> None:
    watched = Watched()
    attempt = watched.call()
    await watched.pass_time(LOOK_EVERY_US)
    attempt.parts.append("word")
    await watched.pass_time(LEASE_US + LOOK_EVERY_US)
    ((_, sign),) = watched.expired
    assert sign.heard_at == rfc3339(Microseconds(START_US + 2 * LOOK_EVERY_US))


async def test_what_is_past_its_call_has_no_lease() -> None:
    watched = Watched()
    attempt = watched.call()
    attempt.calling = False
    await watched.pass_time(10 * LEASE_US)
    assert watched.expired == []


async def test_what_could_not_be_given_up_is_looked_at_again() -> None:
    watched = Watched()
    watched.keeps = True
    watched.call()
    await watched.pass_time(LEASE_US + 3 * LOOK_EVERY_US)
    assert len(watched.expired) == 3


@requirement("recovery.clock.jumps_are_harmless")
async def test_a_process_that_was_stopped_for_hours_gives_nobody_up() -> None:
    watched = Watched()
    attempts = [watched.call(number) for number in range(100)]
    await watched.pass_time(LEASE_US // 2)
    await watched.pass_time(8 * HOUR_US, step_us=8 * HOUR_US)
    await watched.pass_time(LEASE_US // 2 - LOOK_EVERY_US)
    assert watched.expired == [], "the time that it stood still does not count"
    await watched.pass_time(3 * LOOK_EVERY_US)
    assert [one for one, _ in watched.expired] == attempts, "what passed since does"


@requirement("recovery.clock.jumps_are_harmless")
async def test_jumps_of_the_wall_clock_move_no_lease() -> None:
    watched = Watched()
    watched.call()
    watched.clock.jump_wall(8 * HOUR_US)
    await watched.pass_time(LEASE_US)
    assert watched.expired == []
    watched.clock.jump_wall(-16 * HOUR_US)
    await watched.pass_time(2 * LOOK_EVERY_US)
    assert len(watched.expired) == 1


async def test_it_rests_while_nothing_is_in_progress() -> None:
    watched = Watched()
    attempt = watched.call()
    watched.live.remove(attempt)
    await watched.pass_time(LOOK_EVERY_US)
    assert watched.clock.next_due_us() is None
    watched.call()
    await asyncio.sleep(0)
    assert watched.clock.next_due_us() == LOOK_EVERY_US
    watched.watch.close()
    await watched.pass_time(0)
    assert watched.clock.next_due_us() is None
