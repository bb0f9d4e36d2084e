"""Toolbox: the tools of a workspace on this machine, and the door to them, joined to the store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

from handshake.gate.call_reading import CallReader
from handshake.gate.json_schema import CompiledSchema
from handshake.gate.tool_gate import ToolGate
from handshake.kernel.capability import SHIPPED
from handshake.kernel.errors import ProviderFailed
from handshake.kernel.ids import ArtifactId, SessionId
from handshake.kernel.locality import parse_endpoint
from handshake.kernel.mcp import RefusedTool
from handshake.kernel.mcp_tool import PinnedTool
from handshake.kernel.queue import RunQueue
from handshake.kernel.redaction import KnownValues
from handshake.kernel.settings import Settings
from handshake.kernel.tool import ToolDefinition
from handshake.kernel.tool_registry import RegisteredTool, ToolRegistry, ToolSource
from handshake.kernel.tools import artifacts, discovery, files, process, web
from handshake.kernel.units import US_PER_MS
from handshake.operations.approvals import Approvals
from handshake.operations.feed import Feeds
from handshake.operations.keeping import Keeping
from handshake.operations.mcp_servers import McpServers
from handshake.operations.records import NewIds
from handshake.operations.tool_records import StoredToolRecords, artifact_of_session
from handshake.operations.tool_turns import ToolTurns
from handshake.operations.workspaces import Workspaces
from handshake.ports.clock import Clock
from handshake.ports.store import Store
from handshake.ports.tool import Tool, ToolFailed
from handshake.ports.worktree import Worktrees
from handshake.providers.web_client import WebClient
from handshake.providers.web_streams import OutsideStreams
from handshake.storage.secrets import Secrets
from handshake.storage.workspace_folder import WorkspaceFolder
from handshake.tools.artifacts import ArtifactTool
from handshake.tools.discovery import DiscoveryTool
from handshake.tools.mcp_client import Approved, Listed, McpClient
from handshake.tools.mcp_ways import McpWays
from handshake.tools.process import ProcessTool
from handshake.tools.program import Described, Function, ProgramTool, define
from handshake.tools.sandbox.sandbox import BACKENDS, Sandbox
from handshake.tools.web import WebTool
from handshake.tools.workspace_files import WorkspaceFiles
from handshake.tools.worktrees import DEPENDENCY_FOLDERS, GitWorktrees

__all__ = [
    "Described",
    "Mcp",
    "Opened",
    "Provided",
    "Toolbox",
    "Tools",
    "ToolsFor",
    "machine_tools",
    "no_tools",
    "sandbox_findings",
]

Usable = Callable[[SessionId], Awaitable[Sequence[RegisteredTool]]]
"""Returns the tools that a session could make some call of."""


class Provided(msgspec.Struct, frozen=True):
    """An adapter with the tools that it carries out."""

    adapter: Tool
    definitions: tuple[ToolDefinition, ...]
    source: ToolSource = ToolSource.RUNTIME


class Tools(msgspec.Struct, frozen=True, kw_only=True):
    """What a workspace's tools are, and where and how they act."""

    provided: tuple[Provided, ...] = ()
    worktrees: Worktrees | None = None
    """Makes the files of sessions that write; None if all work at the root."""
    root: str = ""
    has_sandbox: Callable[[], Awaitable[bool]]
    known: KnownValues
    mcp: Callable[[Approved, Listed], McpClient] | None = None
    """Makes the client of the configured MCP servers; None if there are none."""


ToolsFor = Callable[[Store, Usable], Tools]
"""Makes the tools of a workspace whose store is open."""


def machine_tools(place: WorkspaceFolder, settings: Settings, clock: Clock, secrets: Secrets, state: Path) -> ToolsFor:
    """Return what makes the tools that ship, on this machine; `state` is the user's folder for what is kept."""

    def tools(store: Store, usable: Usable) -> Tools:
        async def own(session_id: SessionId, artifact_id: ArtifactId) -> bytes | None:
            return await store.read(lambda reader: artifact_of_session(reader, session_id, artifact_id))

        def client(approved: Approved, listed: Listed) -> McpClient:
            nowhere = place.mark.parent / "nowhere"
            nowhere.mkdir(mode=0o700, exist_ok=True)
            web = OutsideStreams(closed)
            ways = McpWays(settings.mcp.servers, place.root, nowhere, sandbox, web, secrets, clock)
            return McpClient(ways, approved, listed, clock)

        closed = [parse_endpoint(entry.base_url) for entry in settings.providers.values()]
        own_service = parse_endpoint(settings.server.public_url)
        sandbox = Sandbox(read=settings.sandbox.read, hidden=(str(place.folder.resolve()),))
        declared = [(name, os.environ[name]) for name in settings.sandbox.env if name in os.environ]
        dependencies = [f"{place.root.resolve()}/{one}" for one in sorted(DEPENDENCY_FOLDERS)]
        return Tools(
            provided=(
                Provided(WorkspaceFiles(settings.policy.trusted_files), files.DEFINITIONS),
                Provided(WebTool(WebClient([*closed, own_service])), web.DEFINITIONS),
                Provided(ArtifactTool(own), artifacts.DEFINITIONS),
                Provided(DiscoveryTool(usable), discovery.DEFINITIONS),
                Provided(ProcessTool(sandbox, environment=declared, dependencies=dependencies), process.DEFINITIONS),
            ),
            worktrees=GitWorktrees(place.root.resolve(), _worktree_home(place, state), place.mark.parent / "merging"),
            root=str(place.root.resolve()),
            has_sandbox=sandbox.can_confine,
            known=secrets.known,
            mcp=client if settings.mcp.servers else None,
        )

    return tools


