"""Discovery tools: the definitions of the tools by which a model finds tools whose schemas it is not given at once.

Source:
    02 §5 (progressive disclosure of `deferred` tools).
"""

from __future__ import annotations

from typing import Any

from handshake.kernel.catalogue.tools import SideEffect, ToolExecutor
from handshake.kernel.settings import MAX_OFFERED_TOOLS, MAX_QUERY_CHARS, MAX_TOOL_ID_CHARS
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

SEARCH = "handshake.tools.search"
GET = "handshake.tools.get"

_TOOL_ID = {"type": "string", "minLength": 1, "maxLength": MAX_TOOL_ID_CHARS}


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _looking(tool_id: str, description: str, input_schema: dict[str, Any], output: dict[str, Any]) -> ToolDefinition:
    return ToolDefinition(
        tool_id=tool_id,
        tool_version="1.0.0",
        description=description,
        input_schema=input_schema,
        output_schema=output,
        sinks=(),
        content=(),
        reversibility=Reversibility.REVERSIBLE,
        side_effect=SideEffect.READ,
        idempotency=Idempotency.IDEMPOTENT,
        determinism=Determinism.NON_DETERMINISTIC,
        availability=Availability.ALWAYS,
        required_capabilities=(),
        risk_level=Risk.LOW,
        output_trust=OutputTrust.TRUSTED,
        asks=Asking.AS_GRANTED,
        is_egress=False,
        needs_sandbox=False,
        deferred=False,
        executed_by=ToolExecutor.RUNTIME,
        timeout_ms=10_000,
    )


DEFINITIONS: tuple[ToolDefinition, ...] = (
    _looking(
        GET,
        "Tell all about one tool that this session may use: what it does and the schema of its arguments.",
        _object({"tool_id": _TOOL_ID}, "tool_id"),
        _object(
            {
                "tool_id": _TOOL_ID,
                "tool_version": {"type": "string"},
                "description": {"type": "string"},
                "input_schema": {"type": "object"},
                "side_effect": {"enum": [one.value for one in SideEffect]},
                "risk_level": {"enum": [one.value for one in Risk]},
            },
            "tool_id",
            "tool_version",
            "description",
            "input_schema",
            "side_effect",
            "risk_level",
        ),
    ),
    _looking(
        SEARCH,
        "Find tools that this session may use by words of their names and descriptions, best first.",
        _object(
            {
                "query": {"type": "string", "minLength": 1, "maxLength": MAX_QUERY_CHARS},
                "max_tools": {"type": "integer", "minimum": 1, "maximum": MAX_OFFERED_TOOLS},
            },
            "query",
        ),
        _object(
            {
                "tools": {
                    "type": "array",
                    "items": _object(
                        {"tool_id": _TOOL_ID, "description": {"type": "string"}}, "tool_id", "description"
                    ),
                },
                "found_count": {"type": "integer", "minimum": 0, "description": "How many fit in all."},
            },
            "tools",
            "found_count",
        ),
    ),
)
