"""Spending: rates, closures and budgets, each forgotten in turn."""

from __future__ import annotations

from typing import Any

import pytest

from handshake.kernel import bucket, budget, ledger, rate
from handshake.kernel.budget import NOTHING, Settled
from handshake.operations import attempts, outcomes
from tests.simulation.must_fail.mutant import mutant


@mutant("limits", "scheduler.rate.survives_restart")
def buckets_are_refilled_by_a_restart(patch: pytest.MonkeyPatch) -> None:
    """What was owed when a runtime died is not read again."""
    patch.setattr(rate.Rates, "restore", lambda self, provider_id, gate: None)


@mutant("limits", "scheduler.rate.requests_and_tokens")
def buckets_admit_more_at_once(patch: pytest.MonkeyPatch) -> None:
    """A burst is half a minute of the rate."""
    patch.setattr(bucket, "BURST_US", 3 * bucket.BURST_US)


@mutant("limits", "scheduler.rate.requests_and_tokens")
def debts_are_forgiven(patch: pytest.MonkeyPatch) -> None:
    """What a call took beyond its reservation is not owed."""
    original = rate.Rates.settle

    def settle(self: Any, provider_id: str, *, requests: int, tokens: int) -> None:
        original(self, provider_id, requests=requests, tokens=min(0, tokens))

    patch.setattr(rate.Rates, "settle", settle)


@mutant("storms", "scheduler.rate.honours_retry_after")
def retry_after_is_ignored(patch: pytest.MonkeyPatch) -> None:
    """A 429 makes its own run wait, and no other."""
    patch.setattr(rate.Rates, "close", lambda self, provider_id, span_us: None)


@mutant("storms", "scheduler.rate.backoff_is_logged")
def a_closure_is_not_told(patch: pytest.MonkeyPatch) -> None:
    """A 429 closes its provider, and no event says so."""
    original = outcomes._verdict
    patch.setattr(outcomes, "_verdict", lambda *given: (original(*given)[0], None))


@mutant("limits", "scheduler.budget.reserved_before_dispatch")
def budgets_are_not_reserved(patch: pytest.MonkeyPatch) -> None:
    """Runs that go at the same time do not see each other's reservations."""
    patch.setattr(ledger.Ledger, "reserve", lambda self, *given: None)


@mutant("limits", "scheduler.budget.reserved_before_dispatch", "scheduler.rate.requests_and_tokens")
def unknown_usage_costs_nothing(patch: pytest.MonkeyPatch) -> None:
    """A call whose provider did not report usage is taken to have cost nothing."""
    original = budget.judge

    def judge(expected: Any, usage: Any, price: Any) -> Settled:
        return Settled(NOTHING, True) if usage is None else original(expected, usage, price)

    patch.setattr(attempts, "judge", judge)


@mutant("limits", "scheduler.budget.reserved_before_dispatch")
def budgets_are_forgotten_by_a_restart(patch: pytest.MonkeyPatch) -> None:
    """What was spent when a runtime died is not read again."""
    import msgspec

    original = ledger.Ledger.load

    def load(self: Any, accounts: Any) -> None:
        original(self, [(key, msgspec.structs.replace(one, spent=0, reserved=0)) for key, one in accounts])

    patch.setattr(ledger.Ledger, "load", load)
