"""Limits: how many runs may be in progress at once, in all and per provider, model and group; rates and prices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from handshake.kernel.budget import FREE, Price
from handshake.kernel.lane import Lane, may_take
from handshake.kernel.rate import Rate


class SlotKey(NamedTuple):
    """What a run's shared limits hang on; runs with equal keys wait for the same slots."""

    provider_id: str
    model_id: str
    group: str | None


class Limits(msgspec.Struct, frozen=True):
    """Most runs at once; a provider, model or group that is not named has the default of its kind."""

    total: int
    primary_reserved: int
    provider_default: int
    model_default: int
    providers: Mapping[str, int] = {}
    models: Mapping[tuple[str, str], int] = {}
    groups: Mapping[str, int] = {}
    rates: Mapping[str, Rate] = {}
    """By provider."""
    prices: Mapping[tuple[str, str], Price] = {}
    """By provider and model; one that is not named costs nothing."""

    def price_of(self, key: SlotKey) -> Price:
        """Return what the key's model costs."""
        return self.prices.get((key.provider_id, key.model_id), FREE)

    def of_provider(self, key: SlotKey) -> int:
        """Return the most runs at once of the key's provider."""
        return self.providers.get(key.provider_id, self.provider_default)

    def of_model(self, key: SlotKey) -> int:
        """Return the most runs at once of the key's model."""
        return self.models.get((key.provider_id, key.model_id), self.model_default)


class Usage:
    """Slots in use. `total` counts running runs; the others count attempts whose connection may be open."""

    __slots__ = ("_groups", "_models", "_providers", "primary", "total")

    def __init__(self) -> None:
        self.total = 0
        self.primary = 0
        self._providers: dict[str, int] = {}
        self._models: dict[tuple[str, str], int] = {}
        self._groups: dict[str, int] = {}

    def take_run(self, lane: Lane) -> None:
        """Count a run that started."""
        self.total += 1
        self.primary += lane is Lane.PRIMARY

    def free_run(self, lane: Lane) -> None:
        """Count a run that left `running`."""
        self.total -= 1
        self.primary -= lane is Lane.PRIMARY

    def take_connection(self, key: SlotKey) -> None:
        """Count an attempt that may open its connection."""
        self._add(key, 1)

    def free_connection(self, key: SlotKey) -> None:
        """Count an attempt whose connection is confirmed closed."""
        self._add(key, -1)

    def _add(self, key: SlotKey, step: int) -> None:
        model = (key.provider_id, key.model_id)
        self._providers[key.provider_id] = self._providers.get(key.provider_id, 0) + step
        self._models[model] = self._models.get(model, 0) + step
        if key.group is not None:
            self._groups[key.group] = self._groups.get(key.group, 0) + step

    def full(self, key: SlotKey, limits: Limits) -> str | None:
        """Return which shared limit of `key` is reached, as a wait reason, or None."""
        if self._providers.get(key.provider_id, 0) >= limits.of_provider(key):
            return "provider_limit"
        if self._models.get((key.provider_id, key.model_id), 0) >= limits.of_model(key):
            return "model_limit"
        if key.group is not None:
            limit = limits.groups.get(key.group)
            if limit is not None and self._groups.get(key.group, 0) >= limit:
                return "group_limit"
        return None

    def closed_to(self, lane: Lane, limits: Limits) -> str | None:
        """Return why `lane` may not take a global slot now, as a wait reason, or None."""
        free = may_take(
            lane, running=self.total, primary=self.primary, limit=limits.total, reserved=limits.primary_reserved
        )
        if free:
            return None
        return "global_limit" if self.total >= limits.total else "primary_reserve"

    def largest(self) -> Mapping[str, int]:
        """Return counts per provider, for display and cross-checks."""
        return {name: count for name, count in self._providers.items() if count}
