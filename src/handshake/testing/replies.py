"""Replies: what a scripted provider does, action by action, and the bodies that a chat engine sends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

from handshake.kernel.tool_message import CalledTool

FRAGMENT_CHARS = 7
"""How much of a call's arguments an event of a stream brings."""


class Hold:
    """An action: wait, until the test calls `release`."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        """Set when a reply has got here."""
        self._released = asyncio.Event()
        self._waiting: list[Callable[[], None]] = []

    def release(self) -> None:
        """Let this reply, and every later one that gets here, go on."""
        self._released.set()
        waiting, self._waiting = self._waiting, []
        for go_on in waiting:
            go_on()

    def holds(self, go_on: Callable[[], None]) -> bool:
        """Note that a reply is here, and return whether it must wait until `go_on` is called."""
        self.reached.set()
        if self._released.is_set():
            return False
        self._waiting.append(go_on)
        return True


class Endless:
    """An action: write the same bytes again and again, until the client closes."""

    def __init__(self, chunk: bytes) -> None:
        self.chunk = chunk


class Break:
    """An action: end the connection, by a reset or in order."""

    def __init__(self, *, reset: bool) -> None:
        self.reset = reset


RESET = Break(reset=True)
CLOSE = Break(reset=False)

Action = bytes | Hold | Endless | Break
Reply = Sequence[Action]


def response(
    body: bytes, *, status: int = 200, content_type: str = "application/json", headers: Sequence[tuple[str, str]] = ()
) -> list[Action]:
    """Return a reply with a length, which leaves the connection open."""
    length = ("content-length", str(len(body)))
    return [head(status, content_type=content_type, headers=[*headers, length]) + body]


def chunked(
    *parts: Action, content_type: str = "text/event-stream", headers: Sequence[tuple[str, str]] = ()
) -> list[Action]:
    """Return a reply whose parts are chunks of their own; actions between them stay."""
    coding = ("transfer-encoding", "chunked")
    body: list[Action] = [b"%x\r\n%b\r\n" % (len(part), part) if isinstance(part, bytes) else part for part in parts]
    return [head(200, content_type=content_type, headers=[*headers, coding]), *body, b"0\r\n\r\n"]


def head(status: int, *, content_type: str | None = None, headers: Sequence[tuple[str, str]] = ()) -> bytes:
    """Return a status line and headers, with the empty line."""
    named = list(headers) if content_type is None else [("content-type", content_type), *headers]
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in named), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def event_stream(
    *texts: str,
    calls: Sequence[CalledTool] = (),
    finish_reason: str | None = "stop",
    usage: tuple[int, int] | None = (3, 2),
    done: bool = True,
) -> bytes:
    """Return the body of a streamed chat answer with one event per text, and calls in fragments after them."""
    events: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": {"role": "assistant"}}]}]
    events += [{"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]} for text in texts]
    events += [{"choices": [{"index": 0, "delta": {"tool_calls": [part]}}]} for part in _fragments(calls)]
    if finish_reason is not None:
        events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish_reason}]})
    if usage is not None:
        events.append({"choices": [], "usage": _usage(usage)})
    lines = [json.dumps(event, ensure_ascii=False) for event in events] + (["[DONE]"] if done else [])
    return "".join(f"data: {line}\n\n" for line in lines).encode()


def whole_answer(
    text: str,
    *,
    calls: Sequence[CalledTool] = (),
    finish_reason: str = "stop",
    usage: tuple[int, int] | None = (3, 2),
) -> bytes:
    """Return the body of a chat answer that is not streamed."""
    message: dict[str, Any] = {"role": "assistant", "content": text or None if calls else text}
    if calls:
        message["tool_calls"] = [
            {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ]
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    answer: dict[str, Any] = {"choices": [choice]}
    if usage is not None:
        answer["usage"] = _usage(usage)
    return json.dumps(answer, ensure_ascii=False).encode()


def _fragments(calls: Sequence[CalledTool]) -> list[dict[str, Any]]:
    """Return the parts of calls as engines stream them: all begin, and then their arguments come by turns."""
    parts: list[dict[str, Any]] = [
        {"index": at, "id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": ""}}
        for at, call in enumerate(calls)
    ]
    longest = max((len(call.arguments) for call in calls), default=0)
    parts += [
        {"index": at, "function": {"arguments": call.arguments[start : start + FRAGMENT_CHARS]}}
        for start in range(0, longest, FRAGMENT_CHARS)
        for at, call in enumerate(calls)
        if start < len(call.arguments)
    ]
    return parts


def _usage(usage: tuple[int, int]) -> dict[str, int]:
    return {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