def _worktree_home(place: WorkspaceFolder, state: Path) -> Path:
    """Return where the files of a workspace's sessions are: outside of the workspace."""
    name = hashlib.sha256(os.fsencode(place.root.resolve())).hexdigest()[:32]
    return state / "worktrees" / name


async def sandbox_findings() -> dict[str, tuple[str, ...]]:
    """Return, for each way of confining commands here, what its self-test found against it; nothing is good."""
    sandbox = Sandbox()
    found = {one: await sandbox.finding(one) for one in BACKENDS}
    return {one: (*([finding.missing] if finding.missing else []), *finding.breaches) for one, finding in found.items()}


def no_tools(store: Store, usable: Usable) -> Tools:
    """Return no tools: what a workspace has that only calls models."""

    async def has_sandbox() -> bool:
        return False

    return Tools(has_sandbox=has_sandbox, known=KnownValues())


class Mcp(msgspec.Struct, frozen=True):
    """The configured MCP servers: what is pinned of them, and the client that asks them."""

    servers: McpServers
    client: McpClient

    async def look(self, server: str) -> tuple[list[PinnedTool], list[RefusedTool]]:
        """Ask a server for its tools; return what waits for a person, and what cannot be taken.

        Raises:
            NotFound: there is no such server.
            ProviderFailed: it did not answer, or with what is no listing.
        """
        try:
            return await self.servers.look(server, self.client)
        except ToolFailed as failed:
            raise ProviderFailed(server=server, reason=failed.code, hint=failed.sentence) from None


class Opened(msgspec.Struct, frozen=True):
    """The tools of a runtime that works."""

    gate: ToolGate
    turns: ToolTurns
    workspaces: Workspaces | None
    mcp: Mcp | None

    def add(self, function: Function, said: Described) -> None:
        """Let a function of the program be a tool from now on.

        Raises:
            InvalidRequest, UnknownCapability, StateConflict, TooLarge: as `tools.program.define` and
                `ToolRegistry.register`.
        """
        definition = define(function, said)
        self.gate.registry.register(definition, ToolSource.PROGRAM)
        self.gate.attach(definition.tool_id, ProgramTool(function, trusted=said.trusted))

    async def close(self) -> None:
        """Close every adapter."""
        try:
            await self.gate.close()
        finally:
            if self.mcp is not None:
                await self.mcp.client.close()


class Toolbox:
    """The tools of one runtime: what it answers about calls first, and its gate once an epoch has begun."""

    def __init__(self, store: Store, clock: Clock, new_id: NewIds, settings: Settings, tools_for: ToolsFor) -> None:
        self._store = store
        self._clock = clock
        self._new_id = new_id
        self._settings = settings
        self._tools = tools_for(store, self._usable)
        self.registry = ToolRegistry(SHIPPED, CompiledSchema)
        for one in self._tools.provided:
            for definition in one.definitions:
                self.registry.register(definition, one.source)
        self._reader = CallReader(self.registry, self._tools.known)
        self.approvals = Approvals(settings.policy, self._reader.model_call, new_id.several)
        self._turns: ToolTurns | None = None

    async def open(
        self, queue: RunQueue, feeds: Feeds, keeping: Keeping, epoch: int, asked: Callable[[], Awaitable[None]]
    ) -> Opened:
        """Return the door to the tools, and what carries out those that models ask for."""
        tools = self._tools
        workspaces = None

        async def at_root(session_id: str, writes: bool) -> str:
            return tools.root

        if tools.worktrees is not None:
            workspaces = Workspaces(self._store, queue, tools.root, tools.worktrees)
        gate = ToolGate(
            self.registry,
            {definition.tool_id: one.adapter for one in tools.provided for definition in one.definitions},
            StoredToolRecords(self._store, queue, self.approvals, keeping, self._clock, epoch),
            at_root if workspaces is None else workspaces.room,
            self._clock,
            tools.known,
            tools.has_sandbox,
        )
        self._turns = ToolTurns(
            self._store,
            queue,
            gate,
            self.approvals,
            feeds,
            self._clock,
            self._new_id,
            epoch,
            read=self._reader.model_call,
            grace_us=self._settings.recovery.lease_grace_ms * US_PER_MS,
            asked=asked,
        )
        return Opened(gate, self._turns, workspaces, await self._mcp(gate))

    async def _mcp(self, gate: ToolGate) -> Mcp | None:
        make = self._tools.mcp
        if make is None:
            return None
        servers = McpServers(
            self._store, self.registry, self._settings.mcp.servers, lambda tool_id: gate.attach(tool_id, client)
        )
        client = make(servers.approved, servers.listed)
        await servers.load()
        return Mcp(servers, client)

    async def _usable(self, session_id: SessionId) -> Sequence[RegisteredTool]:
        turns = self._turns
        if turns is None:
            return ()
        return await self._store.read(lambda reader: turns.usable(reader, session_id))
