"""Workspace: the Python face. `open_workspace` gives sessions to talk to; nothing here has rules of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from handshake.bootstrap import (
    Described,
    Models,
    Runtime,
    close_runtime,
    configure,
    find_workspace,
    limits_of,
    open_runtime,
)
from handshake.kernel.ids import JobId
from handshake.kernel.job import Job
from handshake.kernel.units import US_PER_S, Microseconds
from handshake.operations import records, views
from handshake.operations.cancelling import CancelResult
from handshake.operations.views import QueueView, WorkspaceView
from handshake.workspace.desk import Desk, DeskQuestion
from handshake.workspace.grants import Grants
from handshake.workspace.mcp import Mcp, McpQuestion
from handshake.workspace.sessions import SessionHandle, Sessions
from handshake.workspace.tools import Tools
from handshake.workspace.turns import Result, TurnHandle, cancel_job

__all__ = [
    "DRAIN_S",
    "Desk",
    "DeskQuestion",
    "Grants",
    "Mcp",
    "McpQuestion",
    "Result",
    "SessionHandle",
    "Sessions",
    "Tools",
    "TurnHandle",
    "Workspace",
    "open_workspace",
]

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])

DRAIN_S = 10
"""How long runs may finish when a workspace closes, in seconds; what still runs is handed back to the queue."""


class Workspace:
    """An open workspace; made by `open_workspace`."""

    def __init__(self, runtime: Runtime, drain_s: int = DRAIN_S) -> None:
        self.runtime = runtime
        self.drain_s = drain_s
        """Seconds that runs may take to finish when it closes."""
        self.sessions = Sessions(runtime)
        self.desk = Desk(runtime)
        self.grants = Grants(runtime)
        self.tools = Tools(runtime)
        self.mcp = Mcp(runtime)

    def tool(
        self,
        *,
        side_effect: str,
        capabilities: Sequence[str],
        name: str | None = None,
        version: str = "1.0.0",
        sinks: Sequence[str] | None = None,
        risk: str | None = None,
        idempotent: bool = False,
        trusted: bool = False,
        deferred: bool = False,
        timeout_s: int = 60,
    ) -> Callable[[F], F]:
        """Make a tool of the decorated asynchronous function while this workspace is open; its docstring is for models.

        Args:
            side_effect: READ, WRITE or EXECUTE: what a call may do to the world.
            capabilities: what a call requires of its session; `{argument}` stands for an argument's value.
            name: the tool's id; `program.` and the function's name by default.
            version: of the tool, in three numbers.
            sinks: names of the arguments that choose a destination, recipient or amount; all by default.
            risk: LOW, MEDIUM or HIGH; by the side effect by default.
            idempotent: whether the same call may be made again.
            trusted: whether what it returns may count as trusted content.
            deferred: whether a model must look for it.
            timeout_s: seconds after which a call is cut.

        Raises:
            InvalidRequest: no tool can be made of it; the context names the field.
            UnknownCapability: a capability is not in the registry.
        """
        said = Described(
            side_effect=side_effect,
            capabilities=capabilities,
            name=name,
            version=version,
            sinks=sinks,
            risk=risk,
            idempotent=idempotent,
            trusted=trusted,
            deferred=deferred,
            timeout_s=timeout_s,
        )

        def add(function: F) -> F:
            self.runtime.tools.add(function, said)
            return function

        return add

    def drain(self) -> None:
        """Take no new turns (HSK-503-DRAINING) and start nothing more; what runs goes on, also while it closes."""
        self.runtime.dispatcher.drain()

    async def job(self, job_id: str) -> Job:
        """Return a job."""
        return await self.runtime.store.read(lambda reader: records.job(reader, JobId(job_id)))

    async def cancel_job(self, job_id: str, *, reason: str = "operator") -> CancelResult:
        """Cancel a run, whatever it is doing."""
        return await cancel_job(self.runtime, JobId(job_id), reason=reason)

    async def queue(self, *, after: int = 0, limit: int | None = None) -> QueueView:
        """Return the queue with the reason why each run waits, after the acceptance number `after`."""
        runtime = self.runtime
        limits = limits_of(runtime.settings)
        now_us = runtime.clock.now_us()
        dispatching, has_room = runtime.dispatcher.is_dispatching, not runtime.dispatcher.is_held_back
        return await runtime.store.read(
            lambda reader: views.queue(
                reader, limits, dispatching=dispatching, has_room=has_room, now_us=now_us, after=after, limit=limit
            )
        )

    async def status(self) -> WorkspaceView:
        """Return the workspace in numbers."""
        return await self.runtime.store.read(views.workspace)


@asynccontextmanager
async def open_workspace(
    path: str | Path = ".",
    *,
    flags: Mapping[str, str] | None = None,
    models: Models | None = None,
    dispatch: bool = True,
    drain_s: int = DRAIN_S,
) -> AsyncIterator[Workspace]:
    """Open the workspace of `path` or the nearest folder above it, and close it at the end.

    Args:
        path: a folder; `handshake init` makes a workspace of it.
        flags: settings of the flag layer, by dotted key.
        models: adapters in place of the configured ones, for tests and cassettes.
        dispatch: whether queued runs start.
        drain_s: seconds that runs may take to finish when it closes; what still runs is handed back to the queue.

    Raises:
        NotFound: there is no workspace.
        StateConflict: another runtime holds it; the error names it.
        InvalidConfig: the configuration is wrong.
        IntegrityBroken, StoreFailed: the store cannot be opened.
    """
    place = find_workspace(Path(path))
    runtime = await open_runtime(place, configure(place.root, flags), models=models, dispatch=dispatch)
    workspace = Workspace(runtime, drain_s)
    try:
        yield workspace
    finally:
        await close_runtime(runtime, drain_us=Microseconds(workspace.drain_s * US_PER_S))
