"""Admission: whether a run that the order chose may start now, by the rates of its provider and by budgets.

Both are taken from together or not at all, and both are corrected when the call is over.

Source:
    scheduler.rate.requests_and_tokens, scheduler.budget.reserved_before_dispatch (01 §5).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from handshake.kernel.bucket import Wait
from handshake.kernel.budget import NOTHING, Amounts
from handshake.kernel.ledger import Ledger, Short
from handshake.kernel.rate import Rate, Rates
from handshake.kernel.retry import Reach


class Bill(msgspec.Struct, frozen=True, gc=False):
    """Who pays for a call, and what it is expected to take."""

    provider_id: str
    session_id: str
    wp_id: str | None
    expected: Amounts


class Admission:
    """Rates and budgets of one workspace."""

    def __init__(self, rates: Mapping[str, Rate]) -> None:
        self.rates = Rates(rates)
        self.ledger = Ledger()

    def clear(self) -> None:
        """Forget everything, before it is read again."""
        self.rates.clear()
        self.ledger.clear()

    def __bool__(self) -> bool:
        """Return whether there is anything that could say no."""
        return bool(self.ledger) or bool(self.rates)

    def look(self, bill: Bill, *, now_us: int) -> Short | Wait | None:
        """Return what does not admit a call now, without taking anything; None if nothing keeps it."""
        short = self.ledger.shortage(bill.session_id, bill.wp_id, bill.expected)
        return short or self.rates.look(bill.provider_id, bill.expected.tokens, now_us=now_us)

    def ask(self, bill: Bill, *, now_us: int) -> Short | Wait | None:
        """Reserve what a call is expected to take, or return what does not admit it now; None if it may start."""
        if self.ledger:
            short = self.ledger.shortage(bill.session_id, bill.wp_id, bill.expected)
            if short is not None:
                return short
        wait = self.rates.take(bill.provider_id, bill.expected.tokens, now_us=now_us)
        if wait is None and self.ledger:
            self.ledger.reserve(bill.session_id, bill.wp_id, bill.expected)
        return wait

    def settle(self, bill: Bill, taken: Amounts, reach: Reach) -> None:
        """Correct what was reserved for a call by what it took.

        A call that sent nothing took nothing; its request counts unless no connection was even tried.

        Source:
            scheduler.rate.reconciles_usage.
        """
        if reach is not Reach.SENT:
            taken = NOTHING
        self.rates.settle(
            bill.provider_id,
            requests=-1 if reach is Reach.NOTHING else 0,
            tokens=taken.tokens - bill.expected.tokens,
        )
        if self.ledger:
            self.ledger.settle(bill.session_id, bill.wp_id, reserved=bill.expected, taken=taken)
