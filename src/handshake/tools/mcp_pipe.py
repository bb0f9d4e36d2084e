"""MCP pipe: messages over a peer's standard streams, within bounds, as the MCP SDK takes its transports.

The SDK's own transport holds a line whole however long it is, hands its process our environment, and starts a task for
every message that the peer thinks of. This one ends the connection instead.

Source:
    02 §5; MCP 2026-07-28 and 2025-11-25, transports (stdio).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Protocol

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client import Transport
from mcp.shared._stream_protocols import WriteStream
from mcp.shared.message import SessionMessage
from mcp_types import (
    INVALID_PARAMS,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    jsonrpc_message_adapter,
)

from handshake.kernel.errors import InvalidRequest, TooLarge
from handshake.kernel.mcp_settings import MAX_MCP_MESSAGE_BYTES, MAX_MCP_UNASKED_PER_S, MCP_WRITE_MS
from handshake.kernel.strict_json import read_json
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


def server_pipe(
    start: Callable[[], Awaitable[Pipes]], now_us: Callable[[], Microseconds], ended: Callable[[PipeEnd], None]
) -> Transport:
    """Return the transport to a server; only answers and what the client acts on reach the client.

    Args:
        start: starts the server when the transport is entered; with the transport it is ended.
        now_us: monotonic time.
        ended: called when the connection is over for another reason than that the client closed it.
    """
    return _piped(start, _Reading(Unasked(now_us), concerns_client), ended)


def client_pipe(
    start: Callable[[], Awaitable[Pipes]], now_us: Callable[[], Microseconds], ended: Callable[[PipeEnd], None]
) -> Transport:
    """Return the transport to a client, as `server_pipe`.

    A request that two readers could understand differently is answered with an error: the SDK's own reader would take
    the last of two equal keys.
    """
    return _piped(start, _Reading(Unasked(now_us), lambda message: True, _misreadable), ended)


class _Reading:
    """What becomes of the lines of a peer.

    Args:
        unasked: counts what answers nothing.
        concerns: whether a message is handed on.
        objection: why a request is answered with an error instead.
    """

    def __init__(
        self,
        unasked: Unasked,
        concerns: Callable[[JSONRPCMessage], bool],
        objection: Callable[[bytes], str | None] = lambda line: None,
    ) -> None:
        self._unasked = unasked
        self._concerns = concerns
        self._objection = objection

    async def until_end(
        self,
        pipes: Pipes,
        arriving: MemoryObjectSendStream[SessionMessage | Exception],
        leaving: MemoryObjectSendStream[SessionMessage],
    ) -> PipeEnd:
        """Read until the peer ends, or goes beyond a bound."""
        lines = Lines(MAX_MCP_MESSAGE_BYTES)
        while data := await pipes.read(READ_BYTES):
            whole = lines.feed(data)
            if whole is None:
                return PipeEnd.TOO_LARGE
            for line in whole:
                message = _parse(line)
                if not (message is not None and is_answer(message)) and not self._unasked.admits():
                    return PipeEnd.FLOOD
                if message is None or not self._concerns(message):
                    continue
                objection = self._objection(line) if isinstance(message, JSONRPCRequest) else None
                try:
                    if objection is None:
                        await arriving.send(SessionMessage(message))
                    elif isinstance(message, JSONRPCRequest):
                        await leaving.send(SessionMessage(_refusal(message, objection)))
                except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                    return PipeEnd.CLOSED
        return PipeEnd.CLOSED


@asynccontextmanager
async def _piped(
    start: Callable[[], Awaitable[Pipes]], reading: _Reading, ended: Callable[[PipeEnd], None]
) -> AsyncGenerator[Streams]:
    pipes = await start()
    arriving, read_stream = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write_stream, leaving = anyio.create_memory_object_stream[SessionMessage](0)
    answering = write_stream.clone()

    async def read() -> None:
        async with arriving, answering:
            ended(await reading.until_end(pipes, arriving, answering))

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


def _parse(line: bytes) -> JSONRPCMessage | None:
    """Return the message of a line, or None for what is none; the SDK would write such a line into its log."""
    try:
        return jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValueError:
        return None


def _misreadable(line: bytes) -> str | None:
    """Return why a line is no strict JSON."""
    try:
        read_json(line.rstrip(b"\r"), max_bytes=MAX_MCP_MESSAGE_BYTES)
    except (InvalidRequest, TooLarge) as refused:
        return str(refused.context.get("reason", "too_large"))
    return None


def _refusal(request: JSONRPCRequest, reason: str) -> JSONRPCError:
    error = ErrorData(code=INVALID_PARAMS, message=f"the request is no strict JSON: {reason}")
    return JSONRPCError(jsonrpc="2.0", id=request.id, error=error)
