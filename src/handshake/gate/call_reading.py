"""Call reading: what somebody sends as a tool call, read strictly: what is authorised is what is executed.

Source:
    gate.arguments.are_strict, gate.envelope.validated_both_ways, gate.redaction.before_hash (02 §3, §4).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from handshake.gate.json_schema import envelope_schemas
from handshake.kernel.asked_call import AskedCall, Origin, call_sha256
from handshake.kernel.canonical import canonical_body
from handshake.kernel.errors import HandshakeError, InvalidRequest, TooLarge
from handshake.kernel.event import Actor
from handshake.kernel.htc import CallActor, ToolRequest
from handshake.kernel.ids import is_uuid
from handshake.kernel.judgement import Reason, Refusal
from handshake.kernel.redaction import KnownValues
from handshake.kernel.settings import (
    MAX_ENVELOPE_BYTES,
    MAX_INLINE_PAYLOAD_BYTES,
    MAX_TOOL_ARGUMENT_DEPTH,
    MAX_TOOL_PAYLOAD_BYTES,
)
from handshake.kernel.strict_json import JsonValue, read_json
from handshake.kernel.template import required
from handshake.kernel.tool_registry import RegisteredTool, ToolRegistry

_NOBODY = CallActor(kind=Actor.SYSTEM)
_ENVELOPE_DEPTH = MAX_TOOL_ARGUMENT_DEPTH + 1


class ModelCall(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A call that a model asked for in its answer."""

    origin: Origin
    session_id: str | None
    trace_id: str
    tool_call_id: str
    tool_id: str
    arguments: str
    """The exact text that the model wrote."""
    model_id: str
    agent_id: str | None = None
    idempotency_key: str | None = None


class CallReader:
    """Reads calls against the tools of one workspace.

    Args:
        registry: the tools.
        known: secrets of this process; they are replaced in what is shown, hashed and stored.
    """

    def __init__(self, registry: ToolRegistry, known: KnownValues) -> None:
        self._registry = registry
        self._known = known

    def envelope(self, data: bytes, origin: Origin) -> AskedCall:
        """Return the call of an HTC-1.0 request; what is wrong with it is told in the call."""
        try:
            value = read_json(data, max_bytes=MAX_ENVELOPE_BYTES, max_depth=_ENVELOPE_DEPTH, field="envelope")
        except HandshakeError as broken:
            return _unreadable({}, origin, _told(broken))
        misfit = envelope_schemas()[0].misfit(value)
        if misfit is not None or not isinstance(value, dict):
            found = value if isinstance(value, dict) else {}
            return _unreadable(found, origin, misfit.sentence if misfit else "It is no object.")
        request = msgspec.convert(value, ToolRequest)
        asked = AskedCall(
            origin=origin,
            actor=request.actor,
            tool_call_id=request.tool_call_id,
            trace_id=request.trace_id,
            session_id=request.session_id,
            tool_id=request.tool_id,
            tool_version=request.tool_version,
            idempotency_key=request.idempotency_key,
            dry_run=request.dry_run,
            args_ref=request.args_ref,
        )
        if request.args is None:
            return asked
        return self.with_args(asked, request.args, max_bytes=MAX_INLINE_PAYLOAD_BYTES)

    def model_call(self, call: ModelCall) -> AskedCall:
        """Return a model's call. It names no version: it saw the tool as it was defined for the request."""
        tool = self._registry.find(call.tool_id)
        asked = AskedCall(
            origin=call.origin,
            actor=CallActor(kind=Actor.AGENT, agent_id=call.agent_id, model_id=call.model_id),
            tool_call_id=call.tool_call_id,
            trace_id=call.trace_id,
            session_id=call.session_id,
            tool_id=call.tool_id,
            tool_version=None if tool is None else tool.definition.tool_version,
            idempotency_key=call.idempotency_key,
        )
        return self.with_text(asked, call.arguments.encode(errors="surrogatepass"))

    def with_text(self, asked: AskedCall, data: bytes) -> AskedCall:
        """Return the call with the arguments that a JSON text holds; no text at all is no argument."""
        try:
            value = read_json(
                data or b"{}", max_bytes=MAX_TOOL_PAYLOAD_BYTES, max_depth=MAX_TOOL_ARGUMENT_DEPTH, field="args"
            )
        except TooLarge:
            return _refused(asked, Reason.ARGUMENTS_TOO_LARGE)
        except InvalidRequest as broken:
            kept = msgspec.structs.replace(asked, shown=self._known.clean(data))
            return _refused(kept, Reason.ARGUMENTS_UNREADABLE, sentence=_told(broken))
        if not isinstance(value, dict):
            kept = msgspec.structs.replace(asked, shown=self._known.clean(data))
            return _refused(kept, Reason.ARGUMENTS_INVALID, sentence="They are no object.")
        return self.with_args(asked, value, max_bytes=MAX_TOOL_PAYLOAD_BYTES)

    def with_args(self, asked: AskedCall, args: Mapping[str, JsonValue], *, max_bytes: int) -> AskedCall:
        """Return the call with arguments that were read strictly, held to the tool's schema."""
        whole = canonical_body(args)
        shown = self._known.clean(whole)
        tool = self._registry.find(asked.tool_id or "")
        found = msgspec.structs.replace(
            asked,
            tool=tool,
            args=args,
            shown=shown,
            is_redacted=shown is not whole,
            call_sha256="" if tool is None else call_sha256(tool.sha256, shown),
        )
        if len(whole) > max_bytes:
            return _refused(msgspec.structs.replace(found, shown=None), Reason.ARGUMENTS_TOO_LARGE)
        return self._held_to(found, tool)

    def _held_to(self, asked: AskedCall, tool: RegisteredTool | None) -> AskedCall:
        if tool is None:
            return _refused(asked, Reason.TOOL_UNKNOWN)
        if asked.tool_version != tool.definition.tool_version:
            return _refused(asked, Reason.TOOL_VERSION)
        misfit = tool.input_check.misfit(asked.args)
        if misfit is not None:
            return _refused(asked, Reason.ARGUMENTS_INVALID, misfit.pointer, misfit.sentence)
        nul = _nul_in(asked.args)
        if nul is not None:
            return _refused(asked, Reason.ARGUMENTS_INVALID, nul, "A text holds a NUL.")
        try:
            needed = required(tool.templates, asked.args, self._registry.capabilities)
        except HandshakeError as odd:
            place = odd.context.get("pointer")
            return _refused(asked, Reason.ARGUMENTS_INVALID, place if isinstance(place, str) else None, _told(odd))
        return msgspec.structs.replace(asked, needed=needed)


