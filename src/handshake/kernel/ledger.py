"""Ledger: the budgets that bind queued and running runs, in memory; the rows are the truth.

It knows the workspace's and the work packets' budgets, and those of sessions that have something queued or running, or
had lately.

Source:
    scheduler.budget.reserved_before_dispatch (01 §5); decision 0015.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from handshake.kernel.budget import (
    Account,
    Amounts,
    BudgetKey,
    BudgetScope,
    Fit,
    fits,
    reserve,
    settle,
    threshold,
)

_Name = tuple[BudgetScope, str]
_WORKSPACE: _Name = (BudgetScope.WORKSPACE, "")


class Short(msgspec.Struct, frozen=True, gc=False):
    """A limit under which something does not fit, and whether it may later."""

    key: BudgetKey
    account: Account
    fit: Fit


class NearlySpent(msgspec.Struct, frozen=True, gc=False):
    """A budget is nearly used up; `session_id` is whose call took it there."""

    session_id: str
    key: BudgetKey
    account: Account


class Ledger:
    """Accounts by whose they are; a call takes from all that bind it, or from none."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything, before it is read again."""
        self._accounts: dict[_Name, dict[BudgetKey, Account]] = {}
        self._dirty: dict[BudgetKey, Account] = {}
        self._warnings: list[NearlySpent] = []

    def __bool__(self) -> bool:
        """Return whether there is any budget."""
        return bool(self._accounts)

    def knows(self, scope: BudgetScope, name: str) -> bool:
        """Return whether there is a budget of this name in memory."""
        return (scope, name) in self._accounts

    def load(self, accounts: Iterable[tuple[BudgetKey, Account]]) -> None:
        """Take over accounts as they are stored."""
        for key, account in accounts:
            self._accounts.setdefault((key.scope, key.name), {})[key] = account

    def shortage(self, session_id: str, wp_id: str | None, amounts: Amounts) -> Short | None:
        """Return a limit under which a call does not fit, one that it can never fit under first; None if it fits."""
        found = None
        for held in self._binding(session_id, wp_id):
            for key, account in held.items():
                fit = fits(account, amounts.of(key.kind))
                if fit is Fit.NEVER:
                    return Short(key, account, fit)
                if fit is Fit.LATER:
                    found = found or Short(key, account, fit)
        return found

    def is_waiting(self, session_id: str, amounts: Amounts) -> bool:
        """Return whether a session's call waits until what the session itself has reserved is settled."""
        own = self._accounts.get((BudgetScope.SESSION, session_id), {})
        found = {fits(account, amounts.of(key.kind)) for key, account in own.items()}
        return Fit.LATER in found and Fit.NEVER not in found

    def reserve(self, session_id: str, wp_id: str | None, amounts: Amounts) -> None:
        """Reserve what a call is expected to take, under every budget that binds it; there is room."""
        for held in self._binding(session_id, wp_id):
            for key, account in held.items():
                self._put(held, key, reserve(account, amounts.of(key.kind)))

    def settle(self, session_id: str, wp_id: str | None, *, reserved: Amounts, taken: Amounts) -> None:
        """Replace what a call had reserved by what it took."""
        for held in self._binding(session_id, wp_id):
            for key, account in held.items():
                after = settle(account, reserved=reserved.of(key.kind), taken=taken.of(key.kind))
                if not after.warned and 0 < threshold(after.limit) <= after.spent:
                    after = msgspec.structs.replace(after, warned=True)
                    self._warnings.append(NearlySpent(session_id, key, after))
                self._put(held, key, after)

    def pause(self, key: BudgetKey) -> bool:
        """Note that something did not fit under a limit; return whether this is the first time."""
        held = self._accounts[key.scope, key.name]
        if held[key].paused:
            return False
        self._put(held, key, msgspec.structs.replace(held[key], paused=True))
        return True

    def forget(self, session_id: str) -> None:
        """Let go of a session's budget that nothing is reserved under and that is stored; it is read when needed."""
        name = (BudgetScope.SESSION, session_id)
        held = self._accounts.get(name)
        if held and not any(one.reserved or key in self._dirty for key, one in held.items()):
            del self._accounts[name]

    def drain_dirty(self) -> dict[BudgetKey, Account]:
        """Return the accounts that changed since the last call, for storing."""
        changed, self._dirty = self._dirty, {}
        return changed

    def drain_warnings(self) -> list[NearlySpent]:
        """Return whom to warn since the last call."""
        found, self._warnings = self._warnings, []
        return found

    def _binding(self, session_id: str, wp_id: str | None) -> list[dict[BudgetKey, Account]]:
        """Return the accounts that bind a call: its session's, its work packet's, the workspace's."""
        names = ((BudgetScope.SESSION, session_id), (BudgetScope.WORK_PACKET, wp_id or ""), _WORKSPACE)
        return [held for name in names if (held := self._accounts.get(name)) is not None]

    def _put(self, held: dict[BudgetKey, Account], key: BudgetKey, account: Account) -> None:
        held[key] = self._dirty[key] = account
