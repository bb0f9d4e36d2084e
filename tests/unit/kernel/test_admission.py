"""Tests of admission: rates and budgets together, taken and given back as far as a call came."""

from __future__ import annotations

import pytest

from handshake.kernel.admission import Admission, Bill
from handshake.kernel.bucket import UNITS_PER_ONE, Wait
from handshake.kernel.budget import Account, Amounts, BudgetKey, BudgetScope, BudgetType
from handshake.kernel.ledger import Short
from handshake.kernel.rate import Gate, Rate
from handshake.kernel.retry import Reach
from tests.requirement import requirement

KEY = BudgetKey(BudgetScope.WORKSPACE, "", BudgetType.TOKENS)
BILL = Bill("p", "s", None, Amounts(50))


def admission_of(account: Account, rate: Rate) -> Admission:
    admission = Admission({"p": rate})
    admission.ledger.load([(KEY, account)])
    return admission


@requirement("scheduler.budget.reserved_before_dispatch", "scheduler.rate.requests_and_tokens")
def test_what_one_of_both_refuses_is_taken_from_neither() -> None:
    short = admission_of(Account(40), Rate(60, 6_000))
    assert isinstance(short.ask(BILL, now_us=0), Short)
    assert short.rates.drain_dirty() == {}
    slow = admission_of(Account(400), Rate(60, 6_000))
    slow.rates.restore("p", Gate(closed_until_us=9))
    assert slow.ask(BILL, now_us=0) == slow.look(BILL, now_us=0) == Wait(9)
    assert slow.ledger.drain_dirty() == {}


def test_nothing_is_asked_where_nothing_could_say_no() -> None:
    assert not Admission({"p": Rate()})
    assert admission_of(Account(1), Rate())
    assert Admission({"p": Rate(1)})


@requirement("scheduler.rate.reconciles_usage")
@pytest.mark.parametrize(
    ("reach", "requests", "tokens", "spent"),
    [(Reach.NOTHING, 0, 0, 0), (Reach.ENDPOINT, 1, 0, 0), (Reach.SENT, 1, 30, 30)],
)
def test_a_call_gives_back_what_it_did_not_reach(reach: Reach, requests: int, tokens: int, spent: int) -> None:
    admission = admission_of(Account(400), Rate(60, 6_000))
    assert admission.ask(BILL, now_us=0) is None
    admission.settle(BILL, Amounts(30), reach)
    admission.rates.apply(0)
    gate = admission.rates.drain_dirty()["p"]
    assert (gate.requests.owed, gate.tokens.owed) == (requests * UNITS_PER_ONE, tokens * UNITS_PER_ONE)
    assert admission.ledger.drain_dirty()[KEY] == Account(400, spent=spent)
