"""Emulated tools: requests and answers for a model whose engine takes no tools; all of it stands in plain texts.

The system message gets a fixed block that says which tools there are and how a call is written. A call is a fenced
block in the model's own answer; nothing else is ever read as one. Results go to the model as JSON, whose strings hold
no line breaks, so that no content can end its block or begin another.

Source:
    provider.tools.never_silent (INV-PROV-002).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

from handshake.kernel.canonical import Ordered, canonical_body
from handshake.kernel.errors import InvalidRequest, TooLarge
from handshake.kernel.message import MessageRole
from handshake.kernel.retry import FaultKind
from handshake.kernel.settings import MAX_CALLED_NAME_CHARS, MAX_TOOL_ARGUMENTS_BYTES, MAX_TOOL_CALLS_PER_ANSWER
from handshake.kernel.strict_json import read_json
from handshake.kernel.tool_message import CalledTool, ToolAnswer
from handshake.kernel.tool_name import sendable_name
from handshake.ports.model import Finished, TextPiece, ThreadMessage, ToolSchema
from handshake.providers.wire_openai import AnswerReader, chat_request
from handshake.providers.wire_sse import WireFault
from handshake.providers.wire_thread import Said, ordered_tools, sendable_arguments, spoken

UNREADABLE = "unreadable"
"""The name of a call whose block is none: there is no such tool, so that the model is told."""
CALL_FENCE = "```tool_call"
RESULT_FENCE = "```tool_result"
END_FENCE = "```"
INSTRUCTIONS = f"""# Tools

You may ask for tools. A call is a block of its own, exactly so:

{CALL_FENCE}
{{"name": "NAME", "arguments": {{}}}}
{END_FENCE}

"arguments" is a JSON object that fits the tool's "parameters". One block is one call; several blocks are several
calls. After your last block, end your answer: the results come in the next message, in the order of your calls, as
blocks that begin with {RESULT_FENCE}. Never write such a block yourself. There are these tools and no others:
"""
_MAX_FENCE_LINE_CHARS = 64
"""A longer line is none, however much of it is blank."""
_LINES = re.compile(r"[^\n]*\n|[^\n]+")


class _Block(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    name: str
    arguments: msgspec.Raw


class _Said(msgspec.Struct, frozen=True, gc=False):
    content: str | None


class _Request(msgspec.Struct, frozen=True, gc=False):
    messages: list[_Said]


_decode_block = msgspec.json.Decoder(_Block).decode
_decode_request = msgspec.json.Decoder(_Request).decode
_Broken = (msgspec.MsgspecError, UnicodeError, RecursionError, InvalidRequest, TooLarge)


def emulated_request(
    model: str, thread: Sequence[ThreadMessage], *, max_output_tokens: int | None, tools: Sequence[ToolSchema]
) -> bytes:
    """Return the body of a chat request that says everything of tools in texts: the same arguments, the same bytes.

    Args:
        model: the model's name at the provider.
        thread: the messages in order, at least one.
        max_output_tokens: longest answer, at least 1; None leaves it to the engine.
        tools: what the model may ask for, in any order; none makes a request without the block of tools.

    Raises:
        InvalidRequest, TooLarge, IntegrityBroken: as `wire_openai.chat_request`.
    """
    plain = _plain(spoken(thread))
    if tools:
        block = _tools_text(tools)
        if plain and plain[0].role is MessageRole.SYSTEM:
            plain[0] = ThreadMessage(MessageRole.SYSTEM, f"{plain[0].text}\n\n{block}")
        elif plain:
            plain.insert(0, ThreadMessage(MessageRole.SYSTEM, block))
    return chat_request(model, plain, max_output_tokens=max_output_tokens)


def offers_tools(body: bytes) -> bool:
    """Return whether a request of this form offers tools, so that blocks in its answer are calls."""
    try:
        messages = _decode_request(body).messages
    except _Broken:
        return False
    return bool(messages) and INSTRUCTIONS in (messages[0].content or "")


class EmulatedAnswer:
    """Reads the calls out of an answer's text, and hands on the rest of it; a block is held back until it ends.

    A block that the end of the answer closes counts as closed. What its block does not hold as a call becomes one of
    `UNREADABLE`. Blank lines after a block are dropped.

    Args:
        inner: reads the answer as the engine gives it.
    """

    def __init__(self, inner: AnswerReader) -> None:
        self._inner = inner
        self._line = ""
        """The line so far, while it may be a fence or is inside a block."""
        self._is_midline = False
        """Whether the line's beginning was handed on."""
        self._block: list[str] | None = None
        """Lines of the block that is open."""
        self._block_bytes = 0
        self._calls: list[CalledTool] = []
        self._ended = False

    def feed(self, chunk: bytes) -> Iterator[TextPiece]:
        """Yield the text that `chunk` completes and that belongs to no block."""
        for piece in self._inner.feed(chunk):
            text = "".join(self._take(line) for line in _LINES.findall(piece.text))
            if text:
                yield TextPiece(text)
        if (self._inner.is_done or not chunk) and not self._ended:
            self._ended = True
            text = self._end()
            if text:
                yield TextPiece(text)

    @property
    def is_done(self) -> bool:
        """Whether the engine's answer is."""
        return self._inner.is_done

    def finish(self) -> Finished:
        """Return the last piece, with the calls."""
        finished = self._inner.finish()
        if not self._calls:
            return finished
        calls = (*finished.tool_calls, *self._calls)
        if len(calls) > MAX_TOOL_CALLS_PER_ANSWER or len({call.call_id for call in calls}) < len(calls):
            raise WireFault(FaultKind.GARBAGE)
        reason = "tool_calls" if finished.finish_reason == "stop" else finished.finish_reason
        return Finished(reason, finished.usage, calls)

    def _take(self, part: str) -> str:
        """Take a line, or a part of one, and return what of it is text."""
        if self._is_midline:
            self._is_midline = not part.endswith("\n")
            return part
        self._line += part
        if self._block is not None:
            self._count(part)
            if part.endswith("\n"):
                self._take_inside(self._line)
                self._line = ""
            return ""
        if self._may_be_held(self._line):
            if part.endswith("\n"):
                self._block = [] if self._line.strip() else None
                self._line = ""
            return ""
        text, self._line = self._line, ""
        self._is_midline = not part.endswith("\n")
        return text

    def _may_be_held(self, line: str) -> bool:
        """Return whether a line is a fence, or nothing worth handing on, as far as it goes."""
        if len(line) > _MAX_FENCE_LINE_CHARS:
            return False
        if not line.strip():
            return bool(self._calls)
        is_whole = line.endswith("\n")
        return line.rstrip() == CALL_FENCE if is_whole else CALL_FENCE.startswith(line) or line.rstrip() == CALL_FENCE

    def _count(self, part: str) -> None:
        self._block_bytes += len(part.encode())
        if self._block_bytes > MAX_TOOL_ARGUMENTS_BYTES:
            raise WireFault(FaultKind.TOO_LARGE)

    def _take_inside(self, line: str) -> None:
        assert self._block is not None, "it is inside one"
        line, ends = line.rstrip(), line.rstrip().endswith(END_FENCE)  # no line of a JSON object ends so
        self._block.append(line.removesuffix(END_FENCE))
        if ends:
            self._close(self._block)

    def _close(self, block: list[str]) -> None:
        if len(self._calls) >= MAX_TOOL_CALLS_PER_ANSWER:
            raise WireFault(FaultKind.GARBAGE)
        self._calls.append(read_block("\n".join(block), len(self._calls)))
        self._block = None

    def _end(self) -> str:
        """Close what is open, and return what was held back for nothing."""
        line, self._line = self._line, ""
        if self._block is None:
            return line if line.strip() else ""
        if line:
            self._take_inside(line)
        if self._block is not None:
            self._close(self._block)
        return ""


