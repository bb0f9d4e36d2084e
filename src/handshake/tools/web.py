"""Web: the adapter of the tool that sends a request to the web; what comes back is content that nobody vouches for."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from handshake.kernel.errors import EndpointBlocked, HandshakeError
from handshake.kernel.settings import MAX_WEB_BODY_BYTES, MAX_WEB_HEADER_CHARS, MAX_WEB_HEADERS
from handshake.kernel.web import Target, checked_headers, parse_target
from handshake.ports.tool import ToolContext, ToolFailed, ToolPass, ToolResult, Touched
from handshake.ports.web import Web, WebFailed, WebLimits, WebRequest, WebResponse

_RESERVED_BYTES = 4_096
"""Of a result's bound, what is kept for status and headers."""
_SHARE_OF_TIME = 0.9
"""Of a call's time, what the request may take; the rest is for its end."""
_HIDDEN_HEADERS = frozenset({"set-cookie", "set-cookie2", "www-authenticate", "proxy-authenticate"})
"""Headers of an answer that are credentials, or ask for them."""


class WebTool:
    """Sends requests to the web.

    Args:
        web: the way there.
    """

    def __init__(self, web: Web) -> None:
        self._web = web

    async def run(
        self, tool_pass: ToolPass, _tool_id: str, args: Mapping[str, Any], context: ToolContext
    ) -> ToolResult:
        """Send one request.

        Raises:
            ToolFailed: it may not be sent, or there was no answer.
        """
        tool_pass.spend()
        request = _request(args)
        touched = Touched(urls=(request.target.address,))
        total_ms = max(int(context.timeout_ms * _SHARE_OF_TIME), 1)
        room = max(min(context.max_result_bytes - _RESERVED_BYTES, MAX_WEB_BODY_BYTES), 1)
        try:
            answer = await self._web.fetch(request, WebLimits(total_ms, total_ms, room))
        except EndpointBlocked as refused:
            raise ToolFailed(refused.code, f"the address may not be reached: {refused.context['reason']}") from None
        except WebFailed as failure:
            raise ToolFailed(
                f"http_{failure.reason}",
                f"there was no answer: {failure.reason}",
                retryable=request.method in ("GET", "HEAD"),
                touched=touched,
                timeout=failure.is_timeout,
            ) from None
        return ToolResult(_told(answer, room), touched)

    async def close(self) -> None:
        """Nothing is held between two requests."""


def _request(args: Mapping[str, Any]) -> WebRequest:
    try:
        target: Target = parse_target(args["url"])
        headers = checked_headers(args.get("headers", {}).items())
        body = _body(args)
    except HandshakeError as refused:
        what = refused.context.get("field", "url")
        raise ToolFailed(refused.code, f"the {what} is refused: {refused.context.get('reason')}") from None
    return WebRequest(args.get("method", "GET"), target, headers, body)


def _body(args: Mapping[str, Any]) -> bytes | None:
    text: str | None = args.get("body")
    if text is None:
        return None
    try:
        return base64.b64decode(text, validate=True) if args.get("body_encoding") == "base64" else text.encode()
    except (binascii.Error, ValueError):
        raise ToolFailed("HSK-400-INVALID-REQUEST", "the body is not what its encoding says") from None


def _told(answer: WebResponse, room: int) -> dict[str, Any]:
    headers = _shown(answer.headers)
    body, is_cut = answer.body, answer.is_cut
    try:
        text = body.decode()
        while len(msgspec.json.encode(text)) > room:
            text, is_cut = text[: len(text) // 2], True
        body, content, encoding = text.encode(), text, "utf-8"
    except UnicodeDecodeError:
        if len(body) > room // 4 * 3:
            body, is_cut = body[: room // 4 * 3], True
        content, encoding = base64.b64encode(body).decode(), "base64"
    return {
        "status": answer.status,
        "headers": headers,
        "content": content,
        "encoding": encoding,
        "size_bytes": len(body),
        "is_cut": is_cut,
    }


def _shown(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the headers of an answer by lower-case name; of a repeated one the first, and no credentials."""
    found: dict[str, str] = {}
    left = _RESERVED_BYTES // 2
    for name, value in headers:
        known = name.lower()
        size = len(msgspec.json.encode(known)) + len(msgspec.json.encode(value[:MAX_WEB_HEADER_CHARS])) + 2
        if known in _HIDDEN_HEADERS or known in found or size > left or len(found) == MAX_WEB_HEADERS:
            continue
        left -= size
        found[known] = value[:MAX_WEB_HEADER_CHARS]
    return found
