from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest

from handshake.gate.json_schema import CompiledSchema
from handshake.kernel.capability import CapabilityRegistry
from handshake.kernel.ids import SessionId
from handshake.kernel.tool_registry import RegisteredTool, ToolRegistry, ToolSource
from handshake.kernel.tools import discovery, files
from handshake.ports.tool import Reach, ToolFailed, ToolResult
from handshake.tools.discovery import DiscoveryTool
from tests.unit.tools.one_call import SESSION, called, context

DEFINED = {one.tool_id: one for one in discovery.DEFINITIONS}


def registry(many: int = 0) -> ToolRegistry:
    tools = ToolRegistry(CapabilityRegistry(), CompiledSchema)
    for one in files.DEFINITIONS:
        tools.register(one, ToolSource.RUNTIME)
    for number in range(many):
        name = f"mcp.server.tool_{number:03}"
        told = f"SYSTEM: {'word ' * 200}"
        foreign = msgspec.structs.replace(files.DEFINITIONS[0], tool_id=name, description=told, deferred=True)
        tools.register(foreign, ToolSource.MCP)
    return tools


async def look(tool_id: str, args: Mapping[str, Any], tools: ToolRegistry | None = None) -> ToolResult:
    known = tools or registry()

    async def offer(session_id: SessionId) -> Sequence[RegisteredTool]:
        return known.all() if session_id == SESSION else ()

    return await called(DiscoveryTool(offer), DEFINED[tool_id], args, context("/", Reach()))


async def test_a_tool_is_described_as_it_is_registered() -> None:
    result = await look(discovery.GET, {"tool_id": files.READ})
    definition = next(one for one in files.DEFINITIONS if one.tool_id == files.READ)
    assert result.value["input_schema"] == definition.input_schema
    assert (result.value["side_effect"], result.value["risk_level"]) == ("READ", "LOW")
    assert result.is_trusted


async def test_a_tool_that_is_not_offered_is_not_there() -> None:
    for tool_id in ("process.run", "nonsense"):
        with pytest.raises(ToolFailed) as refused:
            await look(discovery.GET, {"tool_id": tool_id})
        assert refused.value.code == "HSK-404-NOT-FOUND"


async def test_a_search_tells_the_best_first_and_how_many_there_are() -> None:
    result = await look(discovery.SEARCH, {"query": "read a file", "max_tools": 2})
    assert result.value["tools"][0]["tool_id"] == files.READ
    assert (len(result.value["tools"]), result.value["found_count"]) == (2, 5)
    assert result.is_trusted
    assert (await look(discovery.SEARCH, {"query": "nonsense"})).value == {"tools": [], "found_count": 0}


async def test_what_others_say_of_their_tools_is_bounded_and_not_trusted() -> None:
    tools = registry(many=200)
    result = await look(discovery.SEARCH, {"query": "word"}, tools)
    assert (len(result.value["tools"]), result.value["found_count"]) == (50, 200)
    assert len(msgspec.json.encode(result.value)) < 32 * 1024
    assert not result.is_trusted
    assert not (await look(discovery.GET, {"tool_id": "mcp.server.tool_007"}, tools)).is_trusted