def read_block(text: str, place: int) -> CalledTool:
    """Return the call that a block holds: one strict JSON object with a name and an object of arguments, or none.

    Args:
        text: what stands between the fences.
        place: how many calls the answer holds before it; it makes the id.
    """
    call_id = f"block_{place}"
    try:
        read_json(text.encode(), max_bytes=MAX_TOOL_ARGUMENTS_BYTES, integers="keep", field="block")
        block = _decode_block(text)
    except _Broken:
        return CalledTool(call_id, UNREADABLE, text)
    arguments = bytes(block.arguments)
    if not arguments.startswith(b"{") or not 0 < len(block.name) <= MAX_CALLED_NAME_CHARS:
        return CalledTool(call_id, UNREADABLE, text)
    return CalledTool(call_id, block.name, arguments.decode())


def _plain(thread: Sequence[Said | ToolAnswer]) -> list[ThreadMessage]:
    """Return a thread whose calls and results are texts; the results of one answer are one message."""
    plain: list[ThreadMessage] = []
    names: dict[str, str] = {}
    results: list[str] = []
    for one in thread:
        if isinstance(one, ToolAnswer):
            results.append(_result_text(one, names[one.call_id]))
            continue
        if results:
            plain.append(ThreadMessage(MessageRole.USER, "\n".join(results)))
            results = []
        names = {call.call_id: call.name for call in one.calls}
        plain.append(ThreadMessage(one.role, _said_text(one)))
    if results:
        plain.append(ThreadMessage(MessageRole.USER, "\n".join(results)))
    return plain


def _said_text(said: Said) -> str:
    gap = "\n" if said.text and said.calls and not said.text.endswith("\n") else ""
    return said.text + gap + "\n".join(_call_text(call) for call in said.calls)


def _call_text(call: CalledTool) -> str:
    name = canonical_body(sendable_name(call.name)).decode()
    return f'{CALL_FENCE}\n{{"name": {name}, "arguments": {sendable_arguments(call.arguments)}}}\n{END_FENCE}'


def _result_text(told: ToolAnswer, name: str) -> str:
    shown = canonical_body({"content": told.content, "is_error": told.is_error, "name": sendable_name(name)})
    return f"{RESULT_FENCE}\n{shown.decode()}\n{END_FENCE}"


def _tools_text(tools: Sequence[ToolSchema]) -> str:
    shown = [
        canonical_body(
            {"description": tool.description, "name": tool.name, "parameters": Ordered(tool.input_schema)}
        ).decode()
        for tool in ordered_tools(tools)
    ]
    return INSTRUCTIONS + "\n" + "\n".join(shown)
