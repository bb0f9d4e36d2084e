"""Web tools: the definition of the tool that sends a request to the web.

Source:
    02 §5.
"""

from __future__ import annotations

from handshake.kernel.catalogue.tools import SideEffect, ToolExecutor
from handshake.kernel.section import MAX_URL_CHARS
from handshake.kernel.settings import MAX_WEB_BODY_BYTES, MAX_WEB_HEADER_CHARS, MAX_WEB_HEADERS
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

REQUEST = "http.request"

_ENCODING = {"enum": ["utf-8", "base64"]}
_HEADERS = {
    "type": "object",
    "maxProperties": MAX_WEB_HEADERS,
    "additionalProperties": {"type": "string", "maxLength": MAX_WEB_HEADER_CHARS},
}

DEFINITIONS: tuple[ToolDefinition, ...] = (
    ToolDefinition(
        tool_id=REQUEST,
        tool_version="1.0.0",
        description=(
            "Send one HTTP request and return its answer. Redirects are not followed: the answer says where one leads. "
            "Only https, or this machine's own addresses; no private networks; no model providers."
        ),
        input_schema={
            "type": "object",
            "properties": {
                "url": {"type": "string", "minLength": 1, "maxLength": MAX_URL_CHARS},
                "method": {
                    "enum": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
                    "description": "GET if not given.",
                },
                "headers": _HEADERS,
                "body": {"type": "string", "maxLength": MAX_WEB_BODY_BYTES},
                "body_encoding": {**_ENCODING, "description": "How body is given; utf-8 if not said."},
            },
            "required": ["url"],
            "additionalProperties": False,
        },
        output_schema={
            "type": "object",
            "properties": {
                "status": {"type": "integer", "minimum": 100, "maximum": 999},
                "headers": {"type": "object", "additionalProperties": {"type": "string"}},
                "content": {"type": "string"},
                "encoding": _ENCODING,
                "size_bytes": {"type": "integer", "minimum": 0, "description": "Of the content, as bytes."},
                "is_cut": {"type": "boolean", "description": "The answer was longer."},
            },
            "required": ["status", "headers", "content", "encoding", "size_bytes", "is_cut"],
            "additionalProperties": False,
        },
        sinks=("/url",),
        content=("/body", "/headers"),
        reversibility=Reversibility.IRREVERSIBLE,
        side_effect=SideEffect.WRITE,
        idempotency=Idempotency.NON_IDEMPOTENT,
        determinism=Determinism.NON_DETERMINISTIC,
        availability=Availability.WHEN_REACHABLE,
        required_capabilities=("net.http:{method=GET} {url}",),
        risk_level=Risk.HIGH,
        output_trust=OutputTrust.UNTRUSTED,
        asks=Asking.UNLESS_FIXED,
        is_egress=True,
        needs_sandbox=False,
        deferred=False,
        executed_by=ToolExecutor.RUNTIME,
        timeout_ms=60_000,
    ),
)
