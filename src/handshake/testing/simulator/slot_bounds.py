"""Slot bounds: how many runs and calls the settings allow at once, said without the scheduler's own rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from handshake.kernel.lane import LANES, Lane
from handshake.kernel.limit import SlotKey
from handshake.kernel.settings import Settings

Name = tuple[str, str]
"""Kind and name of a shared limit."""


class SlotBounds:
    """The limits that settings give; every provider is local in this part."""

    def __init__(self, settings: Settings) -> None:
        scheduler = settings.scheduler
        self._providers = settings.providers
        self._groups = scheduler.concurrency_groups
        self._per_provider = scheduler.max_concurrent_per_provider.local
        self._per_model = scheduler.max_concurrent_per_model.local
        self.calls = settings.calls
        self.lease_grace_ms = settings.recovery.lease_grace_ms
        self.total = scheduler.max_concurrent_runs
        self.reserved = scheduler.primary_reserved_runs
        self.rated = frozenset(
            name
            for name, provider in settings.providers.items()
            if provider.requests_per_minute is not None or provider.tokens_per_minute is not None
        )
        """Providers that admit only so much a minute."""
        self.weights = {lane: scheduler.lane_weights.of(lane) for lane in LANES}

    def of(self, key: SlotKey) -> Iterator[tuple[Name, int]]:
        """Yield the shared limits of a key: which, and how many."""
        provider = self._providers[key.provider_id]
        yield ("provider", key.provider_id), provider.max_concurrent or self._per_provider
        model = provider.models.get(key.model_id)
        yield ("model", f"{key.provider_id}/{key.model_id}"), (model and model.max_concurrent) or self._per_model
        group = model.group if model else None
        if group is not None:
            yield ("group", group), self._groups[group]

    def admits(self, lane: Lane, *, running: int, primary: int) -> bool:
        """Return whether one more run of `lane` may start beside `running`, of which `primary` are PRIMARY's."""
        if running >= self.total:
            return False
        return lane is Lane.PRIMARY or running - primary < self.total - self.reserved


class SlotCount:
    """Connections at once, by shared limit."""

    def __init__(self, bounds: SlotBounds) -> None:
        self._bounds = bounds
        self._counts: Counter[Name] = Counter()

    def add(self, key: SlotKey, step: int) -> None:
        """Count one connection more or less."""
        for name, _ in self._bounds.of(key):
            self._counts[name] += step

    def full(self, key: SlotKey) -> Name | None:
        """Return a limit of `key` that has no room for one more, or None."""
        return next((name for name, limit in self._bounds.of(key) if self._counts[name] >= limit), None)

    def over(self, key: SlotKey) -> Name | None:
        """Return a limit of `key` that is exceeded, or None."""
        return next((name for name, limit in self._bounds.of(key) if self._counts[name] > limit), None)
