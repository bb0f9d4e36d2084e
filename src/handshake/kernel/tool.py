"""Tool: the definition of one, whose classification is whole or which is no tool, and what a new version may change.

Source:
    gate.registry.nothing_defaults (02 §2).
"""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from handshake.kernel.canonical import canonical
from handshake.kernel.catalogue.tools import SideEffect, ToolExecutor
from handshake.kernel.errors import InvalidRequest
from handshake.kernel.settings import (
    MAX_CALL_MS,
    MAX_TOOL_CAPABILITIES,
    MAX_TOOL_DESCRIPTION_CHARS,
    MAX_TOOL_ID_CHARS,
    MAX_TOOL_POINTERS,
    MAX_TOOL_TEMPLATE_CHARS,
    MAX_TOOL_VERSION_CHARS,
)
from handshake.kernel.tool_schema import schema_fault

__all__ = ["SideEffect", "ToolExecutor"]


class Reversibility(StrEnum):
    """Whether what a call did can be undone; a call that only reads is reversible."""

    REVERSIBLE = "REVERSIBLE"
    COMPENSABLE = "COMPENSABLE"
    """Another act makes up for it; it does not undo it."""
    IRREVERSIBLE = "IRREVERSIBLE"


class Idempotency(StrEnum):
    """Whether the same call may be made again."""

    IDEMPOTENT = "IDEMPOTENT"
    IDEMPOTENT_WITH_KEY = "IDEMPOTENT_WITH_KEY"
    NON_IDEMPOTENT = "NON_IDEMPOTENT"


class Determinism(StrEnum):
    """Whether the same call in the same workspace gives the same result."""

    DETERMINISTIC = "DETERMINISTIC"
    NON_DETERMINISTIC = "NON_DETERMINISTIC"


class Availability(StrEnum):
    """What must be there for a call to be carried out."""

    ALWAYS = "ALWAYS"
    WHERE_SUPPORTED = "WHERE_SUPPORTED"
    """Something of the machine, such as a sandbox."""
    WHEN_REACHABLE = "WHEN_REACHABLE"
    """Something outside that may be away."""


class Risk(StrEnum):
    """How much harm a call can do."""

    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"


class OutputTrust(StrEnum):
    """Whether what a tool returns may count as trusted content (02 §6)."""

    TRUSTED = "trusted"
    """It may: the adapter still says for each result whether it does."""
    UNTRUSTED = "untrusted"


class Asking(StrEnum):
    """When a call needs a person's approval although its capabilities are granted."""

    AS_GRANTED = "as_granted"
    """Only where policy, a grant with `use = ask`, or the rule of taint says so."""
    UNLESS_FIXED = "unless_fixed"
    """Unless a grant itself fixes every sink argument, or the call stays on this machine."""
    ALWAYS = "always"


class Deprecation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """That a tool is on its way out: since which version, and what to use in its place."""

    since: Annotated[str, Meta(max_length=MAX_TOOL_VERSION_CHARS)]
    replaced_by: Annotated[str, Meta(max_length=MAX_TOOL_ID_CHARS)] | None = None


_Pointers = Annotated[
    tuple[Annotated[str, Meta(min_length=2, max_length=MAX_TOOL_TEMPLATE_CHARS)], ...],
    Meta(max_length=MAX_TOOL_POINTERS),
]


class ToolDefinition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that the gate, a model and an operator know of a tool; no classification has a default."""

    tool_id: Annotated[str, Meta(max_length=MAX_TOOL_ID_CHARS, pattern=r"^[a-z0-9_]+(\.[a-z0-9_]+)+\Z")]
    tool_version: Annotated[
        str,
        Meta(max_length=MAX_TOOL_VERSION_CHARS, pattern=r"^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\Z"),
    ]
    description: Annotated[str, Meta(min_length=1, max_length=MAX_TOOL_DESCRIPTION_CHARS)]
    """For models; of an MCP server's tool it is untrusted text."""
    input_schema: dict[str, Any]
    """JSON Schema 2020-12 of an object. Its references stay inside it."""
    output_schema: dict[str, Any]
    sinks: _Pointers
    """Arguments that choose a destination, recipient or amount: JSON pointers, in which `*` is every item or member.
    What stands below a pointer belongs to it (`kernel.pointer`)."""
    content: _Pointers
    """Arguments that are content; links in them are held to the rule of sinks in a tainted run."""
    reversibility: Reversibility
    side_effect: SideEffect
    idempotency: Idempotency
    determinism: Determinism
    availability: Availability
    required_capabilities: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=MAX_TOOL_TEMPLATE_CHARS)], ...],
        Meta(max_length=MAX_TOOL_CAPABILITIES),
    ]
    """Templates over the arguments (`kernel.template`). None: it reads what the session holds already."""
    risk_level: Risk
    output_trust: OutputTrust
    asks: Asking
    is_egress: bool
    """Whether arguments leave the machine, or the runtime's hands, with a call."""
    needs_sandbox: bool
    deferred: bool
    """Whether its schema is given to a model only when the model looks for it (`handshake.tools.search`)."""
    executed_by: ToolExecutor
    timeout_ms: Annotated[int, Meta(ge=1, le=MAX_CALL_MS)]
    amount: Annotated[str, Meta(min_length=2, max_length=MAX_TOOL_TEMPLATE_CHARS)] | None = None
    """The argument that is an amount, in the smallest unit of what the tool counts: of a grant with `max_amount`."""
    deprecation: Deprecation | None = None


