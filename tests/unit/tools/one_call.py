"""One call: a tool of a shipped definition, called with arguments and a result that fit its schemas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jsonschema_rs

from handshake.gate import tool_gate
from handshake.kernel.ids import SessionId
from handshake.kernel.tool import ToolDefinition
from handshake.ports.tool import Reach, Tool, ToolContext, ToolPass, ToolResult

SESSION = SessionId("018f0000-0000-7000-8000-000000000002")
CALL = "018f0000-0000-7000-8000-000000000009"


def context(root: str, reach: Reach, *, timeout_ms: int = 20_000, max_result_bytes: int = 256 * 1024) -> ToolContext:
    return ToolContext(
        session_id=SESSION,
        job_id=None,
        tool_call_id=CALL,
        trace_id="018f0000-0000-7000-8000-00000000000a",
        root=root,
        reach=reach,
        timeout_ms=timeout_ms,
        max_result_bytes=max_result_bytes,
    )


def a_pass(tool_id: str) -> ToolPass:
    """Return a pass as the gate makes one for an allowed call."""
    return tool_gate._mint(SESSION, CALL, tool_id)


async def called(tool: Tool, definition: ToolDefinition, args: Mapping[str, Any], within: ToolContext) -> ToolResult:
    """Call a tool once, and hold arguments and result to its schemas."""
    jsonschema_rs.validator_for(definition.input_schema).validate(args)
    result = await tool.run(a_pass(definition.tool_id), definition.tool_id, args, within)
    jsonschema_rs.validator_for(definition.output_schema).validate(result.value)
    return result
