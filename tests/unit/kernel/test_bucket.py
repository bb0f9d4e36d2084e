"""Tests of one bucket: what it admits at once and later, and how a taking is corrected."""

from __future__ import annotations

from handshake.kernel.bucket import BURST_US, MAX_OWED, UNITS_PER_ONE, Bucket, Wait, correct, level, take

SECOND_US = 1_000_000
EMPTY = Bucket()


def taken(bucket: Bucket, amount: int, *, per_minute: int = 60, now_us: int = 0) -> Bucket:
    after = take(bucket, amount, per_minute=per_minute, now_us=now_us)
    assert isinstance(after, Bucket)
    return after


def test_ten_seconds_of_the_rate_are_admitted_at_once() -> None:
    bucket = EMPTY
    for _ in range(10):
        bucket = taken(bucket, 1)
    assert take(bucket, 1, per_minute=60, now_us=0) == Wait(SECOND_US)
    assert taken(bucket, 1, now_us=SECOND_US).owed == 10 * UNITS_PER_ONE


def test_a_wait_is_the_least_that_helps() -> None:
    full = taken(EMPTY, 700, per_minute=4_199)
    wait = take(full, 1, per_minute=4_199, now_us=0)
    assert isinstance(wait, Wait)
    assert isinstance(take(full, 1, per_minute=4_199, now_us=wait.us - 1), Wait)
    assert isinstance(take(full, 1, per_minute=4_199, now_us=wait.us), Bucket)


def test_more_than_the_burst_is_admitted_by_an_empty_bucket_only() -> None:
    large = taken(EMPTY, 1_000)
    assert large.owed == 1_000 * UNITS_PER_ONE
    wait = take(large, 1_000, per_minute=60, now_us=0)
    assert wait == Wait(1_000 * SECOND_US)
    assert taken(large, 1_000, now_us=1_000 * SECOND_US).owed == 1_000 * UNITS_PER_ONE


def test_a_taking_of_nothing_waits_behind_a_debt() -> None:
    debt = correct(EMPTY, 20, per_minute=60, now_us=0)
    assert take(debt, 0, per_minute=60, now_us=0) == Wait(BURST_US)


def test_what_drains_is_exact_however_often_somebody_looks() -> None:
    bucket = taken(EMPTY, 7, per_minute=59)
    for now_us in range(1, 1_001):
        bucket = level(bucket, per_minute=59, now_us=now_us)
    assert bucket == level(taken(EMPTY, 7, per_minute=59), per_minute=59, now_us=1_000)
    assert bucket.owed == 7 * UNITS_PER_ONE - 59_000


def test_a_clock_that_goes_back_drains_nothing_and_owes_nothing_more() -> None:
    bucket = taken(EMPTY, 10, now_us=50)
    assert level(bucket, per_minute=60, now_us=0) == bucket
    assert take(bucket, 1, per_minute=60, now_us=0) == Wait(SECOND_US + 50)


def test_a_correction_gives_back_or_runs_into_debt() -> None:
    bucket = taken(EMPTY, 8)
    assert correct(bucket, -5, per_minute=60, now_us=0).owed == 3 * UNITS_PER_ONE
    assert correct(bucket, -9, per_minute=60, now_us=0).owed == 0
    assert correct(bucket, 100, per_minute=60, now_us=0).owed == 108 * UNITS_PER_ONE
    assert correct(bucket, 1, per_minute=60, now_us=60 * SECOND_US).owed == UNITS_PER_ONE


def test_a_debt_is_bounded_by_what_a_column_holds() -> None:
    assert correct(EMPTY, 2**62, per_minute=1, now_us=0).owed == MAX_OWED < 2**63
