"""MCP connection: one live connection to one MCP server, its whole listing, and calls, all within bounds.

Requests of the server (sampling, roots, elicitation) are refused by the SDK, since no callback is given; what it says
unasked is dropped, except that its listing changed.

Source:
    02 §5; MCP 2026-07-28 through the official SDK.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from mcp.client import Client, Transport
from mcp.client.session import IncomingMessage
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CONNECTION_CLOSED,
    CallToolRequest,
    CallToolRequestParams,
    CallToolResult,
    Implementation,
    InputRequiredResult,
    PaginatedRequestParams,
    ToolListChangedNotification,
)
from pydantic import TypeAdapter, ValidationError

from handshake.kernel.errors import HandshakeError, InvalidRequest
from handshake.kernel.mcp import MAX_MCP_TOOLS, McpListing, read_listing, visible
from handshake.kernel.mcp_settings import (
    MAX_MCP_ERROR_CHARS,
    MAX_MCP_PAGES,
    MCP_CLOSE_MS,
    MCP_LIST_MS,
    MCP_START_MS,
)
from handshake.ports.tool import ToolFailed

CLIENT = Implementation(name="handshake", version="1")
"""How we introduce ourselves to servers; they need not know which version we are."""

_results: TypeAdapter[CallToolResult | InputRequiredResult] = TypeAdapter(CallToolResult | InputRequiredResult)

for _name in ("mcp", "client"):  # the SDK's loggers: they would print what servers say
    logging.getLogger(_name).addHandler(logging.NullHandler())
    logging.getLogger(_name).propagate = False


Answer = TypeVar("Answer")


class McpConnection:
    """A connection that is opened once, used by many calls at a time, and closed once.

    Args:
        server: its name, for errors.
        transport: makes the way to it; told whom to call when the way ends by itself, and why.
    """

    def __init__(self, server: str, transport: Callable[[Callable[[str], None]], Transport]) -> None:
        self._server = server
        self._transport = transport
        self._client: Client | None = None
        self._serving: asyncio.Task[None] | None = None
        self._requests: set[asyncio.Task[Any]] = set()
        self._closing = asyncio.Event()
        self._changed = asyncio.Event()
        self._is_retired = False
        self._why = "closed"

    @property
    def is_usable(self) -> bool:
        """Whether new calls may be given to it."""
        return self._client is not None and not self._closing.is_set() and not self._is_retired

    async def open(self) -> None:
        """Connect and agree on a version.

        Raises:
            ToolFailed: `mcp_unavailable`; nothing is left behind.
            EndpointBlocked, InvalidConfig: the server may not be reached, or a credential for it is missing.
        """
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        self._serving = loop.create_task(self._serve(ready))
        try:
            async with asyncio.timeout(MCP_START_MS / 1_000):
                await asyncio.shield(ready)
        except TimeoutError:
            self._why = "no_answer"
            await self.close()
            raise self._unavailable() from None
        except BaseException:
            await self.close()
            raise

    async def listing(self) -> McpListing:
        """Return all tools of the server, read anew.

        Raises:
            ToolFailed: it did not answer, or with what is no listing.
        """
        entries = await self._answer(self._all_pages(self._open_client()), MCP_LIST_MS)
        try:
            return read_listing(self._server, entries)
        except InvalidRequest:
            raise ToolFailed("mcp_listing", "the server lists more tools than anyone could approve") from None

    async def call(
        self, name: str, args: Mapping[str, Any], meta: Mapping[str, str], *, limit_ms: int
    ) -> CallToolResult:
        """Call one tool.

        Raises:
            ToolFailed: there was no result.
        """
        params = CallToolRequestParams.model_validate({"name": name, "arguments": dict(args), "_meta": dict(meta)})
        request = CallToolRequest(params=params)
        result = await self._answer(self._open_client().session.send_request(request, _results), limit_ms)
        if isinstance(result, InputRequiredResult):
            raise ToolFailed("mcp_input_required", "the server asks for input that it does not get")
        return result

    async def changed(self) -> bool:
        """Wait until the server says that its listing changed; return False once the connection is over."""
        await self._changed.wait()
        self._changed.clear()
        return not self._closing.is_set()

    async def close(self) -> None:
        """End the connection, and the server if it was started for it."""
        self._closing.set()
        serving, self._serving = self._serving, None
        if serving is not None:
            done, _ = await asyncio.wait((serving,), timeout=2 * MCP_CLOSE_MS / 1_000)
            if not done:
                serving.cancel()
                await asyncio.wait((serving,), timeout=MCP_CLOSE_MS / 1_000)

    async def _all_pages(self, client: Client) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = []
        cursor: str | None = None
        for _ in range(MAX_MCP_PAGES):
            page = await client.session.list_tools(params=PaginatedRequestParams(cursor=cursor))
            entries += (one.model_dump(by_alias=True, mode="json") for one in page.tools)
            cursor = page.next_cursor
            if cursor is None or len(entries) > MAX_MCP_TOOLS:
                return entries
        raise ToolFailed("mcp_listing", "the server's listing has no end")

    async def _answer(self, asking: Coroutine[Any, Any, Answer], limit_ms: int) -> Answer:
        """Return what a request is answered.

        A server that did not answer in time, or whose answer nobody waits for any more, gets no new requests: what it
        still does for the old one ends with the connection, once all others have been answered. The request is a task
        of its own, because the SDK would go on for seconds to tell such a server that it was given up.
        """
        request = asyncio.get_running_loop().create_task(asking)
        self._requests.add(request)
        request.add_done_callback(self._settle)
        try:
            await asyncio.wait((request,), timeout=limit_ms / 1_000)
        finally:
            if not request.done():
                request.cancel()
                self._is_retired = True
                self._end_if_over(but_for=request)
                await asyncio.wait((request,), timeout=MCP_CLOSE_MS / 1_000)
        if not request.done() or request.cancelled():
            raise ToolFailed("mcp_timeout", "the MCP server did not answer in time", timeout=True)
        try:
            return request.result()
        except MCPError as refused:
            if refused.code == CONNECTION_CLOSED:
                raise self._unavailable() from None
            raise ToolFailed("mcp_error", visible(refused.message[:MAX_MCP_ERROR_CHARS])) from None
        except (ValidationError, ValueError, RuntimeError):
            raise ToolFailed("mcp_malformed", "the MCP server's answer is none of the protocol") from None

    def _settle(self, request: asyncio.Task[Any]) -> None:
        self._requests.discard(request)
        if not request.cancelled():
            request.exception()  # it was told to whoever waited, or nobody wants to know
        if self._is_retired:
            self._end_if_over()

    def _end_if_over(self, *, but_for: asyncio.Task[Any] | None = None) -> None:
        if not self._requests - {but_for}:
            self._closing.set()

    async def _serve(self, ready: asyncio.Future[None]) -> None:
        """Hold the SDK's client open until the connection ends, in the one task that may enter and leave it."""
        try:
            async with Client(
                self._transport(self._ended), client_info=CLIENT, cache=None, message_handler=self._hear
            ) as client:
                self._client = client
                ready.set_result(None)
                await self._closing.wait()
        except Exception as broken:  # noqa: BLE001  (whatever a server brings about ends its connection only)
            if not ready.done():
                ready.set_exception(_failure(broken) or self._unavailable())
        finally:
            self._client = None
            self._closing.set()
            self._changed.set()
            if ready.done() and not ready.cancelled():
                ready.exception()

    def _ended(self, why: str) -> None:
        self._why = why
        self._closing.set()

    async def _hear(self, message: IncomingMessage) -> None:
        if isinstance(message, ToolListChangedNotification):
            self._changed.set()

    def _open_client(self) -> Client:
        if self._client is None or self._closing.is_set():
            raise self._unavailable()
        return self._client

    def _unavailable(self) -> ToolFailed:
        return ToolFailed(
            "mcp_unavailable", f"the MCP server {self._server} is not there ({self._why})", retryable=True
        )


def _failure(broken: Exception) -> ToolFailed | HandshakeError | None:
    """Return the error of ours that a failed start carries somewhere inside, if it does."""
    if isinstance(broken, ExceptionGroup):
        found = (_failure(one) for one in broken.exceptions)
        return next((one for one in found if one is not None), None)
    return broken if isinstance(broken, ToolFailed | HandshakeError) else None
