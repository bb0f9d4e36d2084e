"""Scripted tool: a tool whose calls do what a test says, and which keeps what reached it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from handshake.kernel.catalogue.tools import SideEffect, ToolExecutor
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
from handshake.ports.tool import ToolContext, ToolPass, ToolResult

DEFINITION = ToolDefinition(
    tool_id="notes.write",
    tool_version="1.0.0",
    description="Write a note.",
    input_schema={
        "type": "object",
        "properties": {
            "path": {"type": "string"},
            "text": {"type": "string"},
            "amount": {"type": "integer"},
            "more": {"type": "object"},
        },
        "required": ["path"],
        "additionalProperties": False,
    },
    output_schema={"type": "object", "properties": {"said": {"type": "string"}}, "required": ["said"]},
    sinks=("/path",),
    content=("/text",),
    reversibility=Reversibility.REVERSIBLE,
    side_effect=SideEffect.WRITE,
    idempotency=Idempotency.IDEMPOTENT_WITH_KEY,
    determinism=Determinism.DETERMINISTIC,
    availability=Availability.ALWAYS,
    required_capabilities=("fs.write:{path}",),
    risk_level=Risk.LOW,
    output_trust=OutputTrust.TRUSTED,
    asks=Asking.AS_GRANTED,
    is_egress=False,
    needs_sandbox=False,
    deferred=False,
    executed_by=ToolExecutor.RUNTIME,
    timeout_ms=1_000,
    amount="/amount",
)
"""A tool of a program, for tests that need any."""

Script = Callable[[Mapping[str, Any], ToolContext], Awaitable[ToolResult] | ToolResult]


def defined(**changes: Any) -> ToolDefinition:
    """Return `DEFINITION` with other fields."""
    return msgspec.structs.replace(DEFINITION, **changes)


class ScriptedTool:
    """An adapter whose calls `script` answers; by default with the path that it was given."""

    def __init__(self, script: Script | None = None) -> None:
        self.script = script or (lambda args, context: ToolResult({"said": str(args.get("path"))}))
        self.calls: list[tuple[str, Mapping[str, Any], ToolContext]] = []
        """Every call that reached it, in their order."""
        self.running = 0
        self.is_closed = False
        self.reached = asyncio.Event()
        """Set by each call."""

    async def run(self, tool_pass: ToolPass, tool_id: str, args: Mapping[str, Any], context: ToolContext) -> ToolResult:
        """Spend the pass, keep the call, and answer as scripted."""
        tool_pass.spend()
        if (tool_pass.tool_id, tool_pass.session_id, tool_pass.tool_call_id) != (
            tool_id,
            context.session_id,
            context.tool_call_id,
        ):
            raise RuntimeError("the pass is another call's")
        self.calls.append((tool_id, args, context))
        self.reached.set()
        self.running += 1
        try:
            answer = self.script(args, context)
            return answer if isinstance(answer, ToolResult) else await answer
        finally:
            self.running -= 1

    async def close(self) -> None:
        """Take note that the runtime stops."""
        self.is_closed = True
