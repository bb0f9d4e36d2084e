"""Tool message: the contents of TOOL_CALL and TOOL_RESULT messages, written and read in one byte form.

Strings stay as they came, without NFC: the arguments are the exact text that the model wrote, and a request that is
built from the thread again must hold them so.

Source:
    gate.result.correlated, message.thread.rebuilds_same_bytes (INV-PROV-001, 01 §3).
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from handshake.kernel.canonical import canonical_body
from handshake.kernel.errors import IntegrityBroken


class CalledTool(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A call that a model asked for; nothing of it is checked yet."""

    call_id: str = msgspec.field(name="tool_call_id")
    """The provider's id of the call, unique in its answer."""
    name: str
    """The tool's name on the wire (`kernel.tool_name`), as the model wrote it."""
    arguments: str
    """The exact text that the model wrote; meant to be a JSON object."""


class ToolAnswer(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """What the model is told of a call."""

    call_id: str = msgspec.field(name="tool_call_id")
    content: str
    is_error: bool


_Content = TypeVar("_Content", CalledTool, ToolAnswer)


def call_content(call: CalledTool) -> bytes:
    """Return the content of a TOOL_CALL message.

    Raises:
        InvalidRequest: a text is not encodable as UTF-8 (a lone surrogate).
    """
    return canonical_body({"arguments": call.arguments, "name": call.name, "tool_call_id": call.call_id})


def answer_content(answer: ToolAnswer) -> bytes:
    """Return the content of a TOOL_RESULT message.

    Raises:
        InvalidRequest: a text is not encodable as UTF-8 (a lone surrogate).
    """
    return canonical_body(
        {"content": answer.content, "is_error": answer.is_error, "tool_call_id": answer.call_id},
    )


def read_call(text: str) -> CalledTool:
    """Return the call that a TOOL_CALL message holds.

    Raises:
        IntegrityBroken: it is not what `call_content` writes.
    """
    return _read(text, CalledTool)


def read_answer(text: str) -> ToolAnswer:
    """Return what a TOOL_RESULT message tells the model.

    Raises:
        IntegrityBroken: it is not what `answer_content` writes.
    """
    return _read(text, ToolAnswer)


def _read(text: str, kind: type[_Content]) -> _Content:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise IntegrityBroken(subject="message", reason="not_a_tool_message") from None
