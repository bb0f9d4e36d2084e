"""Laws of buckets and gates: never below nothing, never over the rate in any window, whatever the clock does."""

from __future__ import annotations

from random import Random

import pytest

from handshake.kernel.bucket import UNITS_PER_ONE, Bucket, Wait, level, take
from handshake.kernel.rate import Gate, Rate, Rates, admit
from handshake.testing.rate_windows import Taking, exceeds, most_over_rate

RATES = (1, 59, 60, 6_007, 1_000_000_000)


@pytest.mark.parametrize("seed", range(60))
def test_every_window_holds_at_most_burst_and_rate(seed: int) -> None:
    chance = Random(seed)
    per_minute = RATES[seed % len(RATES)]
    largest = max(1, per_minute // chance.choice((1, 3, 7, 50)))
    rates = Rates({"p": Rate(tokens_per_minute=per_minute)})
    now_us = 0
    history: list[Taking] = []
    open_takings: list[int] = []
    stored: dict[str, Gate] = {"p": Gate()}

    def owed() -> int:
        stored.update(rates.drain_dirty())
        return level(stored["p"].tokens, per_minute=per_minute, now_us=now_us).owed

    for _ in range(400):
        now_us += chance.choice((0, 0, 1, 999, 1_000_000, 7_000_000)) * chance.randrange(3)
        if open_takings and chance.randrange(3) == 0:
            reserved = open_takings.pop(chance.randrange(len(open_takings)))
            used = chance.choice((0, 1, reserved, reserved, 3 * reserved))
            before = owed()
            rates.settle("p", requests=0, tokens=used - reserved)
            rates.apply(now_us)
            assert owed() == max(0, before + (used - reserved) * UNITS_PER_ONE)
            history.append(Taking(now_us, min(0, used - reserved)))
        else:
            amount = chance.randrange(1, largest + 1)
            if rates.take("p", amount, now_us=now_us) is None:
                history.append(Taking(now_us, amount))
                open_takings.append(amount)
    assert len(history) > len(open_takings)
    assert not exceeds(history, per_minute=per_minute)


@pytest.mark.parametrize("seed", range(30))
def test_a_bucket_that_always_says_yes_is_noticed(seed: int) -> None:
    chance = Random(seed)
    now_us, history = 0, []
    for _ in range(60):
        now_us += chance.randrange(500_000)
        history.append(Taking(now_us, 1))
    assert exceeds(history, per_minute=60)
    assert most_over_rate(history, per_minute=60) > 10


@pytest.mark.parametrize("seed", range(30))
def test_what_is_admitted_does_not_depend_on_where_the_clock_began(seed: int) -> None:
    def play(start_us: int) -> list[object]:
        chance = Random(seed)
        now_us, gate = start_us, Gate(Bucket(0, start_us), Bucket(0, start_us))
        said: list[object] = []
        for _ in range(200):
            now_us += chance.randrange(2_000_000)
            after = admit(gate, Rate(30, 600), tokens=chance.randrange(1, 90), now_us=now_us)
            said.append(after if isinstance(after, Wait) else after.tokens.owed)
            gate = gate if isinstance(after, Wait) else after
        return said

    assert play(0) == play(1) == play(10**15)


@pytest.mark.parametrize("seed", range(30))
def test_a_wait_is_the_least_after_which_both_buckets_admit(seed: int) -> None:
    chance = Random(seed)
    rate = Rate(chance.choice((7, 60, None)), chance.choice((600, 6_001)))
    now_us, gate, waited = 0, Gate(), 0
    for _ in range(200):
        tokens = chance.randrange(1, 400)
        after = admit(gate, rate, tokens=tokens, now_us=now_us)
        if isinstance(after, Wait):
            waited += 1
            assert after.us > 0
            assert isinstance(admit(gate, rate, tokens=tokens, now_us=now_us + after.us - 1), Wait)
            now_us += after.us
            after = admit(gate, rate, tokens=tokens, now_us=now_us)
        assert isinstance(after, Gate)
        gate = after
    assert waited


@pytest.mark.parametrize("per_minute", RATES)
def test_a_patient_taker_gets_the_whole_rate(per_minute: int) -> None:
    bucket, now_us, total = Bucket(), 0, 0
    amount = max(1, per_minute // 60)
    while now_us < 3_600_000_000 and total < 5_000 * amount:
        after = take(bucket, amount, per_minute=per_minute, now_us=now_us)
        if isinstance(after, Wait):
            now_us += after.us
        else:
            bucket, total = after, total + amount
    assert total * 60_000_000 >= now_us * per_minute
