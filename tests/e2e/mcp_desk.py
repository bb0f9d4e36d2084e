"""Desks with MCP servers: real processes and addresses, the pins of their listings, and a client that holds to them."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from handshake.kernel.ids import SessionId
from handshake.kernel.mcp import McpListing, definition_sha256
from handshake.kernel.mcp_tool import ApprovedTool
from handshake.ports.tool import Reach, ToolContext, ToolFailed, ToolPass, ToolResult
from handshake.providers.web_streams import OutsideStreams
from handshake.runners.machine import MachineClock
from handshake.testing.plain_process import PlainProcess
from handshake.tools.mcp_client import McpClient
from handshake.tools.mcp_http import Way, server_over_http
from handshake.tools.mcp_pipe import server_pipe

SERVERS = Path(__file__).parents[1] / "mcp_servers"
CLOCK = MachineClock()


class Pass:
    """Stands in for the gate's pass: only the gate can make one."""

    def spend(self) -> None:
        """Nothing is counted."""


class Desk:
    """Servers by name, the pins that were made of their listings, and the client that holds to them."""

    def __init__(self, **servers: list[str] | Way) -> None:
        self.servers = servers
        self.approved: dict[str, ApprovedTool] = {}
        self.listings: list[tuple[str, McpListing]] = []
        self.processes: list[PlainProcess] = []
        self.told = asyncio.Event()
        self.client = McpClient(self.transport, self.approved.get, self.listed, CLOCK)

    def transport(self, server: str, ended: Callable[[str], None]) -> Any:
        """Start a server, or reach one."""
        found = self.servers[server]
        if isinstance(found, Way):
            return server_over_http(found, CLOCK.monotonic_us, ended)
        return server_pipe(lambda: self.started(found), CLOCK.monotonic_us, ended)

    async def started(self, command: list[str]) -> PlainProcess:
        """Start a process."""
        process = await PlainProcess.start(command, {"ONLY": "this"})
        self.processes.append(process)
        return process

    async def listed(self, server: str, listing: McpListing) -> None:
        """Keep a listing."""
        self.listings.append((server, listing))
        self.told.set()

    async def approve(self, server: str) -> None:
        """Approve all that a server lists now."""
        for one in (await self.client.list(server)).definitions:
            self.approved[one.tool_id] = ApprovedTool(one, definition_sha256(one))

    async def call(
        self, tool: str, *, timeout_ms: int = 30_000, most_bytes: int = 32_768, **args: object
    ) -> ToolResult:
        """Call a tool as the gate would."""
        context = ToolContext(
            session_id=SessionId("the session"),
            job_id=None,
            tool_call_id="the call",
            trace_id="the trace",
            root="/",
            reach=Reach(),
            timeout_ms=timeout_ms,
            max_result_bytes=most_bytes,
        )
        return await self.client.run(cast(ToolPass, Pass()), tool, args, context)

    async def text(self, tool: str, **args: Any) -> str:
        """Return the text of a call's result."""
        content = (await self.call(tool, **args)).value["content"]
        return str(content[0]["text"])

    async def failure(self, tool: str, **args: Any) -> ToolFailed:
        """Return how a call failed."""
        with pytest.raises(ToolFailed) as failed:
            await self.call(tool, **args)
        return failed.value


def friendly(*arguments: str) -> list[str]:
    """Return the command of the server that behaves."""
    return [sys.executable, str(SERVERS / "friendly.py"), *arguments]


def hostile(mode: str, file: Path | None = None) -> list[str]:
    """Return the command of the server that does not."""
    return [sys.executable, str(SERVERS / "hostile.py"), mode, *([] if file is None else [str(file)])]


def way(port: int, credential: Callable[[], str] | None = None) -> Way:
    """Return the way to a server on this machine."""
    return Way(OutsideStreams(), f"http://127.0.0.1:{port}/mcp", credential)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
