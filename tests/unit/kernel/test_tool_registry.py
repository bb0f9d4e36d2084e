"""Tool registry: what is not whole does not get in, and what is told of a tool comes from it alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from handshake.kernel.capability import CapabilityRegistry
from handshake.kernel.errors import InvalidRequest, StateConflict, TooLarge, UnknownCapability
from handshake.kernel.settings import MAX_TOOLS
from handshake.kernel.tool import ToolDefinition
from handshake.kernel.tool_registry import Standing, ToolRegistry, ToolSource
from handshake.kernel.tool_schema import Misfit
from tests.requirement import requirement
from tests.unit.kernel.test_tool import TOOL

RUNTIME, PROGRAM, MCP, CLIENT = ToolSource


class Anything:
    """A check that everything passes."""

    def misfit(self, value: Any) -> Misfit | None:
        return None


def compiled(schema: Mapping[str, Any]) -> Anything:
    if schema.get("description") == "broken":
        raise InvalidRequest(field="schema", reason="schema_invalid")
    return Anything()


def registry() -> ToolRegistry:
    return ToolRegistry(CapabilityRegistry(), compiled)


def named(tool_id: str, **fields: Any) -> ToolDefinition:
    return msgspec.structs.replace(TOOL, tool_id=tool_id, **fields)


@requirement("gate.registry.nothing_defaults")
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"side_effect": None}, "incomplete"),
        ({"required_capabilities": ()}, "capabilities"),
        ({"required_capabilities": ("fs.write:{",)}, "template"),
        ({"required_capabilities": ("fs.write:{file}",)}, "argument"),
        ({"input_schema": {"type": "object", "properties": {"path": {}}, "description": "broken"}}, "schema_invalid"),
        ({"output_schema": {"type": "object", "description": "broken"}}, "schema_invalid"),
    ],
)
def test_what_is_not_whole_is_not_registered(fields: dict[str, Any], reason: str) -> None:
    tools = registry()
    with pytest.raises(InvalidRequest) as refused:
        tools.register(named("workspace.file.write", **fields), RUNTIME)
    assert refused.value.context["reason"] == reason
    assert tools.all() == ()


def test_capability_that_nobody_knows_is_refused() -> None:
    with pytest.raises(UnknownCapability):
        registry().register(named("workspace.file.write", required_capabilities=("fs.erase:{path}",)), RUNTIME)


@pytest.mark.parametrize(
    ("tool_id", "sources"),
    [
        ("workspace.file.write", {RUNTIME}), ("process.run", {RUNTIME}), ("handshake.tools.search", {RUNTIME}),
        ("mcp.server.tool", {MCP}), ("client.shell", {CLIENT}), ("docs.read", {PROGRAM}), ("workspaces.a", {PROGRAM}),
    ],
)  # fmt: skip
def test_names_belong_to_their_source(tool_id: str, sources: set[ToolSource]) -> None:
    for source in ToolSource:
        tools = registry()
        if source in sources:
            assert tools.register(named(tool_id), source).source is source
        else:
            with pytest.raises(InvalidRequest) as refused:
                tools.register(named(tool_id), source)
            assert refused.value.context["reason"] == "reserved"


def test_later_version_says_what_it_changes() -> None:
    tools = registry()
    first = tools.register(named("docs.write"), PROGRAM)
    assert tools.register(named("docs.write"), PROGRAM).sha256 == first.sha256
    with pytest.raises(InvalidRequest):
        tools.register(named("docs.write", tool_version="1.9.0", sinks=()), PROGRAM)
    assert [one.definition for one in tools.all()] == [first.definition]
    assert tools.register(named("docs.write", tool_version="2.0.0", sinks=()), PROGRAM).definition.sinks == ()


def test_no_source_takes_another_ones_tool() -> None:
    tools = registry()
    tools.register(named("docs.write"), PROGRAM)
    tools._tools["docs.write"] = tools._tools["docs.write"]._replace(source=CLIENT)
    with pytest.raises(StateConflict):
        tools.register(named("docs.write"), PROGRAM)


def test_what_a_server_says_now_replaces_what_it_said() -> None:
    tools = registry()
    tools.register(named("mcp.one.a"), MCP, standing=Standing.NOT_APPROVED)
    assert tools.listings() == ()
    tools.replace(named("mcp.one.a", description="Other."), standing=Standing.USABLE)
    assert [one.description for one in tools.listings()] == ["Other."]
    with pytest.raises(InvalidRequest):
        tools.replace(named("mcp.one.a", risk_level=None), standing=Standing.USABLE)
    assert [one.description for one in tools.listings()] == ["Other."]
    tools.remove("mcp.one.a")
    tools.remove("mcp.one.a")
    assert tools.find("mcp.one.a") is None


def test_there_is_an_end_to_tools() -> None:
    tools = registry()
    one = tools.register(named("docs.write"), PROGRAM)
    tools._tools |= {f"docs.n{number}": one for number in range(MAX_TOOLS - 1)}
    with pytest.raises(TooLarge):
        tools.register(named("docs.other"), PROGRAM)
    assert tools.register(named("docs.write", tool_version="1.2.4"), PROGRAM).definition.tool_version == "1.2.4"


@requirement("gate.provider_schemas.generated")
def test_listings_are_the_definitions_in_the_order_of_their_ids() -> None:
    def listed(*order: str) -> bytes:
        tools = registry()
        for tool_id in order:
            tools.register(named(tool_id), PROGRAM)
        tools.register(named("docs.hidden", deferred=True), PROGRAM)
        tools.register(named("mcp.one.a"), MCP, standing=Standing.CHANGED)
        assert [one.tool_id for one in tools.listings(deferred=True)] == ["docs.a", "docs.b", "docs.c", "docs.hidden"]
        assert [one.tool_id for one in tools.listings(only=["docs.c", "docs.a", "nothing"])] == ["docs.a", "docs.c"]
        assert tools.listings()[0].input_schema == TOOL.input_schema
        return msgspec.json.encode(tools.listings())

    assert listed("docs.a", "docs.b", "docs.c") == listed("docs.c", "docs.a", "docs.b")
