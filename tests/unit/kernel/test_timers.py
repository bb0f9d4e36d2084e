"""Tests of timers: a wall time becomes a time of the steady clock once, and nothing else moves it."""

from __future__ import annotations

from handshake.kernel.ids import JobId
from handshake.kernel.timers import Timers
from tests.requirement import requirement

A, B = JobId("a"), JobId("b")


@requirement("recovery.clock.jumps_are_harmless")
def test_a_wait_lasts_its_span_whatever_the_wall_clock_does_meanwhile() -> None:
    timers = Timers()
    timers.set(A, 1_000_100)
    assert not timers.is_due(A, 10**9), "nobody told the time yet"
    assert timers.wake(5, 1_000_000) == []
    assert timers.next_us() == 105
    assert timers.wake(104, 9_999_999) == []
    assert not timers.is_due(A, 104)
    assert timers.wake(105, 0) == [A]
    assert timers.is_due(A, 105)
    assert timers.next_us() is None


def test_what_is_past_is_due_at_once_and_what_was_never_set_always() -> None:
    timers = Timers()
    timers.set(A, 10)
    assert timers.wake(7, 1_000) == [A]
    assert timers.is_due(A, 7)
    assert timers.is_due(B, 0)


def test_a_later_wait_replaces_an_earlier_one() -> None:
    timers = Timers()
    timers.set(A, 110)
    timers.wake(0, 100)
    timers.set(A, 150)
    assert timers.wake(0, 100) == []
    assert timers.wake(10, 110) == []
    assert timers.next_us() == 50
    timers.drop(A)
    assert timers.next_us() is None
    assert timers.wake(99, 199) == []


def test_runs_wake_in_the_order_of_their_times() -> None:
    timers = Timers()
    timers.set(A, 130)
    timers.set(B, 120)
    timers.wake(0, 100)
    assert timers.wake(40, 140) == [B, A]


def test_memory_follows_what_waits() -> None:
    timers = Timers()
    for number in range(1_000):
        timers.set(A, 10**9 + number)
        timers.wake(0, 0)
    assert len(timers._heap) < 40
