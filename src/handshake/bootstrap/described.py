"""Described: what the settings describe of providers: their adapters, limits and declarations."""

from __future__ import annotations

from handshake.gate.egress import Egress
from handshake.kernel.ids import ProviderId
from handshake.kernel.limit import Limits
from handshake.kernel.locality import Declared, parse_endpoint
from handshake.kernel.rate import Rate
from handshake.kernel.redaction import KnownValues
from handshake.kernel.settings import ProviderSettings, Settings
from handshake.operations.declarations import Declaration
from handshake.operations.runs import KnownModels, price_of
from handshake.ports.clock import Clock
from handshake.ports.model import Model
from handshake.providers.http_model import HttpModel
from handshake.runners.machine import MachineClock
from handshake.storage.secrets import Secrets


def closed_door(settings: Settings) -> Egress:
    """Return a door to models through which nothing passes: it only tells where a model would run."""
    return Egress(http_models(settings, MachineClock(), Secrets(KnownValues())), lambda ticket: False)


def http_models(settings: Settings, clock: Clock, secrets: Secrets) -> dict[ProviderId, Model]:
    """Return an adapter for every configured provider; nothing is opened or resolved yet.

    Raises:
        InvalidBaseUrl: a provider's URL is malformed.
    """
    return {
        ProviderId(name): HttpModel(
            ProviderId(name),
            parse_endpoint(entry.base_url),
            _declared(entry),
            clock=clock,
            secret=secrets,
            credential_ref=entry.credential,
            tools=entry.tool_support,
        )
        for name, entry in settings.providers.items()
    }


def limits_of(settings: Settings) -> Limits:
    """Return the limits that the settings give; every provider is local until part 5."""
    scheduler = settings.scheduler
    return Limits(
        total=scheduler.max_concurrent_runs,
        primary_reserved=scheduler.primary_reserved_runs,
        provider_default=scheduler.max_concurrent_per_provider.local,
        model_default=scheduler.max_concurrent_per_model.local,
        providers={name: entry.max_concurrent for name, entry in settings.providers.items() if entry.max_concurrent},
        models={
            (name, model): known.max_concurrent
            for name, entry in settings.providers.items()
            for model, known in entry.models.items()
            if known.max_concurrent
        },
        groups=dict(scheduler.concurrency_groups),
        rates={
            name: Rate(entry.requests_per_minute, entry.tokens_per_minute)
            for name, entry in settings.providers.items()
            if entry.requests_per_minute or entry.tokens_per_minute
        },
        prices={
            (name, model): price
            for name, entry in settings.providers.items()
            for model, known in entry.models.items()
            if (price := price_of(known)) is not None
        },
    )


def declarations_of(settings: Settings) -> tuple[Declaration, ...]:
    """Return what the settings declare about where providers run."""
    return tuple(
        Declaration(name, parse_endpoint(entry.base_url).origin, entry.run_by_operator)
        for name, entry in settings.providers.items()
        if entry.run_by_operator is not None
    )


def known_models(settings: Settings) -> KnownModels:
    """Return what the settings know of models, by provider and model."""
    return {
        (provider, model): known
        for provider, entry in settings.providers.items()
        for model, known in entry.models.items()
    }


def _declared(entry: ProviderSettings) -> Declared:
    return Declared(run_by_operator=entry.run_by_operator, forwards_to_cloud=entry.forwards_to_cloud)
