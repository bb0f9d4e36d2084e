"""Artifact tools: the definition of the tool that reads what a session's own rows refer to, such as a large result.

Source:
    02 §1, §5; capability.artifact.by_reference_only, gate.payload.limit.
"""

from __future__ import annotations

from handshake.kernel.catalogue.tools import SideEffect, ToolExecutor
from handshake.kernel.fields import SHA256_PATTERN
from handshake.kernel.tool import (
    Asking,
    Availability,
    Determinism,
    Idempotency,
    OutputTrust,
    Reversibility,
    Risk,
    ToolDefinition,
)

GET = "artifact.get"

_ENCODING = {"enum": ["utf-8", "base64"]}
_COUNT = {"type": "integer", "minimum": 0}
_ARTIFACT = {"type": "string", "pattern": SHA256_PATTERN}

DEFINITIONS: tuple[ToolDefinition, ...] = (
    ToolDefinition(
        tool_id=GET,
        tool_version="1.0.0",
        description=(
            "Read an artifact that this session's own messages, runs or tool calls refer to, such as a result that was "
            "too large to return. It comes in parts: the next one begins at next_offset_bytes."
        ),
        input_schema={
            "type": "object",
            "properties": {
                "artifact_id": {**_ARTIFACT, "description": "Its SHA-256."},
                "offset_bytes": {**_COUNT, "description": "Where to begin, from 0."},
                "encoding": {**_ENCODING, "description": "utf-8 if not given."},
            },
            "required": ["artifact_id"],
            "additionalProperties": False,
        },
        output_schema={
            "type": "object",
            "properties": {
                "artifact_id": _ARTIFACT,
                "content": {"type": "string"},
                "encoding": _ENCODING,
                "size_bytes": {**_COUNT, "description": "Of the whole artifact."},
                "offset_bytes": {**_COUNT, "description": "Where the content begins."},
                "next_offset_bytes": {**_COUNT, "description": "Absent at the end."},
            },
            "required": ["artifact_id", "content", "encoding", "size_bytes", "offset_bytes"],
            "additionalProperties": False,
        },
        sinks=(),
        content=(),
        reversibility=Reversibility.REVERSIBLE,
        side_effect=SideEffect.READ,
        idempotency=Idempotency.IDEMPOTENT,
        determinism=Determinism.DETERMINISTIC,
        availability=Availability.ALWAYS,
        required_capabilities=("artifact.read:{artifact_id}",),
        risk_level=Risk.LOW,
        output_trust=OutputTrust.UNTRUSTED,
        asks=Asking.AS_GRANTED,
        is_egress=False,
        needs_sandbox=False,
        deferred=False,
        executed_by=ToolExecutor.RUNTIME,
        timeout_ms=30_000,
    ),
)
