"""Discovery: the adapter of the tools by which a model finds tools; it tells of none that its session could not use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from handshake.kernel.ids import SessionId
from handshake.kernel.settings import MAX_OFFERED_TOOLS
from handshake.kernel.tool_offer import matching
from handshake.kernel.tool_registry import RegisteredTool, ToolSource
from handshake.kernel.tools import discovery
from handshake.ports.tool import ToolContext, ToolFailed, ToolPass, ToolResult
from handshake.tools.reading import room_of

Offer = Callable[[SessionId], Awaitable[Sequence[RegisteredTool]]]
"""Returns the tools that a session could use now."""

_TOLD_CHARS = 300
"""How much of a description a search tells."""
_VOUCHED_FOR = frozenset({ToolSource.RUNTIME, ToolSource.PROGRAM})
"""Whose descriptions are not untrusted text."""


class DiscoveryTool:
    """Finds and describes tools.

    Args:
        offer: the tools of a session.
    """

    def __init__(self, offer: Offer) -> None:
        self._offer = offer

    async def run(self, tool_pass: ToolPass, tool_id: str, args: Mapping[str, Any], context: ToolContext) -> ToolResult:
        """Return what was looked for.

        Raises:
            ToolFailed: the session could not use a tool of this id, if there is one.
        """
        tool_pass.spend()
        tools = await self._offer(context.session_id)
        if tool_id == discovery.GET:
            return _described(tools, args["tool_id"])
        return _found(tools, args, room_of(context))

    async def close(self) -> None:
        """Nothing is held between two calls."""


def _described(tools: Sequence[RegisteredTool], tool_id: str) -> ToolResult:
    for tool in tools:
        one = tool.definition
        if one.tool_id == tool_id:
            value = {
                "tool_id": one.tool_id,
                "tool_version": one.tool_version,
                "description": one.description,
                "input_schema": one.input_schema,
                "side_effect": one.side_effect.value,
                "risk_level": one.risk_level.value,
            }
            return ToolResult(value, is_trusted=tool.source in _VOUCHED_FOR)
    raise ToolFailed("HSK-404-NOT-FOUND", "there is no such tool for this session")


def _found(tools: Sequence[RegisteredTool], args: Mapping[str, Any], room: int) -> ToolResult:
    ranked = matching(tools, args["query"])
    shown: list[dict[str, Any]] = []
    told = []
    for tool in ranked[: args.get("max_tools", MAX_OFFERED_TOOLS)]:
        one = {"tool_id": tool.definition.tool_id, "description": tool.definition.description[:_TOLD_CHARS]}
        room -= len(msgspec.json.encode(one)) + 1
        if room < 0:
            break
        shown.append(one)
        told.append(tool)
    value = {"tools": shown, "found_count": len(ranked)}
    return ToolResult(value, is_trusted=all(tool.source in _VOUCHED_FOR for tool in told))
