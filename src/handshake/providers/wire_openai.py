"""OpenAI chat form: requests as exact bytes, and answers, streamed or whole, as pieces; no I/O.

Source:
    provider.stream.any_split, provider.usage.missing_is_null (03 §2, §7).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import msgspec

from handshake.kernel.canonical import Ordered, canonical_body
from handshake.kernel.errors import InvalidRequest
from handshake.kernel.message import MessageRole
from handshake.kernel.retry import FaultKind
from handshake.kernel.tool_message import ToolAnswer
from handshake.kernel.tool_name import sendable_name
from handshake.kernel.units import MAX_SAFE_INTEGER
from handshake.kernel.usage import TokenUsage
from handshake.ports.model import Finished, TextPiece, ThreadMessage, ToolSchema
from handshake.providers.wire_calls import CallPart, CallReader, FunctionPart
from handshake.providers.wire_sse import EventStream, WireFault
from handshake.providers.wire_thread import Said, ordered_tools, sendable_arguments, spoken

PATH = "/chat/completions"
"""The operation, below the base URL."""
ROLES = {MessageRole.SYSTEM: "system", MessageRole.USER: "user", MessageRole.ASSISTANT: "assistant"}
"""Who speaks, in this form; calls stand in the model's messages, results are the role `tool`."""
FINISH_REASONS = frozenset({"stop", "length", "content_filter", "tool_calls", "function_call"})
"""What `finish_reason` may say; any other word of a provider becomes `OTHER_REASON`."""
OTHER_REASON = "other"

_DONE = b"[DONE]"
_STATUS_OF_ERROR = {
    "invalid_request_error": 400,
    "exceed_context_size_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "api_error": 500,
    "internal_server_error": 500,
    "server_error": 500,
    "unavailable_error": 503,
    "overloaded_error": 503,
}


_OFFERED = b',"tools":['
"""How a body of runtime form offers tools; inside a text the quotes would be escaped."""
_REFUSING_TOOLS = frozenset({400, 404, 422, 500, 501})
_NO_TOOLS = (b"not support tool", b"support tool use", b"requires --jinja", b"--enable-auto-tool-choice")
"""What Ollama, OpenRouter, llama.cpp and vLLM say."""


class _Said(msgspec.Struct, frozen=True, gc=False):
    content: str | None = None
    tool_calls: list[CallPart] | None = None
    function_call: FunctionPart | None = None


class _Choice(msgspec.Struct, frozen=True, gc=False):
    index: int = 0
    delta: _Said | None = None
    message: _Said | None = None
    finish_reason: str | None = None


class _Answer(msgspec.Struct, frozen=True):
    """A chunk of a stream or a whole answer; unknown members are skipped."""

    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None


class _Named(msgspec.Struct, frozen=True):
    model: str


_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_named = msgspec.json.Decoder(_Named).decode
_Broken = (msgspec.MsgspecError, UnicodeError, RecursionError)


def chat_request(
    model: str,
    thread: Sequence[ThreadMessage],
    *,
    max_output_tokens: int | None,
    tools: Sequence[ToolSchema] = (),
    stream: bool = True,
) -> bytes:
    """Return the body of one chat request in runtime form: the same arguments give the same bytes.

    Args:
        model: the model's name at the provider.
        thread: the messages in order, at least one.
        max_output_tokens: longest answer, at least 1; None leaves it to the engine.
        tools: what the model may ask for, in any order; they are sent in the order of their names.
        stream: ask for a stream, with usage at its end.

    Raises:
        InvalidRequest: no message, no room for an answer, a lone surrogate in a text, a result without its call,
            or a tool whose name is taken or none for the wire.
        TooLarge: more than `MAX_TOOLS_PER_REQUEST` tools.
        IntegrityBroken: a tool message that we did not write.
    """
    if not thread or (max_output_tokens is not None and max_output_tokens < 1):
        raise InvalidRequest(field="max_output_tokens" if thread else "thread", reason="empty")
    body: dict[str, object] = {
        "messages": [_message(one) for one in spoken(thread)],
        "model": model,
        "stream": stream,
    }
    if max_output_tokens is not None:
        body["max_tokens"] = max_output_tokens
    if stream:
        body["stream_options"] = {"include_usage": True}
    if tools:
        body["tools"] = [_tool(one) for one in ordered_tools(tools)]
    return canonical_body(body)


def _message(one: Said | ToolAnswer) -> dict[str, object]:
    if isinstance(one, ToolAnswer):
        return {"content": one.content, "role": "tool", "tool_call_id": one.call_id}
    if not one.calls:
        return {"content": one.text, "role": ROLES[one.role]}
    # Null beside calls is what every engine takes; beside an empty text some drop the calls.
    return {
        "content": one.text or None,
        "role": ROLES[one.role],
        "tool_calls": [
            {
                "function": {"arguments": sendable_arguments(call.arguments), "name": sendable_name(call.name)},
                "id": call.call_id,
                "type": "function",
            }
            for call in one.calls
        ],
    }


def _tool(tool: ToolSchema) -> dict[str, object]:
    parameters = Ordered(tool.input_schema)
    return {
        "function": {"description": tool.description, "name": tool.name, "parameters": parameters},
        "type": "function",
    }


def model_of(body: bytes) -> str:
    """Return the model that a request body names.

    Raises:
        InvalidRequest: the body is not a JSON object that names one.
    """
    try:
        return _decode_named(body).model
    except _Broken:
        raise InvalidRequest(field="model", reason="missing") from None


