"""MCP servers: what is pinned of their tools, as the registry and the client have it while a workspace is open.

The pins in the store are the truth; this is what follows from them, renewed with every listing and every approval.

Source:
    gate.mcp.definition_pinned (02 §5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from handshake.kernel.errors import NotFound
from handshake.kernel.mcp import McpListing, RefusedTool
from handshake.kernel.mcp_pin import Pin, PinState
from handshake.kernel.mcp_settings import McpServerSettings
from handshake.kernel.mcp_tool import ApprovedTool, PinnedTool, register
from handshake.kernel.suggestion import suggest
from handshake.kernel.tool_registry import ToolRegistry
from handshake.operations import mcp_pins
from handshake.ports.store import Store


class Lister(Protocol):
    """Asks servers for their listings."""

    async def list(self, server: str) -> McpListing:
        """Return what a server lists now, once `McpServers.listed` has taken it."""
        ...


class McpServers:
    """The configured servers of an open workspace.

    Args:
        store: where the pins are.
        registry: where the tools go.
        servers: the servers of the configuration.
        attach: told the id of every tool that came into the registry.
    """

    def __init__(
        self,
        store: Store,
        registry: ToolRegistry,
        servers: Mapping[str, McpServerSettings],
        attach: Callable[[str], None],
    ) -> None:
        self._store = store
        self._registry = registry
        self._servers = servers
        self._attach = attach
        self._approved: dict[str, ApprovedTool] = {}
        self._unread: dict[str, tuple[RefusedTool, ...]] = {}
        self._unfit: dict[str, tuple[RefusedTool, ...]] = {}
        """What of a server's listing cannot be taken, and what of its pins the registry refuses."""

    async def load(self) -> None:
        """Take in all that is pinned; no server is asked."""
        self._renew(await self._store.read(mcp_pins.pinned_tools))

    def approved(self, tool_id: str) -> ApprovedTool | None:
        """Return the definition for which a tool may be called, or None if it may not."""
        return self._approved.get(tool_id)

    async def listed(self, server: str, listing: McpListing) -> None:
        """Keep what a server listed; what changed is blocked from now on.

        Raises:
            TooLarge, StoreFailed: it is not kept.
        """
        await mcp_pins.note(self._store, server, listing)
        self._unread[server] = listing.refused
        await self._reload(server)

    async def look(self, server: str, lister: Lister) -> tuple[list[PinnedTool], list[RefusedTool]]:
        """Ask a server for its tools; return what waits for a person, as it was seen, and what cannot be taken.

        Raises:
            NotFound: there is no such server in the configuration.
            ToolFailed: the server did not answer.
        """
        self._require(server)
        await lister.list(server)
        seen = await self._store.read(lambda reader: mcp_pins.pinned_tools(reader, server, seen=True))
        refused = [*self._unread.get(server, ()), *self._unfit.get(server, ())]
        return [one for one in seen if one.pin.state is not PinState.APPROVED], refused

    async def approve(self, server: str, *, shown: str, by: str, tools: Sequence[str] | None = None) -> list[Pin]:
        """Approve a server's tools as they were shown to a person, and let them be called from now on.

        Raises:
            NotFound: there is no such server, or nothing of it to approve.
            StateConflict: something else was shown.
        """
        self._require(server)
        pins = await self._store.write(lambda tx: mcp_pins.approve_shown(tx, server, shown=shown, by=by, tools=tools))
        await self._reload(server)
        return pins

    async def _reload(self, server: str) -> None:
        for tool_id in [one for one, known in self._approved.items() if known.definition.server == server]:
            del self._approved[tool_id]
        self._renew(await self._store.read(lambda reader: mcp_pins.pinned_tools(reader, server)))

    def _renew(self, tools: Sequence[PinnedTool]) -> None:
        refused = register(self._registry, tools, self._servers)
        for server in {pin.server for pin, _ in tools}:
            self._unfit[server] = tuple(one for one in refused if one.server == server)
        for pin, definition in tools:
            if self._registry.find(pin.tool_id) is None:
                continue
            self._attach(pin.tool_id)
            if pin.state is PinState.APPROVED and pin.approved_sha256 is not None:
                self._approved[pin.tool_id] = ApprovedTool(definition, pin.approved_sha256)

    def _require(self, server: str) -> None:
        if server not in self._servers:
            near = suggest(server, self._servers)
            hint = f"Did you mean {near}?" if near else "Servers are configured under [mcp.servers.NAME]."
            raise NotFound(kind="mcp_server", server=server, hint=hint)
