"""Tests of budgets: what fits, what a call is expected to take, and what it took."""

from __future__ import annotations

from itertools import product

import pytest

from handshake.kernel.budget import (
    FREE,
    Account,
    Amounts,
    BudgetType,
    Fit,
    Price,
    Settled,
    expect,
    fits,
    judge,
    relimit,
    reserve,
    settle,
    threshold,
)
from handshake.kernel.usage import TokenUsage
from tests.requirement import requirement

PRICE = Price(2_000_000, 10_000_000)
EXPECTED = Amounts(100, 900)


@requirement("scheduler.budget.reserved_before_dispatch")
@pytest.mark.parametrize(
    ("account", "amount", "expected"),
    [
        (Account(10), 10, Fit.NOW),
        (Account(10), 11, Fit.NEVER),
        (Account(10, spent=4, reserved=6), 0, Fit.NOW),
        (Account(10, spent=4, reserved=6), 1, Fit.LATER),
        (Account(10, spent=4, reserved=6), 6, Fit.LATER),
        (Account(10, spent=4, reserved=6), 7, Fit.NEVER),
        (Account(10, spent=12), 1, Fit.NEVER),
        (Account(10, spent=12), 0, Fit.NOW),
        (Account(0), 0, Fit.NOW),
    ],
)
def test_what_fits_is_told_apart_from_what_may_later(account: Account, amount: int, expected: Fit) -> None:
    assert fits(account, amount) is expected


@requirement("scheduler.budget.reserved_before_dispatch")
def test_reserving_what_fits_never_passes_the_limit_and_settling_gives_it_back() -> None:
    for limit, spent, reserved, amount in product(range(6), repeat=4):
        account = Account(limit, spent, reserved)
        if spent + reserved <= limit and fits(account, amount) is Fit.NOW:
            taken = reserve(account, amount)
            assert taken.spent + taken.reserved <= limit
            assert settle(taken, reserved=amount, taken=0) == account
            assert settle(taken, reserved=amount, taken=amount + 3).spent == spent + amount + 3


def test_people_are_warned_at_four_fifths_rounded_up() -> None:
    assert [threshold(limit) for limit in (0, 1, 5, 9, 1_000)] == [0, 1, 4, 8, 800]


def test_another_limit_tells_again_what_is_true_again() -> None:
    told = Account(100, spent=90, warned=True, paused=True)
    assert relimit(told, 200) == Account(200, spent=90)
    assert relimit(told, 110) == Account(110, spent=90, warned=True)
    assert relimit(told, 50) == Account(50, spent=90, warned=True, paused=True)


def test_a_cost_is_exact_and_rounded_up_once() -> None:
    assert PRICE.of(3, 7) == 76
    assert Price(1, 1).of(1, 1) == 1
    assert Price(1, 0).of(1_000_000, 5) == 1
    assert FREE.of(10**9, 10**9) == 0


def test_a_call_is_expected_to_take_a_token_for_four_bytes_and_its_longest_answer() -> None:
    assert expect(0, 1, PRICE) == Amounts(1, 10)
    assert expect(5, 98, PRICE) == Amounts(100, 984)
    assert [expect(8, 1, PRICE).of(kind) for kind in BudgetType] == [1, 3, 14]


@requirement("provider.usage.missing_is_null")
@pytest.mark.parametrize(
    ("usage", "price", "expected"),
    [
        (None, PRICE, Settled(EXPECTED, True)),
        (TokenUsage(), PRICE, Settled(EXPECTED, True)),
        (TokenUsage(3, 7, 10), PRICE, Settled(Amounts(10, 76), False)),
        (TokenUsage(3, 7, None), PRICE, Settled(Amounts(10, 76), False)),
        (TokenUsage(None, None, 10), PRICE, Settled(Amounts(10, 900), True)),
        (TokenUsage(3, None, None), PRICE, Settled(EXPECTED, True)),
        (TokenUsage(None, None, 10), FREE, Settled(Amounts(10, 0), False)),
        (TokenUsage(0, 0, 0), PRICE, Settled(Amounts(0, 0), False)),
    ],
)
def test_what_was_not_reported_is_taken_as_expected_and_marked(
    usage: TokenUsage | None, price: Price, expected: Settled
) -> None:
    assert judge(EXPECTED, usage, price) == expected