def takes_no_tools(status: int, said: bytes, body: bytes) -> bool:
    """Return whether an engine refused a request because its model, or how it was started, takes no tools.

    Args:
        status: of its answer.
        said: the body of its answer.
        body: what it was sent.
    """
    if status not in _REFUSING_TOOLS or _OFFERED not in body:
        return False
    lowered = said.lower()
    return any(words in lowered for words in _NO_TOOLS)


class AnswerReader(Protocol):
    """Reads one answer from its bytes."""

    def feed(self, chunk: bytes) -> Iterator[TextPiece]:
        """Yield the text that `chunk` completes.

        Raises:
            WireFault: the bytes are not the protocol, are too large, or carry the provider's error.
        """
        ...

    @property
    def is_done(self) -> bool:
        """Whether the end mark was read: what follows it is nobody's."""
        ...

    def finish(self) -> Finished:
        """Return the last piece, once the bytes or the answer ended.

        Raises:
            WireFault: INCOMPLETE or GARBAGE, this is no whole answer.
        """
        ...


class StreamedAnswer:
    """Reads an answer as server-sent events."""

    def __init__(self) -> None:
        self._events = EventStream()
        self._done = False
        self._reason: str | None = None
        self._usage: TokenUsage | None = None
        self._calls = CallReader()

    def feed(self, chunk: bytes) -> Iterator[TextPiece]:
        """Yield the text that `chunk` completes; one piece for one event, however the bytes were split."""
        if self._done:
            return
        for data in self._events.feed(chunk):
            if data == _DONE:
                self._done = True
                return
            text = self._take(data)
            if text:
                yield TextPiece(text)

    @property
    def is_done(self) -> bool:
        """Whether `[DONE]` was read."""
        return self._done

    def finish(self) -> Finished:
        """Return the last piece; `[DONE]` or a finish reason makes a stream whole."""
        if not self._done and self._reason is None and self._events.left_over != _DONE:
            raise WireFault(FaultKind.INCOMPLETE)
        return Finished(self._reason, self._usage, self._calls.finish())

    def _take(self, data: bytes) -> str | None:
        answer = _decoded(data)
        if answer.usage is not None:
            self._usage = _usage_of(answer.usage)
        choice = _only_choice(answer)
        if choice is None:
            return None
        if choice.finish_reason is not None:
            self._reason = _reason_of(choice.finish_reason)
        said = choice.delta or choice.message
        if said is None:
            return None
        _take_calls(self._calls, said)
        return said.content


class WholeAnswer:
    """Reads an answer that is one JSON object, from an engine that does not stream.

    Args:
        max_bytes: more than this is TOO_LARGE; the whole answer is held in memory.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._body = bytearray()
        self._finished: Finished | None = None

    def feed(self, chunk: bytes) -> Iterator[TextPiece]:
        """Yield the text once the object is complete, which the empty chunk at the end of the bytes says."""
        self._body += chunk
        if len(self._body) > self._max_bytes:
            raise WireFault(FaultKind.TOO_LARGE)
        if chunk:
            return
        answer = _decoded(bytes(self._body))
        choice = _only_choice(answer)
        if choice is None or choice.message is None:
            raise WireFault(FaultKind.GARBAGE)
        calls = CallReader()
        _take_calls(calls, choice.message)
        self._finished = Finished(
            None if choice.finish_reason is None else _reason_of(choice.finish_reason),
            None if answer.usage is None else _usage_of(answer.usage),
            calls.finish(),
        )
        if choice.message.content:
            yield TextPiece(choice.message.content)

    @property
    def is_done(self) -> bool:
        """Never: the end of the bytes is the end of the answer."""
        return False

    def finish(self) -> Finished:
        """Return the last piece."""
        if self._finished is None:
            raise WireFault(FaultKind.INCOMPLETE)
        return self._finished


def _decoded(data: bytes) -> _Answer:
    try:
        if not data.isascii():
            data.decode()  # what is skipped is not looked at: the whole must be UTF-8 all the same
        answer = _decode_answer(data)
    except _Broken:
        raise WireFault(FaultKind.GARBAGE) from None
    if answer.error is not None:
        raise WireFault(FaultKind.STATUS, status=_status_of(answer.error), body=data)
    return answer


def _only_choice(answer: _Answer) -> _Choice | None:
    if not answer.choices:
        return None
    if len(answer.choices) > 1 or answer.choices[0].index != 0:
        raise WireFault(FaultKind.GARBAGE)
    return answer.choices[0]


def _take_calls(calls: CallReader, said: _Said) -> None:
    if said.tool_calls:
        calls.take(said.tool_calls)
    if said.function_call is not None:
        calls.take_legacy(said.function_call)


def _reason_of(word: str) -> str:
    return word if word in FINISH_REASONS else OTHER_REASON


def _usage_of(usage: object) -> TokenUsage | None:
    """Return what was reported; a figure that is no count of tokens was not reported."""
    if not isinstance(usage, dict):
        return None
    return TokenUsage(
        _count_of(usage.get("prompt_tokens")),
        _count_of(usage.get("completion_tokens")),
        _count_of(usage.get("total_tokens")),
    )


def _count_of(value: object) -> int | None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SAFE_INTEGER
    return value if is_count and isinstance(value, int) else None


def _status_of(error: object) -> int | None:
    """Return the HTTP status that an error inside an answer stands for, or None if it gives none."""
    if not isinstance(error, dict):
        return None
    for value in (error.get("status"), error.get("code"), error.get("type")):
        if isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599:
            return value
        if isinstance(value, str) and value in _STATUS_OF_ERROR:
            return _STATUS_OF_ERROR[value]
    return None
