"""Explaining: what the gate would say of a call, found beside a runtime that works, and recorded nowhere.

The call is read by the gate's reader, heard by the same loading and judged by the same rule. Tools of a program are
known to that program only.

Source:
    capability.explain.equals_gate (02 §3).
"""

from __future__ import annotations

import msgspec

from handshake.gate.call_reading import CallReader, ModelCall
from handshake.gate.json_schema import CompiledSchema
from handshake.gate.tool_gate import Origin
from handshake.kernel.asked_call import AskedCall
from handshake.kernel.capability import SHIPPED, shown
from handshake.kernel.catalogue.tools import Transport
from handshake.kernel.mcp_tool import register
from handshake.kernel.redaction import KnownValues
from handshake.kernel.settings import Settings
from handshake.kernel.tool_registry import ToolRegistry, ToolSource
from handshake.kernel.tools import shipped
from handshake.operations import mcp_pins
from handshake.operations.call_policy import StoredPolicy
from handshake.operations.tool_hearing import Heard, hear
from handshake.ports.store import Reader

_NO_TRACE = "00000000-0000-7000-8000-000000000000"
_ID = "explained"
_NO_EPOCH = 0


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """What would be decided about a call, and on which grounds."""

    decision: str
    reason: str
    code: str | None
    sentence: str | None
    """What the caller would be told."""
    required: tuple[str, ...]
    missing: tuple[str, ...]
    held: tuple[str, ...]
    grants: tuple[str, ...]
    arguments: tuple[str, ...]
    """Arguments for which nobody stands, in a tainted session."""
    tainted_by: tuple[str, ...]
    tool_version: str | None
    side_effect: str | None
    risk: str | None
    needs_sandbox: bool
    call_sha256: str | None
    """By which an approval would be bound to the call."""


def explain(
    reader: Reader, settings: Settings, session_id: str, tool_id: str, arguments: str, *, now_us: int, has_sandbox: bool
) -> Explained:
    """Return what the gate would decide now.

    Args:
        reader: one state of the workspace.
        settings: its configuration.
        session_id: who would make the call.
        tool_id: of which tool.
        arguments: the JSON text of its arguments.
        now_us: the moment.
        has_sandbox: whether a command could be confined.
    """
    asked = CallReader(_tools(reader, settings), KnownValues()).model_call(
        ModelCall(
            origin=Origin(transport=Transport.LOCAL),
            session_id=session_id,
            trace_id=_NO_TRACE,
            tool_call_id=_ID,
            tool_id=tool_id,
            arguments=arguments,
            model_id="",
        )
    )
    policy = StoredPolicy(settings.policy)
    return _told(asked, hear(reader, asked, policy, epoch=_NO_EPOCH, has_sandbox=has_sandbox, now_us=now_us))


def _tools(reader: Reader, settings: Settings) -> ToolRegistry:
    """Return the tools of a workspace but those of programs: what ships, and what is pinned of MCP servers."""
    registry = ToolRegistry(SHIPPED, CompiledSchema)
    for definition in shipped.DEFINITIONS:
        registry.register(definition, ToolSource.RUNTIME)
    register(registry, mcp_pins.pinned_tools(reader), settings.mcp.servers)
    return registry


def _told(asked: AskedCall, heard: Heard) -> Explained:
    verdict, definition = heard.verdict, asked.definition
    fault = verdict.fault
    said = None if verdict.refusal is None else verdict.refusal.sentence
    sentence = None if fault is None else " ".join(filter(None, (fault.sentence, said)))
    return Explained(
        decision=verdict.decision.value,
        reason=str(verdict.reason),
        code=None if fault is None else fault.code,
        sentence=sentence,
        required=shown([one.capability for one in asked.needed]),
        missing=verdict.missing,
        held=verdict.held,
        grants=verdict.grants,
        arguments=tuple(dict.fromkeys(one.pointer for one in verdict.findings)),
        tainted_by=heard.taint.by,
        tool_version=asked.tool_version,
        side_effect=None if definition is None else definition.side_effect.value,
        risk=None if definition is None else definition.risk_level.value,
        needs_sandbox=definition is not None and definition.needs_sandbox,
        call_sha256=asked.call_sha256 or None,
    )
