"""MCP pipe: messages over a peer's standard streams, within bounds, as the MCP SDK takes its transports.

The SDK's own transport holds a line whole however long it is, hands its process our environment, and starts a task for
every message that the peer thinks of. This one ends the connection instead.

Source:
    02 §5; MCP 2026-07-28 and 2025-11-25, transports (stdio).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Protocol

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client import Transport
from mcp.shared._stream_protocols import WriteStream
from mcp.shared.message import SessionMessage
from mcp_types import (
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCResponse,
    jsonrpc_message_adapter,
)

from handshake.kernel.mcp_settings import MAX_MCP_MESSAGE_BYTES, MAX_MCP_UNASKED_PER_S, MCP_WRITE_MS
from handshake.kernel.units import Microseconds

READ_BYTES = 64 * 1024
"""What is read at a time."""
LISTING_CHANGED = "notifications/tools/list_changed"

_US_PER_S = 1_000_000


class Pipes(Protocol):
    """The standard streams of a peer."""

    async def read(self, most_bytes: int) -> bytes:
        """Return the next bytes that the peer wrote, or none once it has closed its output."""
        ...

    async def write(self, data: bytes) -> None:
        """Hand `data` to the peer; raises `OSError` if it no longer reads."""
        ...

    async def close(self) -> None:
        """End the peer, and what it started, within a second; a second call does nothing."""
        ...


Streams = tuple[MemoryObjectReceiveStream[SessionMessage | Exception], WriteStream[SessionMessage]]
"""What a transport gives the SDK."""


class PipeEnd(StrEnum):
    """Why a connection ended."""

    CLOSED = "closed"
    """The peer ended, or closed its output."""
    TOO_LARGE = "message_too_large"
    FLOOD = "flood"
    NOT_READING = "not_reading"


class Lines:
    """Cuts a stream of bytes into lines, and holds at most one line that is not whole."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes] | None:
        """Return the lines that `data` completes, or None if one is longer than the limit."""
        *whole, rest = data.split(b"\n")
        if whole:
            whole[0] = bytes(self._rest) + whole[0]
            self._rest.clear()
        if len(self._rest) + len(rest) > self._limit or any(len(line) > self._limit for line in whole):
            return None
        self._rest += rest
        return whole


class Unasked:
    """Counts messages that answer nothing, second by second."""

    def __init__(self, now_us: Callable[[], Microseconds], most_per_s: int = MAX_MCP_UNASKED_PER_S) -> None:
        self._now_us = now_us
        self._most = most_per_s
        self._since_us = now_us()
        self._count = 0

    def admits(self) -> bool:
        """Count one message; return whether it is within bounds."""
        now_us = self._now_us()
        if now_us - self._since_us >= _US_PER_S:
            self._since_us, self._count = now_us, 0
        self._count += 1
        return self._count <= self._most


def is_answer(message: JSONRPCMessage) -> bool:
    """Return whether a message answers a request."""
    return isinstance(message, JSONRPCResponse | JSONRPCError)


def concerns_client(message: JSONRPCMessage) -> bool:
    """Return whether a client acts on a server's message; progress, logs and the like are dropped."""
    return not isinstance(message, JSONRPCNotification) or message.method == LISTING_CHANGED


def server_pipe(pipes: Pipes, now_us: Callable[[], Microseconds], ended: Callable[[PipeEnd], None]) -> Transport:
    """Return the transport to a server behind `pipes`; only answers and what the client acts on reach the client.

    Args:
        pipes: closed with the transport.
        now_us: monotonic time.
        ended: called once, when the connection is over for another reason than that the client closed it.
    """
    return _piped(pipes, Unasked(now_us), ended, concerns_client)


def client_pipe(pipes: Pipes, now_us: Callable[[], Microseconds], ended: Callable[[PipeEnd], None]) -> Transport:
    """Return the transport to a client behind `pipes`, as `server_pipe`; every message of it is a request to us."""
    return _piped(pipes, Unasked(now_us), ended, lambda message: True)


@asynccontextmanager
async def _piped(
    pipes: Pipes, unasked: Unasked, ended: Callable[[PipeEnd], None], concerns: Callable[[JSONRPCMessage], bool]
) -> AsyncGenerator[Streams]:
    arriving, read_stream = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write_stream, leaving = anyio.create_memory_object_stream[SessionMessage](0)

    async def read() -> None:
        async with arriving:
            ended(await _read(pipes, arriving, unasked, concerns))

    async def write() -> None:
        async with leaving:
            async for one in leaving:
                text = one.message.model_dump_json(by_alias=True, exclude_unset=True)
                try:
                    async with asyncio.timeout(MCP_WRITE_MS / 1_000):
                        await pipes.write(text.encode() + b"\n")
                except (TimeoutError, OSError):
                    ended(PipeEnd.NOT_READING)
                    return

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(read)
            group.start_soon(write)
            try:
                yield read_stream, write_stream
            finally:
                read_stream.close()
                write_stream.close()
                group.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await pipes.close()


async def _read(
    pipes: Pipes,
    arriving: MemoryObjectSendStream[SessionMessage | Exception],
    unasked: Unasked,
    concerns: Callable[[JSONRPCMessage], bool],
) -> PipeEnd:
    lines = Lines(MAX_MCP_MESSAGE_BYTES)
    while data := await pipes.read(READ_BYTES):
        whole = lines.feed(data)
        if whole is None:
            return PipeEnd.TOO_LARGE
        for line in whole:
            message = _parse(line)
            if not (message is not None and is_answer(message)) and not unasked.admits():
                return PipeEnd.FLOOD
            if message is None or not concerns(message):
                continue
            try:
                await arriving.send(SessionMessage(message))
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                return PipeEnd.CLOSED
    return PipeEnd.CLOSED


def _parse(line: bytes) -> JSONRPCMessage | None:
    """Return the message of a line, or None for what is none; the SDK would write such a line into its log."""
    try:
        return jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValueError:
        return None
