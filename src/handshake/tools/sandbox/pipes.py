"""Pipes: a confined program that is talked to over its standard streams while it lives, such as an MCP server."""

from __future__ import annotations

import os

from handshake.tools.sandbox.running import Started


class ConfinedPipes:
    """The standard streams of a program in the sandbox; what it writes to its errors is dropped."""

    def __init__(self, started: Started) -> None:
        self._started = started

    async def read(self, most_bytes: int) -> bytes:
        """Return the next bytes that it wrote, or none once it has closed its output."""
        return await self._started.stdout.read(most_bytes)

    async def write(self, data: bytes) -> None:
        """Hand it bytes; raises `OSError` if it no longer reads."""
        self._started.stdin.write(data)
        await self._started.stdin.drain()

    async def close(self) -> None:
        """End it, and what it started, within a second; a second call does nothing."""
        if self._started.control.end():
            await self._started.end()
            self._started.disconnect()
            os.close(self._started.status_read)
