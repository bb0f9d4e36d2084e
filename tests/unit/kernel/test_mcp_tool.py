"""MCP tools in the registry: the operator says what they may do, and of what nobody says anything the worst holds."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from handshake.gate.json_schema import CompiledSchema
from handshake.kernel.capability import CapabilityRegistry
from handshake.kernel.catalogue.tools import SideEffect
from handshake.kernel.mcp import McpDefinition, RefusedTool
from handshake.kernel.mcp_pin import Pin, PinState
from handshake.kernel.mcp_settings import McpServerSettings, McpToolSettings
from handshake.kernel.mcp_tool import CONTENT_SCHEMA, PinnedTool, register, tool_definition
from handshake.kernel.tool import Asking, Idempotency, OutputTrust, Reversibility, Risk, admit
from handshake.kernel.tool_registry import Standing, ToolRegistry, ToolSource

SCHEMA: dict[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {"path": {"type": "string"}, "text": {"type": "string"}},
}
SERVER = McpServerSettings(command=("server",))


def definition(**changes: Any) -> McpDefinition:
    values = {
        "server": "files",
        "name": "write",
        "description": "Writes.",
        "input_schema": SCHEMA,
        "output_schema": None,
    }
    return McpDefinition(**{**values, **changes})


def pin(state: PinState = PinState.APPROVED, **changes: Any) -> Pin:
    values: dict[str, Any] = {
        "server": "files",
        "name": "write",
        "tool_id": "mcp.files.write",
        "state": state,
        "seen_sha256": "1" * 64,
        "approved_sha256": "1" * 64,
        "revision": 1,
        "seen_at_us": 1,
        "decided_at_us": 1,
        "decided_by": "ada",
    }
    return Pin(**{**values, **changes})


def registry() -> ToolRegistry:
    return ToolRegistry(CapabilityRegistry(), CompiledSchema)


def test_a_tool_of_which_nobody_says_anything_executes_is_dangerous_and_always_asks() -> None:
    found = admit(tool_definition(definition(), SERVER, revision=1))
    assert (found.side_effect, found.risk_level, found.asks) == (SideEffect.EXECUTE, Risk.HIGH, Asking.ALWAYS)
    assert (found.idempotency, found.reversibility) == (Idempotency.NON_IDEMPOTENT, Reversibility.IRREVERSIBLE)
    assert (found.output_trust, found.is_egress, found.sinks) == (OutputTrust.UNTRUSTED, True, ("/*",))
    assert found.required_capabilities == ("mcp.files.write",)


def test_what_the_operator_says_holds_and_what_the_server_says_of_itself_does_not() -> None:
    mapped = McpToolSettings(
        side_effect="WRITE",
        risk="LOW",
        idempotency="IDEMPOTENT",
        capabilities=("fs.write:{path}",),
        sinks=("/path",),
        content=("/text",),
    )
    server = msgspec.structs.replace(SERVER, tools={"write": mapped})
    found = admit(tool_definition(definition(), server, revision=3))
    assert (found.side_effect, found.risk_level, found.asks) == (SideEffect.WRITE, Risk.LOW, Asking.AS_GRANTED)
    assert (found.sinks, found.content, found.tool_version) == (("/path",), ("/text",), "3.0.0")
    assert found.required_capabilities == ("mcp.files.write", "fs.write:{path}")
    assert found.output_trust is OutputTrust.UNTRUSTED


@pytest.mark.parametrize(
    "server",
    [
        McpServerSettings(url="https://example.com/mcp", tools={"write": McpToolSettings()}),
        McpServerSettings(command=("x",), network=True, tools={"write": McpToolSettings()}),
    ],
)
def test_a_named_tool_that_may_reach_elsewhere_asks_unless_a_grant_fixes_where(server: McpServerSettings) -> None:
    assert tool_definition(definition(), server, revision=1).asks is Asking.UNLESS_FIXED


def test_schemas_of_an_older_dialect_are_read_as_the_newer_one() -> None:
    found = tool_definition(definition(output_schema=SCHEMA), SERVER, revision=1)
    assert "$schema" not in found.input_schema
    assert found.output_schema == found.input_schema
    assert tool_definition(definition(), SERVER, revision=1).output_schema == CONTENT_SCHEMA
    assert tool_definition(definition(description=" \n"), SERVER, revision=1).description


@pytest.mark.parametrize(
    ("state", "standing"),
    [
        (PinState.NEW, Standing.NOT_APPROVED),
        (PinState.APPROVED, Standing.USABLE),
        (PinState.CHANGED, Standing.CHANGED),
    ],
)
def test_a_tool_stands_as_its_pin_does(state: PinState, standing: Standing) -> None:
    tools = registry()
    assert register(tools, [PinnedTool(pin(state), definition())], {"files": SERVER}) == []
    found = tools.find("mcp.files.write")
    assert found is not None
    assert (found.standing, found.source) == (standing, ToolSource.MCP)
    assert [one.tool_id for one in tools.listings()] == (["mcp.files.write"] if standing is Standing.USABLE else [])


def test_a_definition_that_changes_takes_the_place_of_the_earlier_one() -> None:
    tools = registry()
    register(tools, [PinnedTool(pin(), definition())], {"files": SERVER})
    register(tools, [PinnedTool(pin(revision=2), definition(description="Reads."))], {"files": SERVER})
    (found,) = tools.listings()
    assert found.description == "Reads."
    register(tools, [PinnedTool(pin(revision=2), definition())], {})
    assert tools.listings() == ()


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "object", "properties": {"x": {"$ref": "http://127.0.0.1:9/x"}}}, "schema_reference"),
        ({"type": "object", "properties": {"x": {"$ref": "file:///etc/passwd"}}}, "schema_reference"),
        ({"type": "object", "properties": {"x": {"type": "nothing"}}}, "schema_invalid"),
        ({"type": "array"}, "schema_object"),
    ],
)
def test_a_schema_that_leads_elsewhere_or_does_not_compile_keeps_its_tool_out(
    schema: dict[str, Any], reason: str
) -> None:
    tools = registry()
    register(tools, [PinnedTool(pin(), definition())], {"files": SERVER})
    refused = register(tools, [PinnedTool(pin(), definition(input_schema=schema))], {"files": SERVER})
    assert refused == [RefusedTool("files", "write", reason)]
    assert tools.find("mcp.files.write") is None


def test_a_mapping_that_the_schema_does_not_bear_out_keeps_its_tool_out() -> None:
    wrong = McpServerSettings(command=("x",), tools={"write": McpToolSettings(capabilities=("fs.write:{nowhere}",))})
    assert [one.reason for one in register(registry(), [PinnedTool(pin(), definition())], {"files": wrong})]
