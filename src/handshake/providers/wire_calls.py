"""Calls on the wire: what a model asks its tools for, put together from the parts of an answer, in any split.

Engines differ in what they tell and when, so only this is held to: a call has one name, and no two have one id. An
engine that gives no id gets one from the call's place; one that gives no place, or the same place to all, means by
another id or name another call.

Source:
    provider.stream.any_split, gate.result.correlated (03 §7, INV-PROV-001).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from handshake.kernel.retry import FaultKind
from handshake.kernel.settings import (
    MAX_CALL_ID_CHARS,
    MAX_CALLED_NAME_CHARS,
    MAX_TOOL_ARGUMENTS_BYTES,
    MAX_TOOL_CALLS_PER_ANSWER,
)
from handshake.kernel.tool_message import CalledTool
from handshake.providers.wire_sse import WireFault

NO_ARGUMENTS = "{}"
"""What a model means that writes nothing for its arguments."""

_decode_text = msgspec.json.Decoder(str).decode


class FunctionPart(msgspec.Struct, frozen=True, gc=False):
    """Name and arguments, or a fragment of them; some engines give the arguments as an object, which has one text."""

    name: str | None = None
    arguments: msgspec.Raw = msgspec.Raw(b"null")


class CallPart(msgspec.Struct, frozen=True, gc=False):
    """A call, or a fragment of one."""

    index: int | None = None
    id: str | None = None
    function: FunctionPart | None = None


class _Call:
    """A call so far."""

    __slots__ = ("call_id", "fragments", "name")

    def __init__(self) -> None:
        self.call_id = ""
        self.name = ""
        self.fragments: list[str] = []


class CallReader:
    """Puts the calls of one answer together."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._at: dict[int, _Call] = {}
        """The call that an engine's index means now."""
        self._arguments_bytes = 0

    def take(self, parts: Sequence[CallPart]) -> None:
        """Take the parts of one chunk, in their order.

        Raises:
            WireFault: GARBAGE, they belong to no call or contradict it; TOO_LARGE, the arguments of the answer are
                more than `MAX_TOOL_ARGUMENTS_BYTES`.
        """
        for part in parts:
            self._take(part)

    def take_legacy(self, function: FunctionPart) -> None:
        """Take a fragment of the one call of an answer in the form that came before calls had ids."""
        self._take(CallPart(0, None, function))

    def finish(self) -> tuple[CalledTool, ...]:
        """Return the calls, in the order in which they began.

        Raises:
            WireFault: GARBAGE, a call has no name, or two have one id.
        """
        called = tuple(
            CalledTool(call.call_id or f"call_{place}", call.name, "".join(call.fragments) or NO_ARGUMENTS)
            for place, call in enumerate(self._calls)
        )
        if any(not call.name for call in called) or len({call.call_id for call in called}) < len(called):
            raise WireFault(FaultKind.GARBAGE)
        return called

    def _take(self, part: CallPart) -> None:
        function = part.function or FunctionPart()
        call_id, name = part.id or "", function.name or ""
        if len(call_id) > MAX_CALL_ID_CHARS or len(name) > MAX_CALLED_NAME_CHARS:
            raise WireFault(FaultKind.GARBAGE)
        call = self._call_of(part.index, call_id, name)
        if name and call.name not in ("", name):
            raise WireFault(FaultKind.GARBAGE)
        call.name = call.name or name
        call.call_id = call.call_id or call_id
        fragment = _text_of(function.arguments, is_first=not call.fragments)
        if fragment:
            self._arguments_bytes += len(fragment.encode())
            if self._arguments_bytes > MAX_TOOL_ARGUMENTS_BYTES:
                raise WireFault(FaultKind.TOO_LARGE)
            call.fragments.append(fragment)

    def _call_of(self, index: int | None, call_id: str, name: str) -> _Call:
        """Return the call that a part belongs to, which it may begin."""
        if index is None:
            known = self._calls[-1] if self._calls else None
            begins = known is None or bool(name) or (bool(call_id) and call_id != known.call_id)
        else:
            known = self._at.get(index)
            begins = known is None or (bool(name) and bool(call_id) and call_id != known.call_id != "")
        if known is not None and not begins:
            return known
        if len(self._calls) >= MAX_TOOL_CALLS_PER_ANSWER:
            raise WireFault(FaultKind.GARBAGE)
        call = _Call()
        self._calls.append(call)
        if index is not None:
            self._at[index] = call
        return call


def _text_of(arguments: msgspec.Raw, *, is_first: bool) -> str:
    """Return the text of a fragment: of a string what it holds, of an object all that was written."""
    written = bytes(arguments)
    if written == b"null":
        return ""
    if written.startswith(b"{") and is_first:
        return written.decode()
    try:
        return _decode_text(written)
    except (msgspec.MsgspecError, UnicodeError):
        raise WireFault(FaultKind.GARBAGE) from None
