"""MCP over stdio: this process's own streams as the way to the one client that started it."""

from __future__ import annotations

import asyncio
import os
import sys

from handshake.kernel.errors import Unsupported
from handshake.kernel.units import US_PER_S, Microseconds
from handshake.server.mcp_session import SessionTools, mcp_server
from handshake.tools.mcp_pipe import client_pipe


class OwnStreams:
    """Standard input and output of this process; what anything else prints goes to the standard error meanwhile."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: int) -> None:
        self._reader = reader
        self._writer = writer
        self._kept = kept

    @classmethod
    async def take(cls) -> OwnStreams:
        """Take the streams over.

        Raises:
            Unsupported: they are no pipes, sockets or terminals.
        """
        loop = asyncio.get_running_loop()
        kept = os.dup(1)
        try:
            os.dup2(2, 1)
            reader = asyncio.StreamReader()
            await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
            transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(kept, "wb"))
        except ValueError:
            raise Unsupported(
                reason="no_pipe", hint="an MCP client starts this command and talks to it by pipes"
            ) from None
        return cls(reader, asyncio.StreamWriter(transport, protocol, None, loop), kept)

    async def read(self, most_bytes: int) -> bytes:
        """Return what the client said next, or nothing once it has closed its end."""
        return await self._reader.read(most_bytes)

    async def write(self, data: bytes) -> None:
        """Tell the client something."""
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        """Close the way to the client."""
        self._writer.close()


async def serve(tools: SessionTools, version: str) -> None:
    """Serve the client at the other end of this process's streams until it closes them, or goes beyond a bound."""
    loop = asyncio.get_running_loop()

    def now_us() -> Microseconds:
        return Microseconds(int(loop.time() * US_PER_S))

    server = mcp_server(tools, version)
    async with client_pipe(OwnStreams.take, now_us, lambda why: None) as (read, write):
        await server.run(read, write, server.create_initialization_options())
