"""MCP ways: from what the configuration says of a server to the way by which it is reached: confined, or admitted.

Source:
    02 §5 (MCP client), 02 §7.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from handshake.kernel.command import RUNTIME_FOLDER
from handshake.kernel.mcp_settings import McpServerSettings
from handshake.kernel.path_glob import is_closed
from handshake.kernel.settings import MAX_CALL_MS
from handshake.ports.clock import Clock
from handshake.ports.tool import ToolFailed
from handshake.ports.web_stream import WebStreams
from handshake.tools.sandbox.policy import Limits, NotConfined, Policy
from handshake.tools.sandbox.sandbox import Sandbox

if TYPE_CHECKING:
    from mcp.client import Transport

    from handshake.tools.mcp_pipe import Pipes

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
"""Where a server's program is looked for, unless its own variables say otherwise."""


class McpWays:
    """The ways to all configured servers.

    Args:
        servers: by name.
        root: the workspace.
        nowhere: an empty folder: the workspace of a server that is to see nothing of it.
        sandbox: confines those that are started.
        web: reaches the others.
        secret: reads a credential where its reference points.
        clock: its time.
    """

    def __init__(
        self,
        servers: Mapping[str, McpServerSettings],
        root: Path,
        nowhere: Path,
        sandbox: Sandbox,
        web: WebStreams,
        secret: Callable[[str], str],
        clock: Clock,
    ) -> None:
        self._servers = servers
        self._root = root
        self._nowhere = nowhere
        self._sandbox = sandbox
        self._web = web
        self._secret = secret
        self._clock = clock

    def __call__(self, server: str, ended: Callable[[str], None]) -> Transport:
        """Return the way to a server; nothing is started or looked up before it is entered.

        Raises:
            ToolFailed: there is no such server any more.
            InvalidBaseUrl, EndpointBlocked: its address is none.
        """
        known = self._servers.get(server)
        if known is None:
            raise ToolFailed("mcp_unavailable", f"the MCP server {server} is not configured")
        if known.url is not None:
            from handshake.tools.mcp_http import Way, server_over_http

            credential = None if known.credential is None else partial(self._secret, known.credential)
            way = Way(self._web, known.url, credential, known.run_by_operator)
            return server_over_http(way, self._clock.monotonic_us, ended)
        from handshake.tools.mcp_pipe import server_pipe

        return server_pipe(lambda: self._start(server, known), self._clock.monotonic_us, ended)

    async def _start(self, server: str, known: McpServerSettings) -> Pipes:
        try:
            return await self._sandbox.open(self.policy(server, known))
        except NotConfined as refused:
            raise ToolFailed(
                "mcp_not_confined",
                f"the MCP server {server} cannot be confined here and was not started: {refused.step}",
            ) from None

    def _folder(self, server: str, named: str) -> str:
        whole = os.path.realpath(self._root)
        found = os.path.realpath(os.path.join(whole, named))
        is_inside = found == whole or found.startswith(whole + os.sep)
        if not is_inside or is_closed(found[len(whole) :].split(os.sep), writing=False) or not os.path.isdir(found):
            raise ToolFailed("mcp_cwd", f"the folder of the MCP server {server} is not one of the workspace")
        return found

    def _elsewhere(self, server: str, named: str) -> str:
        """Return a place that a server may read besides; the runtime's folder is not below it, nor is it below that."""
        found, closed = os.path.realpath(named), os.path.join(os.path.realpath(self._root), RUNTIME_FOLDER)
        if (
            not os.path.isabs(named)
            or f"{closed}/".startswith(f"{found.rstrip('/')}/")
            or found.startswith(f"{closed}/")
        ):
            raise ToolFailed("mcp_read", f"the MCP server {server} may not read a place that it names")
        return found

    def policy(self, server: str, known: McpServerSettings) -> Policy:
        """Return what a server may see and use: the one folder that it is given, and the variables that are declared.

        Raises:
            ToolFailed: its folder is missing, or leads out of the workspace; a place elsewhere holds the runtime's.
            InvalidConfig, Unsupported: the value of a variable cannot be read.
        """
        variables = {name: self._secret(reference) for name, reference in known.env.items()}
        root = str(self._nowhere) if known.cwd is None else self._folder(server, known.cwd)
        return Policy(
            argv=known.command,
            root=root,
            cwd=root,
            environment=(("LANG", "C.UTF-8"), ("PATH", variables.pop("PATH", SYSTEM_PATH)), *variables.items()),
            read=tuple(self._elsewhere(server, one) for one in known.read),
            has_network=known.network,
            limits=Limits(timeout_ms=MAX_CALL_MS),
        )
