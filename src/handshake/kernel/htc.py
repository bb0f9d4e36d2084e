"""HTC: the envelope of a tool call and of its answer, version 1.0.

What an envelope may hold says the schema file that ships with the package (`gate.json_schema`); these are its values.

Source:
    gate.envelope.validated_both_ways (02 §4).
"""

from __future__ import annotations

from typing import Any

import msgspec

from handshake.kernel.catalogue.tools import ToolFaultKind
from handshake.kernel.event import Actor

SCHEMA_VERSION = "htc-1.0"


class CallActor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Who asks for a call."""

    kind: Actor
    agent_id: str | None = None
    model_id: str | None = None


class ToolRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call that somebody asks for."""

    schema_version: str = msgspec.field(default_factory=lambda: SCHEMA_VERSION)
    tool_call_id: str
    trace_id: str
    session_id: str | None = None
    actor: CallActor
    tool_id: str
    tool_version: str
    args: dict[str, Any] | None = None
    args_ref: str | None = None
    idempotency_key: str | None = None
    dry_run: bool = False


class CallError(msgspec.Struct, frozen=True, kw_only=True):
    """Why a call has no result."""

    code: str
    kind: ToolFaultKind
    message: str
    retryable: bool
    details: dict[str, Any]


class CallTiming(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """When a call began and ended."""

    started_at: str
    ended_at: str
    duration_ms: int


class CallResources(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a call touched."""

    workspace_ids: tuple[str, ...] = ()
    artifacts: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()


class ToolResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a call: a result, where it is too large a reference to it, or an error."""

    schema_version: str = msgspec.field(default_factory=lambda: SCHEMA_VERSION)
    tool_call_id: str | None
    trace_id: str | None
    ok: bool
    result: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    result_ref: str | msgspec.UnsetType = msgspec.UNSET
    error: CallError | msgspec.UnsetType = msgspec.UNSET
    timing: CallTiming
    resources: CallResources
