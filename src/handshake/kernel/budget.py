"""Budget: what may be spent in a session, a work packet and the workspace; reserved before a call, settled after it.

A run reserves what it is expected to take under every budget that binds it, or under none. What it took replaces the
reservation; a call that nobody knows the use of took all that it had reserved, and one that was never sent nothing.

Source:
    scheduler.budget.reserved_before_dispatch (01 §5); decision 0015.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import NamedTuple

import msgspec

from handshake.kernel.usage import TokenUsage

WARNING_PERCENT = 80
"""How much of a limit is spent when people are warned."""
TOKENS_PER_PRICE = 1_000_000
"""Tokens for which a price is given."""
BYTES_PER_TOKEN = 4
"""How many bytes of text are taken for one token before the provider has counted."""


class BudgetScope(StrEnum):
    """What a budget is for, narrowest first."""

    SESSION = "session"
    WORK_PACKET = "work_packet"
    WORKSPACE = "workspace"


class BudgetType(StrEnum):
    """What a budget counts; it is the unit of the values beside it."""

    CALLS = "calls"
    TOKENS = "tokens"
    USD_MICRO = "usd_micro"


class BudgetKey(NamedTuple):
    """One limit: whose, and of what. The workspace's name is empty."""

    scope: BudgetScope
    name: str
    kind: BudgetType


class Amounts(msgspec.Struct, frozen=True, gc=False):
    """What a call takes of each kind, expected or real."""

    tokens: int = 0
    usd_micro: int = 0
    calls: int = 1

    def of(self, kind: BudgetType) -> int:
        """Return the amount of one kind."""
        if kind is BudgetType.TOKENS:
            return self.tokens
        return self.usd_micro if kind is BudgetType.USD_MICRO else self.calls


NOTHING = Amounts(calls=0)
"""What a call took that was never sent."""


class Account(msgspec.Struct, frozen=True, gc=False):
    """One limit with what is spent and what is reserved under it, both at least 0."""

    limit: int
    spent: int = 0
    reserved: int = 0
    warned: bool = False
    """Whether people were told that it is nearly used up."""
    paused: bool = False
    """Whether people were told that something did not fit any more."""


class Fit(Enum):
    """Whether something more fits under a limit."""

    NOW = 0
    LATER = 1
    """It may, once what is reserved has been settled."""
    NEVER = 2
    """Too much is spent, and that never becomes less."""


def fits(account: Account, amount: int) -> Fit:
    """Return whether `amount` fits under the limit beside what is spent and reserved; nothing always does."""
    if not amount or account.spent + account.reserved + amount <= account.limit:
        return Fit.NOW
    return Fit.LATER if account.spent + amount <= account.limit else Fit.NEVER


def reserve(account: Account, amount: int) -> Account:
    """Return the account with `amount` reserved, for which there is room."""
    return msgspec.structs.replace(account, reserved=account.reserved + amount)


def settle(account: Account, *, reserved: int, taken: int) -> Account:
    """Return the account with a reservation replaced by what was taken, be it more or less."""
    return msgspec.structs.replace(account, spent=account.spent + taken, reserved=max(0, account.reserved - reserved))


def threshold(limit: int) -> int:
    """Return the amount at which people are warned, rounded up."""
    return -(-limit * WARNING_PERCENT // 100)


def relimit(account: Account, limit: int) -> Account:
    """Return the account under another limit; what people were told is told again once it is true again."""
    warned = account.warned and account.spent >= threshold(limit)
    paused = account.paused and limit <= account.limit
    return msgspec.structs.replace(account, limit=limit, warned=warned, paused=paused)


class Price(msgspec.Struct, frozen=True, gc=False):
    """What a million tokens cost, in millionths of a US dollar."""

    input_usd_micro: int
    output_usd_micro: int

    def of(self, prompt_tokens: int, completion_tokens: int) -> int:
        """Return the cost of a call in micro-USD, rounded up."""
        cost = prompt_tokens * self.input_usd_micro + completion_tokens * self.output_usd_micro
        return -(-cost // TOKENS_PER_PRICE)


FREE = Price(0, 0)
"""The price of a local model for which nobody set one."""


def expect(text_bytes: int, output_tokens: int, price: Price) -> Amounts:
    """Return what a call is expected to take: a token for four bytes of its text, and its longest answer."""
    prompt_tokens = -(-text_bytes // BYTES_PER_TOKEN)
    return Amounts(prompt_tokens + output_tokens, price.of(prompt_tokens, output_tokens))


class Settled(msgspec.Struct, frozen=True, gc=False):
    """What a call took, and whether any figure of it is only what was expected."""

    amounts: Amounts
    is_estimate: bool


def judge(expected: Amounts, usage: TokenUsage | None, price: Price) -> Settled:
    """Return what a call took by what its provider reported; what it did not report is taken as expected.

    Source:
        provider.usage.missing_is_null: a missing figure stays missing, and what stands in for it says so.
    """
    told = usage or TokenUsage()
    prompt, completion, tokens = told.prompt_tokens, told.completion_tokens, told.total_tokens
    if tokens is None and prompt is not None and completion is not None:
        tokens = prompt + completion
    cost = None if prompt is None or completion is None else price.of(prompt, completion)
    if price == FREE:
        cost = 0
    return Settled(
        Amounts(
            expected.tokens if tokens is None else tokens, expected.usd_micro if cost is None else cost, expected.calls
        ),
        tokens is None or cost is None,
    )
