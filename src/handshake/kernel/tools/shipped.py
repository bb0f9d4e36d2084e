"""Shipped tools: every definition of the runtime's own tools, in the order of their ids."""

from __future__ import annotations

from handshake.kernel.tool import ToolDefinition
from handshake.kernel.tools import artifacts, discovery, files, process, web

DEFINITIONS: tuple[ToolDefinition, ...] = tuple(
    sorted(
        (
            *artifacts.DEFINITIONS,
            *discovery.DEFINITIONS,
            *files.DEFINITIONS,
            *process.DEFINITIONS,
            *web.DEFINITIONS,
        ),
        key=lambda one: one.tool_id,
    )
)
"""What a workspace registers at its start."""
