"""MCP: the Python face of MCP servers: what they list, and what of it a person approves."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from handshake.bootstrap import Runtime
from handshake.bootstrap.toolbox import Mcp as Servers
from handshake.kernel.errors import NotFound
from handshake.kernel.mcp import RefusedTool
from handshake.kernel.mcp_pin import Pin, shown_sha256
from handshake.kernel.mcp_tool import PinnedTool
from handshake.operations import mcp_pins


class McpQuestion(msgspec.Struct, frozen=True):
    """What of a server's tools waits for a person, as the server defined it when it was asked."""

    server: str
    tools: tuple[PinnedTool, ...]
    refused: tuple[RefusedTool, ...]
    """Tools that cannot be taken, each with the reason."""

    @property
    def sha256(self) -> str:
        """The hash of what the question shows; an approval names it."""
        return shown_sha256([one.pin for one in self.tools])


class Mcp:
    """The MCP servers of a workspace."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def pins(self, server: str | None = None) -> list[Pin]:
        """Return how the tools of one server, or of all, stand; no server is asked."""
        return await self._runtime.store.read(lambda reader: mcp_pins.pins(reader, server))

    async def look(self, server: str, *, tools: Sequence[str] | None = None) -> McpQuestion:
        """Ask a server for its tools, and return what of them waits for a person.

        Args:
            server: its name in the configuration.
            tools: names as the server spells them; None is all.

        Raises:
            NotFound: there is no such server, or no such tool that waits.
            ProviderFailed: the server did not answer.
        """
        found, refused = await self._servers(server).look(server)
        if tools is not None:
            await self._runtime.store.read(lambda reader: mcp_pins.waiting(reader, server, tools))
            found = [one for one in found if one.pin.name in tools]
        return McpQuestion(server, tuple(found), tuple(refused))

    async def approve(self, server: str, *, shown: str, tools: Sequence[str] | None = None) -> list[Pin]:
        """Approve tools of a server as they were shown, so that granted sessions may call them.

        Raises:
            NotFound: there is no such server, or nothing of it to approve.
            StateConflict: `shown` is the hash of something else.
        """
        servers = self._servers(server).servers
        return await servers.approve(server, shown=shown, by="operator", tools=tools)

    def _servers(self, server: str) -> Servers:
        found = self._runtime.tools.mcp
        if found is None:
            raise NotFound(kind="mcp_server", server=server, hint="Servers are configured under [mcp.servers.NAME].")
        return found