def _nul_in(args: Mapping[str, Any]) -> str | None:
    """Return where a text or name with a NUL stands, for which two programs could see two values, or None."""
    level: list[tuple[str, Any]] = [("", args)]
    while level:
        place, value = level.pop()
        if isinstance(value, str):
            if "\0" in value:
                return place
        elif isinstance(value, dict):
            level += [(f"{place}/{name}", name) for name in value if "\0" in name]
            level += [(f"{place}/{name}", inner) for name, inner in value.items()]
        elif isinstance(value, list):
            level += [(f"{place}/{number}", inner) for number, inner in enumerate(value)]
    return None


def _refused(asked: AskedCall, reason: Reason, pointer: str | None = None, sentence: str | None = None) -> AskedCall:
    return msgspec.structs.replace(asked, refusal=Refusal(reason=reason, pointer=pointer, sentence=sentence))


def _unreadable(value: Mapping[str, Any], origin: Origin, sentence: str) -> AskedCall:
    """Return what can be told of a request that is none: ids that are ids, and nothing else."""

    def identity(name: str) -> str | None:
        found = value.get(name)
        return found if isinstance(found, str) and is_uuid(found) else None

    call_id = value.get("tool_call_id")
    return AskedCall(
        origin=origin,
        actor=_NOBODY,
        tool_call_id=call_id if isinstance(call_id, str) and _is_plain(call_id) else None,
        trace_id=identity("trace_id"),
        session_id=identity("session_id"),
        tool_id=None,
        tool_version=None,
        refusal=Refusal(reason=Reason.ENVELOPE_INVALID, sentence=sentence),
    )


_MAX_ID_CHARS = 200


def _is_plain(text: str) -> bool:
    return 0 < len(text) <= _MAX_ID_CHARS and text.isascii() and text.isprintable() and " " not in text


def _told(refused: HandshakeError) -> str:
    """Return what a caller may know of a refusal of the reader: its reason and place, which hold no content."""
    named = ", ".join(f"{key} {value}" for key, value in refused.context.items() if key != "field")
    return f"{refused.sentence}: {named}"
