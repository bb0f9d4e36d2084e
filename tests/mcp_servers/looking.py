"""Looking: an MCP server written with the official SDK that says what it can see and do where it runs."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path
from typing import Any

import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

PATH = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
TOOLS = [types.Tool(name=name, description="Looks.", input_schema=PATH) for name in ("look", "write", "connect")]


def look(path: str) -> object:
    """Return a folder's names, a file's text, the environment, or None for what is not there."""
    if path == "environment":
        return dict(os.environ)
    try:
        return sorted(os.listdir(path)) if os.path.isdir(path) else Path(path).read_text(encoding="utf-8")
    except OSError:
        return None


def write(path: str) -> str:
    """Return whether a file could be made."""
    try:
        Path(path).write_text("x", encoding="utf-8")
    except OSError:
        return "no"
    return "yes"


def connect(port: str) -> str:
    """Return whether a port of the machine could be connected to."""
    try:
        socket.create_connection(("127.0.0.1", int(port)), timeout=5).close()
    except OSError:
        return "no"
    return "yes"


async def list_tools(context: Any, params: Any) -> types.ListToolsResult:
    """List the tools."""
    return types.ListToolsResult(tools=TOOLS)


async def call_tool(context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
    """Answer a call."""
    path = str((params.arguments or {})["path"])
    text = {"look": lambda: json.dumps(look(path)), "write": lambda: write(path), "connect": lambda: connect(path)}
    return types.CallToolResult(content=[types.TextContent(type="text", text=text[params.name]())])


async def main() -> None:
    """Serve one client over the standard streams."""
    server: Server[Any] = Server("looking", version="1", on_list_tools=list_tools, on_call_tool=call_tool)
    async with stdio_server() as (read, write_):
        await server.run(read, write_, server.create_initialization_options())


asyncio.run(main())
