"""Provider settings: what a workspace is told of its providers and their models, and what models are offered.

Source:
    03 §7, provider.tools.never_silent (INV-PROV-002).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, field

from handshake.kernel.ids import ModelId
from handshake.kernel.section import CredentialReference, Section, Text, Url

MAX_SLOTS = 4_096
"""Most calls that one process keeps open at a time: sockets, buffers, tasks."""
MAX_PRICE_USD_MICRO = 1_000_000 * 1_000_000
"""Dearest million tokens: a million dollars; more is a slip of the unit."""
PRICE_PLACES = 6
"""Decimal places of a price: micro-USD."""

Slots = Annotated[int, Meta(ge=1, le=MAX_SLOTS)]
RequestsPerMinute = Annotated[int, Meta(ge=1, le=1_000_000)]
TokensPerMinute = Annotated[int, Meta(ge=1, le=1_000_000_000)]
ModelTokens = Annotated[int, Meta(ge=1, le=100_000_000)]
Price = Annotated[int, Meta(ge=0, le=MAX_PRICE_USD_MICRO, extra={"decimal_places": PRICE_PLACES})]
"""US dollars as a decimal in a layer, exact micro-USD here."""
GroupName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        pattern="^[A-Za-z0-9][A-Za-z0-9_.:-]*$",
        extra={"expected": "1 to 64 letters, digits and _ . : -"},
    ),
]


class Dialect(StrEnum):
    """A protocol that a provider speaks."""

    OPENAI_CHAT = "openai_chat"
    OPENAI_RESPONSES = "openai_responses"
    ANTHROPIC_MESSAGES = "anthropic_messages"
    OPENAI_EMBEDDINGS = "openai_embeddings"


class ToolSupport(StrEnum):
    """How a model is offered tools, and asks for them."""

    NATIVE = "native"
    """As functions of its protocol."""
    EMULATED = "emulated"
    """In the texts, by a fixed form that its own answers are read for."""
    NONE = "none"
    """Not at all: a run that would offer it any is refused."""


class ModelSettings(Section, frozen=True, kw_only=True):
    """One model of a provider; what is None is read from the engine or the price table, or is unknown."""

    context_window: Annotated[ModelTokens | None, Meta(description="Tokens that fit, input and output.")] = None
    max_output_tokens: Annotated[ModelTokens | None, Meta(description="Tokens of the longest answer.")] = None
    input_usd_micro_per_million: Annotated[Price | None, Meta(description="USD for a million tokens sent.")] = field(
        default=None, name="input_usd_per_million"
    )
    output_usd_micro_per_million: Annotated[Price | None, Meta(description="USD for a million tokens answered.")] = (
        field(default=None, name="output_usd_per_million")
    )
    max_concurrent: Annotated[Slots | None, Meta(description="Calls at a time; else the scheduler's default.")] = None
    group: Annotated[GroupName | None, Meta(description="The concurrency group that its calls count to.")] = None
    tools: Annotated[
        ToolSupport, Meta(description="How it is offered tools: as functions, within the texts, or not at all.")
    ] = ToolSupport.NATIVE


class ProviderSettings(Section, frozen=True, kw_only=True):
    """One provider (03 §7)."""

    dialects: Annotated[
        tuple[Dialect, ...], Meta(min_length=1, max_length=4, description="Protocols that it speaks, preferred first.")
    ]
    base_url: Annotated[Url, Meta(description="Where it is, without the path of an operation.")]
    credential: Annotated[
        CredentialReference | None, Meta(description="Where its key is found, never the key itself.")
    ] = None
    requests_per_minute: Annotated[RequestsPerMinute | None, Meta(description="Rate; absent: unlimited.")] = None
    tokens_per_minute: Annotated[TokensPerMinute | None, Meta(description="Rate; absent: unlimited.")] = None
    max_concurrent: Annotated[Slots | None, Meta(description="Calls at a time; else the scheduler's default.")] = None
    run_by_operator: Annotated[Text | None, Meta(description="Why a private address counts as local.")] = None
    forwards_to_cloud: Annotated[bool, Meta(description="A loopback origin that counts as cloud.")] = False
    models: Annotated[dict[Text, ModelSettings], Meta(description="What is known of its models.")] = field(
        default_factory=dict
    )

    @property
    def tool_support(self) -> dict[ModelId, ToolSupport]:
        """How the models that are named are offered tools."""
        return {ModelId(name): model.tools for name, model in self.models.items()}
