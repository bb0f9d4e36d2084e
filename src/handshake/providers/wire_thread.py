"""Thread on the wire: what was said, who called which tools with it, and what each call gave, in the order of turns.

Source:
    gate.result.correlated (INV-PROV-001).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from handshake.kernel.canonical import canonical_body
from handshake.kernel.errors import InvalidRequest, TooLarge
from handshake.kernel.message import MessageRole
from handshake.kernel.settings import MAX_TOOLS_PER_REQUEST
from handshake.kernel.tool_message import CalledTool, ToolAnswer, read_answer, read_call
from handshake.kernel.tool_name import is_wire_name
from handshake.ports.model import ThreadMessage, ToolSchema

NO_RESULT = "There is no result: the call was not carried out, or nobody knows what became of it."
"""What the model is told of a call whose run ended before its result: providers refuse calls without one."""

_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Said(msgspec.Struct, frozen=True, gc=False):
    """A text, and the calls that came with it; only the model's texts have any."""

    role: MessageRole
    text: str
    calls: tuple[CalledTool, ...] = ()


def spoken(thread: Sequence[ThreadMessage]) -> list[Said | ToolAnswer]:
    """Return a thread with each call at the text that it came with, and one answer for each call, in its order.

    Raises:
        InvalidRequest: a result that answers no call before it, a second one for a call, or two calls of one id.
        IntegrityBroken: a tool message that we did not write.
    """
    found: list[Said | ToolAnswer] = []
    at = 0
    while at < len(thread):
        said, at = _said(thread, at)
        found.append(said)
        if said.calls:
            answers, at = _answers(thread, at, said.calls)
            found += answers
    return found


def ordered_tools(tools: Sequence[ToolSchema]) -> list[ToolSchema]:
    """Return the tools of a request in the order in which they are sent.

    Raises:
        InvalidRequest: a name that providers refuse, or one that two tools have.
        TooLarge: more than `MAX_TOOLS_PER_REQUEST`.
    """
    if len(tools) > MAX_TOOLS_PER_REQUEST:
        raise TooLarge(field="tools", limit=MAX_TOOLS_PER_REQUEST, given=len(tools))
    if not all(is_wire_name(tool.name) for tool in tools):
        raise InvalidRequest(field="tools", reason="name")
    if len({tool.name for tool in tools}) < len(tools):
        raise InvalidRequest(field="tools", reason="same_name")
    return sorted(tools, key=lambda tool: tool.name)


def sendable_arguments(arguments: str) -> str:
    """Return the text of a call's arguments as engines read it back: what is no JSON object is put into one.

    The gate refuses such a call, but its text stays in the thread, and some engines answer nothing to a thread
    in which they cannot read an argument.
    """
    try:
        _decode_object(arguments)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return canonical_body({"unreadable": arguments}).decode()
    return arguments


def _said(thread: Sequence[ThreadMessage], at: int) -> tuple[Said, int]:
    """Return what is said at a place, with its calls, and the place after them."""
    first = thread[at]
    if first.role is MessageRole.TOOL_RESULT:
        raise InvalidRequest(field="thread", reason="result_without_call")
    if first.role not in (MessageRole.ASSISTANT, MessageRole.TOOL_CALL):
        return Said(first.role, first.text), at + 1
    text = ""
    if first.role is MessageRole.ASSISTANT:
        text, at = first.text, at + 1
    calls: list[CalledTool] = []
    while at < len(thread) and thread[at].role is MessageRole.TOOL_CALL:
        calls.append(read_call(thread[at].text))
        at += 1
    if len({call.call_id for call in calls}) < len(calls):
        raise InvalidRequest(field="thread", reason="same_call_id")
    return Said(MessageRole.ASSISTANT, text, tuple(calls)), at


def _answers(thread: Sequence[ThreadMessage], at: int, calls: Sequence[CalledTool]) -> tuple[list[ToolAnswer], int]:
    """Return an answer for each call, in the calls' order, and the place after the results."""
    given: dict[str, ToolAnswer] = {}
    while at < len(thread) and thread[at].role is MessageRole.TOOL_RESULT:
        told = read_answer(thread[at].text)
        if told.call_id in given or all(call.call_id != told.call_id for call in calls):
            raise InvalidRequest(field="thread", reason="result_without_call")
        given[told.call_id] = told
        at += 1
    return [given.get(call.call_id) or ToolAnswer(call.call_id, NO_RESULT, True) for call in calls], at