def definition_sha256(definition: ToolDefinition) -> str:
    """Return the hash of the whole definition: what is pinned, and what a decision names.

    Raises:
        InvalidRequest: a schema holds what is no JSON.
    """
    return hashlib.sha256(canonical(msgspec.to_builtins(definition), floats=True)).hexdigest()


def admit(definition: ToolDefinition) -> ToolDefinition:
    """Return a copy of a definition that is whole, with every field of its own kind; constructing one checks nothing.

    Raises:
        InvalidRequest: field `tool`, with the tool's id where it has one; reason `incomplete` (a field is missing, of
            the wrong kind, out of its vocabulary or its bounds), `description`, `capabilities` (a tool that changes or
            executes requires none), `pointer`, `schema_object`, `schema_size`, `schema_depth`, `schema_dialect`,
            `schema_reference` or `schema_cost` (`kernel.tool_schema`).
    """
    try:
        whole = msgspec.convert(msgspec.to_builtins(definition), ToolDefinition)
    except (msgspec.ValidationError, TypeError, UnicodeError):
        raise _refused(definition, "incomplete") from None
    if _CONTROL.search(whole.description):
        raise _refused(whole, "description")
    if not whole.required_capabilities and whole.side_effect is not SideEffect.READ:
        raise _refused(whole, "capabilities")
    if not all(_POINTER.fullmatch(one) for one in (*whole.sinks, *whole.content, *_set(whole.amount))):
        raise _refused(whole, "pointer")
    for schema in (whole.input_schema, whole.output_schema):
        reason = schema_fault(schema)
        if reason is not None:
            raise _refused(whole, reason)
    return whole


def require_upgrade(earlier: ToolDefinition, later: ToolDefinition) -> None:
    """Refuse a later definition of the same tool that changes more than its version says (02 §2).

    What a caller or a grant relies on changes with a new MAJOR number only, what is told of a tool with any new
    version, and nothing without one. A version never goes back.

    Raises:
        InvalidRequest: field `tool_version`, reason `downgrade`, `unchanged` or `needs_major`.
    """
    before, after = _numbers(earlier), _numbers(later)
    if after < before:
        raise _refused(later, "downgrade", field="tool_version")
    if after == before and later != earlier:
        raise _refused(later, "unchanged", field="tool_version")
    if after[0] == before[0] and any(getattr(later, name) != getattr(earlier, name) for name in _RELIED_ON):
        raise _refused(later, "needs_major", field="tool_version")


_RELIED_ON = (
    "input_schema",
    "output_schema",
    "sinks",
    "content",
    "amount",
    "reversibility",
    "side_effect",
    "idempotency",
    "required_capabilities",
    "risk_level",
    "output_trust",
    "asks",
    "is_egress",
    "needs_sandbox",
    "executed_by",
)
"""Fields that change with a MAJOR number only."""

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_POINTER = re.compile("(?:/(?:[^~/\x00-\x1f]|~[01])+)+")


def _set(pointer: str | None) -> tuple[str, ...]:
    return () if pointer is None else (pointer,)


def _numbers(definition: ToolDefinition) -> tuple[int, ...]:
    return tuple(int(part) for part in definition.tool_version.split("."))


def _refused(definition: ToolDefinition, reason: str, *, field: str = "tool") -> InvalidRequest:
    return InvalidRequest(field=field, reason=reason, tool_id=definition.tool_id)
