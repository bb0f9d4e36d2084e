"""Pipes: a confined program that is talked to over its standard streams while it lives, such as an MCP server."""

from __future__ import annotations

import os

from handshake.tools.sandbox.orders import Orders
from handshake.tools.sandbox.running import gone, start


class ConfinedPipes:
    """The standard streams of a program in the sandbox; what it writes to its errors is dropped."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders

    async def open(self) -> None:
        """Start the program. That it could not be confined shows as its end."""
        self._started = await start(self._orders, keeps_errors=False)

    async def read(self, most_bytes: int) -> bytes:
        """Return the next bytes that it wrote, or none once it has closed its output."""
        stream = self._started.process.stdout
        assert stream is not None
        return await stream.read(most_bytes)

    async def write(self, data: bytes) -> None:
        """Hand it bytes; raises `OSError` if it no longer reads."""
        stream = self._started.process.stdin
        assert stream is not None
        stream.write(data)
        await stream.drain()

    async def close(self) -> None:
        """End it, and what it started, within a second; a second call does nothing."""
        process, control, status_read = self._started
        if control.end():
            assert process.stdin is not None
            process.stdin.close()
            await gone(process)
            os.close(status_read)
