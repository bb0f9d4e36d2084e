"""Spending check: rates over every window, closures, and budgets, counted from events and calls alone.

A window of time holds at most burst + rate x window of what was taken, less what was given back; what a call took
beyond its reservation counts too. One running sum per rate says so for all windows at once (`testing.rate_windows`).
"""

from __future__ import annotations

from collections import Counter

import msgspec

from handshake.kernel.retry import RETRY_AFTER_MAX_MS
from handshake.kernel.settings import BudgetSettings, Settings
from handshake.kernel.units import US_PER_MS
from handshake.testing.rate_windows import MINUTE_US
from handshake.testing.simulator.journal import Journal, ToldEvent, ToldJob
from handshake.testing.simulator.scripted_provider import Call
from handshake.testing.simulator.violation import require
from handshake.testing.virtual_clock import VirtualClock

ROUNDING_US = 2_000
"""Events tell waits in whole milliseconds."""
_OVER = frozenset(
    {"llm_inference", "session_scheduler.retry", "session_scheduler.cancelled", "workflow_recovery"}
)  # after any of them the attempt is over
_BUSY = 429


class _Windows:
    """One rate: the most that a window that ends now holds beyond it."""

    def __init__(self, per_minute: int | None) -> None:
        self._per_minute = per_minute
        self._over = 0
        self._at_us = 0
        self._largest = 0

    def add(self, amount: int, now_us: int) -> None:
        """Count what was taken, or given back, or owed."""
        if self._per_minute is not None:
            self._over = max(0, self._over - (now_us - self._at_us) * self._per_minute) + amount * MINUTE_US
            self._over = max(0, self._over)
            self._at_us = now_us

    def take(self, amount: int, now_us: int) -> bool:
        """Count a taking, and return whether every window that ends with it keeps the law."""
        self.add(amount, now_us)
        self._largest = max(self._largest, amount)
        if self._per_minute is None:
            return True
        return self._over <= max(self._per_minute * MINUTE_US // 6, self._largest * MINUTE_US)


class _Rate:
    """The windows of one rate: all of them, and those of this life of the runtime."""

    def __init__(self, per_minute: int | None) -> None:
        self._per_minute = per_minute
        self._whole = _Windows(per_minute)
        self.restart()

    def restart(self) -> None:
        """Begin a new life."""
        self._lately = _Windows(self._per_minute)

    def add(self, amount: int, now_us: int) -> None:
        """Count what was given back, or is owed."""
        self._whole.add(amount, now_us)
        self._lately.add(amount, now_us)

    def take(self, amount: int, now_us: int) -> str | None:
        """Count a taking; return the promise that it breaks, or None."""
        lately, whole = self._lately.take(amount, now_us), self._whole.take(amount, now_us)
        if whole:
            return None
        return "scheduler.rate.survives_restart" if lately else "scheduler.rate.requests_and_tokens"


class _Attempt(msgspec.Struct):
    job: ToldJob
    was_called: bool = False


class SpendingCheck:
    """What was taken from providers and budgets.

    Args:
        journal: sessions and jobs as the log tells them.
        settings: rates and budgets.
        clock: the time.
    """

    def __init__(self, journal: Journal, settings: Settings, clock: VirtualClock) -> None:
        self._journal = journal
        self._clock = clock
        self._requests = {name: _Rate(one.requests_per_minute) for name, one in settings.providers.items()}
        self._tokens = {name: _Rate(one.tokens_per_minute) for name, one in settings.providers.items()}
        self._closed_until_us: dict[str, int] = {}
        self._closed_before: set[str] = set()
        """Providers that were closed when a runtime died."""
        self._limits = _limits(settings)
        self._spent: Counter[tuple[str, str]] = Counter()
        self._reserved: Counter[tuple[str, str]] = Counter()
        self._open: dict[str, _Attempt] = {}
        self._answers: dict[str, Call] = {}
        self._told_limited: set[tuple[str, int]] = set()
        self._clock_moved = False

    def limit_session(self, session_id: str, *, tokens: int | None, calls: int | None) -> None:
        """Take note of a session's own budget."""
        self._limits.update(_limit_of(f"session {session_id}", tokens, calls))

    def clock_moved(self) -> None:
        """Take note that the wall clock was set: what a restart makes of stored times is not judged."""
        self._clock_moved = True

    def restarted(self) -> None:
        """Take note of a new life; rates and closures go on, unless the clock was set meanwhile."""
        for rate in (*self._requests.values(), *self._tokens.values()):
            rate.restart()
        if self._clock_moved:
            self._closed_until_us.clear()
        self._closed_before = set(self._closed_until_us)

    def hear(self, event: ToldEvent) -> None:
        """Judge an event.

        Raises:
            Violation: a rate, a closure or a budget was not kept.
        """
        job = self._journal.jobs.get(event.job_id or "")
        if job is None:
            return
        if event.type == "session_scheduler.dispatch" and not job.at_tools:
            self._began(job)
        elif event.type == "session_scheduler.rate_limited":
            self._limited(job, event)
        elif event.type == "session_scheduler.retry":
            self._retried(job, event)
        if event.type in _OVER:
            self._over(job, event)

    def called(self, job: ToldJob, call: Call) -> None:
        """Take note that a call of the running attempt reached its provider."""
        attempt = self._open.get(job.job_id)
        if attempt is not None:
            attempt.was_called = True
        self._answers[job.job_id] = call

    def _began(self, job: ToldJob) -> None:
        now_us = self._clock.monotonic_us()
        provider = job.key.provider_id
        closed = now_us < self._closed_until_us.get(provider, 0) - ROUNDING_US
        before = provider in self._closed_before
        known = "scheduler.rate.survives_restart" if before else "scheduler.rate.honours_retry_after"
        require(not closed, known, "sent to a provider that is closed", job.job_id)
        for rate, amount, what in (
            (self._requests[provider], 1, "requests"),
            (self._tokens[provider], job.estimated_tokens, "tokens"),
        ):
            broken = rate.take(amount, now_us)
            require(broken is None, broken or "", f"too many {what} to {provider}", job.job_id)
        self._open[job.job_id] = _Attempt(job)
        for name, limit in self._limits_of(job):
            amount = self._amount(name, job.estimated_tokens)
            fits = self._spent[name] + self._reserved[name] + amount <= limit
            require(fits, "scheduler.budget.reserved_before_dispatch", f"over the budget of {name}", job.job_id)
            self._reserved[name] += amount

    def _over(self, job: ToldJob, event: ToldEvent) -> None:
        """Settle the attempt that was open: by what was reported, in full, or with nothing if nothing was sent."""
        attempt = self._open.pop(job.job_id, None)
        if attempt is None:
            return
        now_us, provider = self._clock.monotonic_us(), job.key.provider_id
        taken = _used(event, job.estimated_tokens) if attempt.was_called else 0
        self._tokens[provider].add(taken - job.estimated_tokens, now_us)
        if not attempt.was_called:
            self._requests[provider].add(-1, now_us)
        for name, _ in self._limits_of(job):
            self._reserved[name] -= self._amount(name, job.estimated_tokens)
            self._spent[name] += self._amount(name, taken) if attempt.was_called else 0

    def _limited(self, job: ToldJob, event: ToldEvent) -> None:
        if event.payload["attempt"] != job.attempt:  # a wait that begins, for a rate or for a closure told before
            return
        wait_us = event.payload["backoff_ms"] * US_PER_MS
        provider = job.key.provider_id
        until_us = self._clock.monotonic_us() + wait_us
        self._closed_until_us[provider] = max(until_us, self._closed_until_us.get(provider, 0))
        self._closed_before.discard(provider)
        self._told_limited.add((job.job_id, job.attempt))
        answer = self._answers.get(job.job_id)
        asked_us = min((answer.retry_after_us if answer else 0) or 0, RETRY_AFTER_MAX_MS * US_PER_MS)
        long = wait_us >= asked_us
        require(long, "scheduler.rate.honours_retry_after", "a provider is closed for less than it asked", job.job_id)

    def _retried(self, job: ToldJob, event: ToldEvent) -> None:
        if event.payload.get("status") == _BUSY:
            told = (job.job_id, job.attempt) in self._told_limited
            require(told, "scheduler.rate.backoff_is_logged", "a 429 did not close its provider", job.job_id)

    def _limits_of(self, job: ToldJob) -> list[tuple[tuple[str, str], int]]:
        scopes = ["workspace", f"session {job.session_id}"] + ([f"packet {job.wp_id}"] if job.wp_id else [])
        names = [(scope, kind) for scope in scopes for kind in ("tokens", "calls")]
        return [(name, self._limits[name]) for name in names if name in self._limits]

    def _amount(self, name: tuple[str, str], tokens: int) -> int:
        return tokens if name[1] == "tokens" else 1


def _used(event: ToldEvent, expected: int) -> int:
    usage = event.payload.get("token_usage") or {}
    if usage.get("total_tokens") is not None:
        return int(usage["total_tokens"])
    if usage.get("prompt_tokens") is not None and usage.get("completion_tokens") is not None:
        return int(usage["prompt_tokens"]) + int(usage["completion_tokens"])
    return expected


def _limits(settings: Settings) -> dict[tuple[str, str], int]:
    budgets: BudgetSettings = settings.budgets
    found = _limit_of("workspace", budgets.tokens, budgets.calls)
    for name, one in settings.budgets.work_packets.items():
        found.update(_limit_of(f"packet {name}", one.tokens, one.calls))
    return found


def _limit_of(scope: str, tokens: int | None, calls: int | None) -> dict[tuple[str, str], int]:
    given = {(scope, "tokens"): tokens, (scope, "calls"): calls}
    return {name: limit for name, limit in given.items() if limit is not None}
