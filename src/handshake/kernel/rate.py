"""Rate: what each provider admits per minute, how much of it is owed, and until when a provider is closed.

Changes that come between two moments of the scheduler's clock (`settle`, `close`) are noted and take effect at the
next `apply`, which is told the time; so nobody who records an outcome has to know it.

Source:
    scheduler.rate.requests_and_tokens, scheduler.rate.reconciles_usage, scheduler.rate.honours_retry_after (01 §5);
    decision 0014.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from handshake.kernel.bucket import Bucket, Wait, correct, take


class Rate(msgspec.Struct, frozen=True):
    """What a provider admits per minute; None is no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


UNLIMITED = Rate()


class Gate(msgspec.Struct, frozen=True, gc=False):
    """What is owed to one provider, and until when it is closed; all times are of one clock."""

    requests: Bucket = Bucket()
    tokens: Bucket = Bucket()
    closed_until_us: int = 0


def admit(gate: Gate, rate: Rate, *, tokens: int, now_us: int) -> Gate | Wait:
    """Take one request and `tokens` from both buckets, or neither, and say how long to wait for both.

    Returns:
        The gate after the taking, or the least time after which the same call succeeds.
    """
    requests: Bucket | Wait = gate.requests
    if rate.requests_per_minute is not None:
        requests = take(gate.requests, 1, per_minute=rate.requests_per_minute, now_us=now_us)
    held: Bucket | Wait = gate.tokens
    if rate.tokens_per_minute is not None:
        held = take(gate.tokens, tokens, per_minute=rate.tokens_per_minute, now_us=now_us)
    waits = [one.us for one in (requests, held) if isinstance(one, Wait)]
    if gate.closed_until_us > now_us:
        waits.append(gate.closed_until_us - now_us)
    if waits or isinstance(requests, Wait) or isinstance(held, Wait):
        return Wait(max(waits))
    return Gate(requests, held, gate.closed_until_us)


class _Change(msgspec.Struct, frozen=True, gc=False):
    provider_id: str
    requests: int
    tokens: int
    closed_us: int


class Rates:
    """The gates of all providers; a provider without rates has one while and after it was closed."""

    def __init__(self, rates: Mapping[str, Rate]) -> None:
        self._rates = {name: rate for name, rate in rates.items() if rate != UNLIMITED}
        self.clear()

    def clear(self) -> None:
        """Forget what is owed, before it is read again."""
        self._gates: dict[str, Gate] = {name: Gate() for name in self._rates}
        self._changes: list[_Change] = []
        self._dirty: dict[str, Gate] = {}

    def __bool__(self) -> bool:
        """Return whether any provider has a rate, or was closed."""
        return bool(self._gates)

    def restore(self, provider_id: str, gate: Gate) -> None:
        """Take over what was stored of one provider."""
        self._gates[provider_id] = gate

    def look(self, provider_id: str, tokens: int, *, now_us: int) -> Wait | None:
        """Return how long one request of `tokens` would wait, without taking it; None if not at all."""
        after = self._after(provider_id, tokens, now_us)
        return after if isinstance(after, Wait) else None

    def take(self, provider_id: str, tokens: int, *, now_us: int) -> Wait | None:
        """Take one request and `tokens` of a provider; return how long to wait if they are not to be had."""
        after = self._after(provider_id, tokens, now_us)
        if isinstance(after, Wait):
            return after
        if after is not None and provider_id in self._rates:
            self._gates[provider_id] = self._dirty[provider_id] = after
        return None

    def _after(self, provider_id: str, tokens: int, now_us: int) -> Gate | Wait | None:
        gate = self._gates.get(provider_id)
        if gate is None:
            return None
        return admit(gate, self._rates.get(provider_id, UNLIMITED), tokens=tokens, now_us=now_us)

    def settle(self, provider_id: str, *, requests: int, tokens: int) -> None:
        """Note what a call used beyond what was taken for it; what is below 0 goes back."""
        if (requests or tokens) and provider_id in self._rates:
            self._changes.append(_Change(provider_id, requests, tokens, 0))

    def close(self, provider_id: str, span_us: int) -> None:
        """Note that nothing goes to a provider for `span_us` from the next `apply`."""
        self._changes.append(_Change(provider_id, 0, 0, span_us))

    def apply(self, now_us: int) -> None:
        """Let what was noted take effect at `now_us`."""
        changes, self._changes = self._changes, []
        for one in changes:
            gate = self._gates.get(one.provider_id, Gate())
            rate = self._rates.get(one.provider_id, UNLIMITED)
            requests, tokens = gate.requests, gate.tokens
            if one.requests and rate.requests_per_minute is not None:
                requests = correct(requests, one.requests, per_minute=rate.requests_per_minute, now_us=now_us)
            if one.tokens and rate.tokens_per_minute is not None:
                tokens = correct(tokens, one.tokens, per_minute=rate.tokens_per_minute, now_us=now_us)
            closed = max(gate.closed_until_us, now_us + one.closed_us) if one.closed_us else gate.closed_until_us
            self._gates[one.provider_id] = self._dirty[one.provider_id] = Gate(requests, tokens, closed)

    def drain_dirty(self) -> dict[str, Gate]:
        """Return the gates that changed since the last call, for storing."""
        changed, self._dirty = self._dirty, {}
        return changed
