"""MCP client: the tools of configured MCP servers, each call to the definition that a person approved.

A server is connected to when it is first needed and kept; one that ended is connected to again by the next call. Before
every call its listing is read anew and told to whoever keeps the pins: a definition that is no longer the approved one
is not called, whether or not the server says that it changed.

Source:
    gate.mcp.definition_pinned, trust.system.only_runtime (02 §5, §6).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from handshake.kernel.errors import HandshakeError
from handshake.kernel.mcp import McpDefinition, McpListing, definition_sha256
from handshake.kernel.mcp_settings import MCP_RELIST_MS
from handshake.kernel.mcp_tool import ApprovedTool
from handshake.kernel.retry import as_span_us
from handshake.ports.clock import Clock
from handshake.ports.tool import ToolContext, ToolFailed, ToolPass, ToolResult
from handshake.tools import mcp_result

if TYPE_CHECKING:
    from mcp.client import Transport

    from handshake.tools.mcp_connection import McpConnection

META_PREFIX = "handshake/"
"""Begins the names under which a server is told which call it serves."""


Ended = Callable[[str], None]
Transports = Callable[[str, Ended], "Transport"]
"""Makes the way to a server of that name; told whom to call when the way ends by itself, and why."""
Approved = Callable[[str], ApprovedTool | None]
"""Tells what is approved under a tool's id."""
Listed = Callable[[str, McpListing], Awaitable[None]]
"""Takes what a server listed; returns once the pins hold it."""


class McpClient:
    """The adapter of all tools of MCP servers.

    Args:
        transports: the ways to the servers.
        approved: the pins, as they are now.
        listed: where listings go.
        clock: its time.
    """

    def __init__(self, transports: Transports, approved: Approved, listed: Listed, clock: Clock) -> None:
        self._transports = transports
        self._clock = clock
        self._approved = approved
        self._listed = listed
        self._connections: dict[str, McpConnection] = {}
        self._opening: dict[str, asyncio.Lock] = {}
        self._told: dict[str, frozenset[tuple[str, str]]] = {}
        self._following: dict[asyncio.Task[None], McpConnection] = {}

    async def run(self, tool_pass: ToolPass, tool_id: str, args: Mapping[str, Any], context: ToolContext) -> ToolResult:
        """Call the tool, if its server still defines it as it was approved."""
        tool_pass.spend()
        known = self._approved(tool_id)
        if known is None:
            raise ToolFailed("mcp_not_approved", "nobody has approved this tool as its server defines it now")
        wanted = known.definition
        connection = await self._connected(wanted.server)
        listing = await self._read(wanted.server, connection)
        if known.sha256 not in [definition_sha256(one) for one in listing.definitions if one.tool_id == tool_id]:
            raise ToolFailed("mcp_definition_changed", "the server no longer defines this tool as it was approved")
        meta = {
            META_PREFIX + "session_id": context.session_id,
            META_PREFIX + "tool_call_id": context.tool_call_id,
            META_PREFIX + "trace_id": context.trace_id,
        }
        if context.idempotency_key is not None:
            meta[META_PREFIX + "idempotency_key"] = context.idempotency_key
        result = await connection.call(wanted.name, args, meta, limit_ms=context.timeout_ms)
        return self._result(result.model_dump(by_alias=True, mode="json"), wanted, context)

    async def list(self, server: str) -> McpListing:
        """Return what a server lists now; it is told to the pins first.

        Raises:
            ToolFailed: it is not there, or lists what cannot be taken.
        """
        return await self._read(server, await self._connected(server))

    async def close(self) -> None:
        """Close all connections, and end the servers that were started."""
        self._connections.clear()
        following = dict(self._following)
        await asyncio.gather(*(one.close() for one in following.values()))
        for task in following:
            task.cancel()
        if following:
            await asyncio.wait(following)

    def _result(self, answer: Mapping[str, Any], wanted: McpDefinition, context: ToolContext) -> ToolResult:
        content = answer.get("content", [])
        if answer.get("isError"):
            raise ToolFailed("mcp_tool_error", mcp_result.error_text(content))
        value = mcp_result.value_of(
            content,
            answer.get("structuredContent"),
            is_structured=wanted.output_schema is not None,
            most_bytes=context.max_result_bytes,
        )
        if value is None:
            raise ToolFailed("mcp_result", "the server's structured result is no object, or too large")
        return ToolResult(value)

    async def _connected(self, server: str) -> McpConnection:
        """Return a connection to `server` that takes calls; whoever needs one while it is opened waits for it."""
        from handshake.tools.mcp_connection import McpConnection

        async with self._opening.setdefault(server, asyncio.Lock()):
            known = self._connections.get(server)
            if known is not None and known.is_usable:
                return known
            opened = McpConnection(server, lambda ended: self._transports(server, ended))
            await opened.open()
            self._connections[server] = opened
            following = asyncio.get_running_loop().create_task(self._follow(server, opened))
            self._following[following] = opened
            following.add_done_callback(self._following.pop)
            return opened

    async def _read(self, server: str, connection: McpConnection) -> McpListing:
        listing = await connection.listing()
        seen = frozenset((one.tool_id, definition_sha256(one)) for one in listing.definitions)
        if self._told.get(server) != seen:
            await self._listed(server, listing)
            self._told[server] = seen
        return listing

    async def _follow(self, server: str, connection: McpConnection) -> None:
        """Read the listing again when the server says that it changed, until the connection ends; then clear up."""
        try:
            while await connection.changed():
                await self._read(server, connection)
                await self._clock.sleep_us(as_span_us(MCP_RELIST_MS))
        except (ToolFailed, HandshakeError):
            pass  # it broke while nobody had asked: the next call meets the same, and tells its caller
        finally:
            await connection.close()
