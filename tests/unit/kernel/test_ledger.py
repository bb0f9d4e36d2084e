"""Tests of the ledger: all budgets that bind a call or none, told once, and forgotten when nothing needs them."""

from __future__ import annotations

from handshake.kernel.budget import Account, Amounts, BudgetKey, BudgetScope, BudgetType, Fit
from handshake.kernel.ledger import Ledger, NearlySpent, Short
from tests.requirement import requirement

OWN = BudgetKey(BudgetScope.SESSION, "s", BudgetType.TOKENS)
PACKET = BudgetKey(BudgetScope.WORK_PACKET, "WP-1", BudgetType.TOKENS)
WHOLE = BudgetKey(BudgetScope.WORKSPACE, "", BudgetType.TOKENS)
CALLS = BudgetKey(BudgetScope.WORKSPACE, "", BudgetType.CALLS)


def ledger_of(**accounts: Account) -> Ledger:
    keys = {"own": OWN, "packet": PACKET, "whole": WHOLE, "calls": CALLS}
    ledger = Ledger()
    ledger.load((keys[name], account) for name, account in accounts.items())
    return ledger


def test_without_budgets_everything_fits_and_nothing_is_kept() -> None:
    ledger = Ledger()
    assert not ledger
    assert ledger.shortage("s", "WP-1", Amounts(10**9)) is None
    ledger.reserve("s", "WP-1", Amounts(5))
    assert ledger.drain_dirty() == {}


def test_a_budget_binds_only_its_own() -> None:
    ledger = ledger_of(own=Account(0), packet=Account(0))
    assert ledger.shortage("other", None, Amounts(5)) is None
    assert ledger.shortage("other", "WP-2", Amounts(5)) is None
    assert ledger.shortage("other", "WP-1", Amounts(5)) == Short(PACKET, Account(0), Fit.NEVER)
    assert ledger.shortage("s", None, Amounts(5)) == Short(OWN, Account(0), Fit.NEVER)


def test_what_can_never_fit_is_told_before_what_may_later() -> None:
    ledger = ledger_of(own=Account(10, reserved=8), whole=Account(10, spent=8))
    assert ledger.shortage("s", None, Amounts(5)) == Short(WHOLE, Account(10, spent=8), Fit.NEVER)
    assert ledger.shortage("s", None, Amounts(2)) is None
    waits = ledger_of(own=Account(10, reserved=8), whole=Account(99))
    assert waits.shortage("s", None, Amounts(5)) == Short(OWN, Account(10, reserved=8), Fit.LATER)
    assert waits.is_waiting("s", Amounts(5))
    assert not waits.is_waiting("s", Amounts(2))
    assert not waits.is_waiting("s", Amounts(11))


@requirement("scheduler.budget.reserved_before_dispatch")
def test_a_call_takes_of_every_kind_and_scope_and_gives_back_likewise() -> None:
    ledger = ledger_of(own=Account(100), packet=Account(100), whole=Account(100), calls=Account(9))
    ledger.reserve("s", "WP-1", Amounts(40))
    assert {key: one.reserved for key, one in ledger.drain_dirty().items()} == {
        OWN: 40,
        PACKET: 40,
        WHOLE: 40,
        CALLS: 1,
    }
    ledger.settle("s", "WP-1", reserved=Amounts(40), taken=Amounts(7))
    settled = {key: (one.spent, one.reserved) for key, one in ledger.drain_dirty().items()}
    assert settled == {OWN: (7, 0), PACKET: (7, 0), WHOLE: (7, 0), CALLS: (1, 0)}


def test_a_warning_and_a_pause_are_told_once() -> None:
    ledger = ledger_of(whole=Account(100))
    for taken in (79, 1, 5, 90):
        ledger.settle("s", None, reserved=Amounts(0), taken=Amounts(taken))
    assert ledger.drain_warnings() == [NearlySpent("s", WHOLE, Account(100, spent=80, warned=True))]
    assert ledger.drain_warnings() == []
    assert [ledger.pause(WHOLE), ledger.pause(WHOLE)] == [True, False]
    assert ledger.drain_dirty()[WHOLE].paused


def test_a_limit_of_nothing_is_not_warned_of() -> None:
    ledger = ledger_of(whole=Account(0))
    ledger.settle("s", None, reserved=Amounts(0), taken=Amounts(0))
    assert ledger.drain_warnings() == []


def test_a_sessions_budget_is_let_go_once_nothing_is_reserved_and_all_is_stored() -> None:
    ledger = ledger_of(own=Account(100))
    ledger.reserve("s", None, Amounts(5))
    ledger.drain_dirty()
    ledger.forget("s")
    assert ledger.knows(BudgetScope.SESSION, "s")
    ledger.settle("s", None, reserved=Amounts(5), taken=Amounts(5))
    ledger.forget("s")
    assert ledger.knows(BudgetScope.SESSION, "s"), "it is yet to be stored"
    ledger.drain_dirty()
    ledger.forget("s")
    assert not ledger
    ledger.forget("s")
