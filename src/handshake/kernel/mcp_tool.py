"""MCP tool: from what a server says of a tool and what the operator says of it, to a definition of the registry.

The server is believed about names, words and schemas; about what its tool may do, only the operator is.

Source:
    gate.mcp.unmapped_asks (02 §5).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from handshake.kernel.catalogue.tools import SideEffect, ToolExecutor
from handshake.kernel.errors import InvalidRequest, TooLarge, UnknownCapability
from handshake.kernel.mcp import McpDefinition, RefusedTool
from handshake.kernel.mcp_pin import Pin, PinState
from handshake.kernel.mcp_settings import McpServerSettings, McpToolSettings
from handshake.kernel.tool import (
    Asking,
    Availability,
    Determinism,
    Idempotency,
    OutputTrust,
    Reversibility,
    Risk,
    ToolDefinition,
)
from handshake.kernel.tool_registry import Standing, ToolRegistry

TIMEOUT_MS = 120_000
"""One call of an MCP server's tool."""
EVERY_ARGUMENT = ("/*",)
"""The sinks of a tool of which nobody said which of its arguments are."""
UNDESCRIBED = "A tool of an MCP server, which says nothing of it."
CONTENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "content": {"type": "array", "items": {"type": "object"}},
        "truncated": {"type": "boolean"},
    },
    "required": ["content", "truncated"],
}
"""What a call returns whose tool declares no schema of its own."""

_STANDINGS = {
    PinState.NEW: Standing.NOT_APPROVED,
    PinState.APPROVED: Standing.USABLE,
    PinState.CHANGED: Standing.CHANGED,
}


class PinnedTool(NamedTuple):
    """A pin, and the definition that it is about: the approved one, or before any was approved the one seen last."""

    pin: Pin
    definition: McpDefinition


class ApprovedTool(NamedTuple):
    """A tool that may be called, and the definition for which that holds."""

    definition: McpDefinition
    sha256: str


def standing_of(pin: Pin) -> Standing:
    """Return whether a tool may be used, by its pin."""
    return _STANDINGS[pin.state]


def tool_definition(definition: McpDefinition, server: McpServerSettings, *, revision: int) -> ToolDefinition:
    """Return the definition of an MCP server's tool.

    Every call leaves the runtime's hands, and what comes back is untrusted. A tool that the operator does not name
    executes, is of HIGH risk and asks at every call; one that is named is what the operator says, and asks where a
    remote server would get what no grant fixes.

    Args:
        definition: what the server says.
        server: what the operator says of the server and its tools.
        revision: how many definitions of the tool were approved; each is a version of its own.
    """
    mapped = server.tools.get(definition.name)
    said = mapped or McpToolSettings()
    return ToolDefinition(
        tool_id=definition.tool_id,
        tool_version=f"{revision}.0.0",
        description=definition.description.strip() or UNDESCRIBED,
        input_schema=_own_dialect(definition.input_schema),
        output_schema=CONTENT_SCHEMA if definition.output_schema is None else _own_dialect(definition.output_schema),
        sinks=EVERY_ARGUMENT if said.sinks is None else said.sinks,
        content=said.content,
        reversibility=Reversibility(said.reversibility),
        side_effect=SideEffect(said.side_effect),
        idempotency=Idempotency(said.idempotency),
        determinism=Determinism.NON_DETERMINISTIC,
        availability=Availability.WHEN_REACHABLE,
        required_capabilities=(definition.tool_id, *said.capabilities),
        risk_level=Risk(said.risk),
        output_trust=OutputTrust.UNTRUSTED,
        asks=_asking(mapped, server),
        is_egress=True,
        needs_sandbox=False,
        deferred=False,
        executed_by=ToolExecutor.RUNTIME,
        timeout_ms=TIMEOUT_MS,
    )


def register(
    registry: ToolRegistry, tools: Iterable[PinnedTool], servers: Mapping[str, McpServerSettings]
) -> list[RefusedTool]:
    """Take MCP servers' tools into the registry as their pins are, in place of what it held; return what it refuses.

    Args:
        registry: where they go.
        tools: every pinned tool of the servers.
        servers: those of the configuration; tools of others are taken out.
    """
    refused: list[RefusedTool] = []
    for pin, definition in tools:
        server = servers.get(pin.server)
        if server is None:
            registry.remove(pin.tool_id)
            continue
        try:
            registry.replace(
                tool_definition(definition, server, revision=max(pin.revision, 1)), standing=standing_of(pin)
            )
        except (InvalidRequest, UnknownCapability, TooLarge) as broken:
            registry.remove(pin.tool_id)
            refused.append(RefusedTool(pin.server, pin.name, str(broken.context.get("reason", "unknown_capability"))))
    return refused


def _asking(mapped: McpToolSettings | None, server: McpServerSettings) -> Asking:
    if mapped is None:
        return Asking.ALWAYS
    return Asking.AS_GRANTED if server.command and not server.network else Asking.UNLESS_FIXED


def _own_dialect(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema without the name of its dialect.

    Servers of the older protocol name an older one for what reads the same in 2020-12; what does not read as that is
    refused when it is compiled.
    """
    return {key: value for key, value in schema.items() if key != "$schema"}
