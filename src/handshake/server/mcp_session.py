"""MCP session: the tools of one session, offered to whatever MCP client is at the other end of a pair of streams.

Authority is the session's, not the connection's: the listing shows what its grants could allow, and every call passes
the gate, which decides anew.

Source:
    gate.decision.same_on_every_transport, gate.provider_schemas.generated (02 §5, 07 §3).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

import mcp_types as types
import msgspec
from mcp.server import ServerRequestContext
from mcp.server.lowlevel import Server

from handshake.kernel.errors import HandshakeError
from handshake.kernel.htc import ToolResponse
from handshake.kernel.mcp import visible
from handshake.kernel.mcp_settings import MAX_MCP_SERVED_CALLS
from handshake.kernel.tool_registry import ToolListing

PAGE_TOOLS = 100
"""Tools in one page of the listing."""
MAX_CLIENT_CHARS = 60
KEY_META = "handshake/idempotency_key"
ERROR_META = "handshake/error"
"""Names in `_meta`: what a client may say of a call, and where it finds a refusal as data."""


class SessionTools(Protocol):
    """The tools of one session."""

    async def listings(self) -> Sequence[ToolListing]:
        """Return what the session's grants could allow, in the order of the ids."""
        ...

    async def call(self, tool_id: str, args: dict[str, Any], *, client: str, key: str | None) -> ToolResponse:
        """Let the gate decide about a call, and return its answer; a result that is too large to be inline is inline.

        Args:
            tool_id: which tool.
            args: its arguments.
            client: the name that the client gives itself.
            key: an idempotency key.
        """
        ...


def mcp_server(tools: SessionTools, version: str) -> Server[Any]:
    """Return the SDK's server for the tools of a session."""
    calls = asyncio.Semaphore(MAX_MCP_SERVED_CALLS)

    async def list_tools(
        context: ServerRequestContext[Any, Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        after = "" if params is None or params.cursor is None else params.cursor
        left = [one for one in await tools.listings() if one.tool_id > after]
        page = left[:PAGE_TOOLS]
        more = page[-1].tool_id if len(left) > len(page) else None
        return types.ListToolsResult(tools=[_told(one) for one in page], next_cursor=more)

    async def call_tool(
        context: ServerRequestContext[Any, Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        meta = params.meta or {}
        key = meta.get(KEY_META)
        try:
            async with calls:
                response = await tools.call(
                    params.name,
                    params.arguments or {},
                    client=_client(context),
                    key=key if isinstance(key, str) else None,
                )
        except HandshakeError as refused:
            return _refusal(f"{refused.code}: {refused.sentence}. {refused.hint}", refused.as_dict())
        return result_of(response)

    return Server("handshake", version=version, on_list_tools=list_tools, on_call_tool=call_tool)


def result_of(response: ToolResponse) -> types.CallToolResult:
    """Return a gate's response as the protocol spells it; one that waits for a person names the approval."""
    if response.error is msgspec.UNSET:
        result = {} if response.result is msgspec.UNSET else response.result
        text = msgspec.json.encode(result).decode()
        return types.CallToolResult(content=[types.TextContent(type="text", text=text)], structured_content=result)
    error = response.error
    said = f"{error.code}: {error.message}"
    approval = error.details.get("approval_id")
    if isinstance(approval, str):
        said += f" Look at it: handshake approval show {approval}"
    return _refusal(said, msgspec.to_builtins(error))


def _refusal(said: str, error: dict[str, Any]) -> types.CallToolResult:
    told = {"content": [{"type": "text", "text": said}], "isError": True, "_meta": {ERROR_META: error}}
    return types.CallToolResult.model_validate(told)


def _told(one: ToolListing) -> types.Tool:
    return types.Tool(
        name=one.tool_id,
        description=one.description,
        input_schema=one.input_schema,
        output_schema=one.output_schema,
    )


def _client(context: ServerRequestContext[Any, Any]) -> str:
    """Return what a client calls itself; it is told to the log and believed by nobody."""
    params = context.session.client_params
    return (visible(params.client_info.name, breaks="") if params else "")[:MAX_CLIENT_CHARS] or "mcp"
