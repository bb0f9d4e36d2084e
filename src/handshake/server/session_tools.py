"""Session tools: the tools of one session of a workspace, as a face offers them to whoever was given that session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handshake.kernel.catalogue.tools import Transport
from handshake.kernel.htc import ToolResponse
from handshake.kernel.tool_registry import ToolListing
from handshake.server.brief_workspace import BriefWorkspace


class WorkspaceTools:
    """The tools of a session in a workspace that is held only while they are listed or called.

    Args:
        workspace: where.
        session_id: whose.
        transport: by which way calls come.
    """

    def __init__(self, workspace: BriefWorkspace, session_id: str, transport: Transport) -> None:
        self._workspace = workspace
        self._session_id = session_id
        self._transport = transport

    async def listings(self) -> Sequence[ToolListing]:
        """Return what the session's grants could allow."""
        async with self._workspace.use() as workspace:
            return await workspace.tools.listings(self._session_id)

    async def call(self, tool_id: str, args: dict[str, Any], *, client: str, key: str | None) -> ToolResponse:
        """Let the gate decide about a call, and return its answer."""
        async with self._workspace.use() as workspace:
            return await workspace.tools.call(
                self._session_id, tool_id, args, transport=self._transport, agent_id=client, idempotency_key=key
            )
