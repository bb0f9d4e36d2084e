"""Tests of gates: both buckets or neither, closures, and corrections that wait for the time."""

from __future__ import annotations

from handshake.kernel.bucket import UNITS_PER_ONE, Bucket, Wait
from handshake.kernel.rate import Gate, Rate, Rates, admit
from tests.requirement import requirement

SECOND_US = 1_000_000


@requirement("scheduler.rate.requests_and_tokens")
def test_neither_bucket_is_taken_from_unless_both_admit() -> None:
    rates = Rates({"p": Rate(requests_per_minute=60, tokens_per_minute=600)})
    assert rates.take("p", 100, now_us=0) is None
    before = rates.drain_dirty()["p"]
    assert rates.take("p", 50, now_us=0) == Wait(5 * SECOND_US)
    assert rates.drain_dirty() == {}
    assert rates.look("p", 50, now_us=0) == Wait(5 * SECOND_US)
    assert (before.requests.owed, before.tokens.owed) == (UNITS_PER_ONE, 100 * UNITS_PER_ONE)


def test_the_longest_of_all_waits_is_told() -> None:
    full = Gate(Bucket(12 * UNITS_PER_ONE), Bucket(101 * UNITS_PER_ONE), 2 * SECOND_US)
    rate = Rate(60, 600)
    assert admit(full, rate, tokens=1, now_us=0) == Wait(3 * SECOND_US)
    assert admit(full, Rate(None, 600), tokens=1, now_us=0) == Wait(2 * SECOND_US)
    assert admit(full, Rate(), tokens=1, now_us=2 * SECOND_US) == full


def test_a_provider_without_rates_is_open_until_it_closes_itself() -> None:
    rates = Rates({"p": Rate()})
    assert not rates
    assert rates.take("p", 10**9, now_us=0) is None
    rates.close("p", SECOND_US)
    rates.apply(5)
    assert rates
    assert rates.take("p", 1, now_us=6) == Wait(SECOND_US - 1)
    assert rates.take("other", 1, now_us=6) is None
    assert rates.take("p", 1, now_us=SECOND_US + 5) is None


@requirement("scheduler.rate.honours_retry_after")
def test_a_shorter_closure_does_not_open_what_a_longer_one_closed() -> None:
    rates = Rates({})
    rates.close("p", 9)
    rates.apply(0)
    rates.close("p", 3)
    rates.apply(1)
    assert rates.drain_dirty() == {"p": Gate(closed_until_us=9)}


@requirement("scheduler.rate.reconciles_usage")
def test_what_was_noted_takes_effect_when_the_time_is_told() -> None:
    rates = Rates({"p": Rate(60, 600)})
    rates.take("p", 100, now_us=0)
    rates.settle("p", requests=-1, tokens=20)
    assert rates.drain_dirty()["p"].tokens.owed == 100 * UNITS_PER_ONE
    rates.apply(SECOND_US)
    gate = rates.drain_dirty()["p"]
    assert gate == Gate(Bucket(0, SECOND_US), Bucket(110 * UNITS_PER_ONE, SECOND_US))
    rates.settle("p", requests=0, tokens=0)
    rates.settle("unknown", requests=-1, tokens=5)
    rates.apply(2 * SECOND_US)
    assert rates.drain_dirty() == {}
