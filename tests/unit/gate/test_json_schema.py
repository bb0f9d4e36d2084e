"""JSON Schema: compiled once, of itself alone, in linear time; and the envelope's own schema."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from handshake.gate.json_schema import CompiledSchema, envelope_schemas
from handshake.kernel.catalogue.tools import ToolFaultKind
from handshake.kernel.errors import InvalidRequest
from handshake.kernel.event import Actor
from handshake.kernel.htc import CallActor, CallError, CallResources, CallTiming, ToolRequest, ToolResponse
from tests.requirement import requirement

ID = "018f0000-0000-7000-8000-000000000001"
REQUEST: dict[str, Any] = {
    "schema_version": "htc-1.0", "tool_call_id": "call_1", "trace_id": ID, "session_id": ID,
    "actor": {"kind": "agent", "agent_id": "a", "model_id": "m"}, "tool_id": "workspace.file.read",
    "tool_version": "1.0.0", "args": {"path": "a"}, "idempotency_key": "k", "dry_run": False,
}  # fmt: skip
TIMING = {"started_at": "2026-01-31T08:00:00.000000Z", "ended_at": "2026-01-31T08:00:00.000000Z", "duration_ms": 0}
NOTHING: dict[str, list[str]] = {"workspace_ids": [], "artifacts": [], "files": [], "urls": []}
RESPONSE: dict[str, Any] = {
    "schema_version": "htc-1.0", "tool_call_id": "call_1", "trace_id": ID, "ok": True, "result": {}, "timing": TIMING,
    "resources": NOTHING,
}  # fmt: skip
ERROR = {"code": "HSK-403-CAPABILITY", "kind": "capability", "message": "No.", "retryable": False, "details": {}}


def without(envelope: dict[str, Any], *names: str, **more: Any) -> dict[str, Any]:
    return {key: value for key, value in envelope.items() if key not in names} | more


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "strange"}, {"properties": 5}, {"$ref": "#/nothing"}, {"$ref": "https://example.org/x"},
        {"properties": {"a": {"pattern": "(?=a)b"}}}, {"properties": {"a": {"pattern": "(a{1000}){1000}"}}},
        {"properties": {"a": {"pattern": "("}}}, {"required": "a"}, {1: 2}, {"const": b"bytes"},
    ],
)  # fmt: skip
def test_schema_that_does_not_compile_is_refused(schema: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        CompiledSchema(schema)
    assert refused.value.context["reason"] == "schema_invalid"


def test_pattern_takes_linear_time() -> None:
    schema = CompiledSchema({"properties": {"a": {"pattern": "^(a+)+$"}}})
    assert schema.misfit({"a": "a" * 100_000 + "b"}) is not None
    assert schema.misfit({"a": "a" * 100_000}) is None


def test_misfit_tells_place_and_rule_and_never_the_value() -> None:
    schema = CompiledSchema(
        {
            "type": "object",
            "properties": {"a": {"type": "array", "items": {"type": "string", "maxLength": 3}}},
            "required": ["a"],
        }
    )
    found = schema.misfit({"a": ["ok", "secretsecret"]})
    assert found is not None
    assert found[:2] == ("/a/1", "maxLength")
    assert "secret" not in str(found)
    assert schema.misfit({}) == ("", "required", '"a" is a required property')
    for value in ({"a": ["ok"], 5: 6}, object(), b"x"):
        assert schema.misfit(value) is not None


def test_schema_does_not_change_afterwards() -> None:
    rules: dict[str, Any] = {"type": "object"}
    schema = CompiledSchema(rules)
    rules["type"] = "string"
    assert schema.misfit({}) is None


@requirement("gate.envelope.validated_both_ways")
@pytest.mark.parametrize(
    "envelope",
    [
        REQUEST, without(REQUEST, "session_id", "idempotency_key", "dry_run"), without(REQUEST, session_id=None),
        without(REQUEST, "args", args_ref="0" * 64), without(REQUEST, actor={"kind": "human"}),
    ],
)  # fmt: skip
def test_request_is_taken(envelope: dict[str, Any]) -> None:
    assert envelope_schemas()[0].misfit(envelope) is None
    assert isinstance(msgspec.convert(envelope, ToolRequest), ToolRequest)


@requirement("gate.envelope.validated_both_ways")
@pytest.mark.parametrize(
    "envelope",
    [
        *(without(REQUEST, name) for name in REQUEST if name not in ("session_id", "idempotency_key", "dry_run")),
        without(REQUEST, more=1), without(REQUEST, args_ref="0" * 64), without(REQUEST, args=[]),
        without(REQUEST, args="{}"), without(REQUEST, schema_version="htc-1.1"), without(REQUEST, tool_call_id=""),
        without(REQUEST, tool_call_id="a b"), without(REQUEST, tool_call_id="a" * 201), without(REQUEST, trace_id="1"),
        without(REQUEST, session_id=""), without(REQUEST, session_id=ID.upper()), without(REQUEST, actor={}),
        without(REQUEST, actor={"kind": "root"}), without(REQUEST, actor={"kind": "human", "is_admin": True}),
        without(REQUEST, tool_id="read"), without(REQUEST, tool_id="a.b\n"), without(REQUEST, tool_version="1"),
        without(REQUEST, idempotency_key=""), without(REQUEST, idempotency_key="k" * 256),
        without(REQUEST, dry_run=0), without(REQUEST, dry_run=None), without(REQUEST, args_ref="0" * 63), [], None, 1,
    ],
)  # fmt: skip
def test_request_is_refused(envelope: Any) -> None:
    assert envelope_schemas()[0].misfit(envelope) is not None


@requirement("gate.envelope.validated_both_ways")
@pytest.mark.parametrize(
    ("envelope", "fits"),
    [
        (RESPONSE, True), (without(RESPONSE, "result", result_ref="0" * 64), True),
        (without(RESPONSE, "result", ok=False, error=ERROR), True),
        (without(RESPONSE, "result", ok=False, error=ERROR, tool_call_id=None, trace_id=None), True),
        (without(RESPONSE, ok=False), False), (without(RESPONSE, error=ERROR), False),
        (without(RESPONSE, ok=True, error=ERROR), False), (without(RESPONSE, "result"), False),
        (without(RESPONSE, result=None), False), (without(RESPONSE, result_ref="0" * 64), False),
        (without(RESPONSE, "result", ok=False, error={**ERROR, "kind": "other"}), False),
        (without(RESPONSE, "result", ok=False, error={**ERROR, "message": ""}), False),
        (without(RESPONSE, timing={**TIMING, "duration_ms": -1}), False),
        (without(RESPONSE, resources={**NOTHING, "urls": ["x"] * 65}), False), (without(RESPONSE, more=1), False),
    ],
)  # fmt: skip
def test_response_is_held_to_its_schema(envelope: dict[str, Any], fits: bool) -> None:
    assert (envelope_schemas()[1].misfit(envelope) is None) is fits


@requirement("gate.envelope.validated_both_ways")
def test_what_the_runtime_says_fits_its_schema() -> None:
    timing = CallTiming(**TIMING)  # type: ignore[arg-type]
    request = ToolRequest(
        tool_call_id="c", trace_id=ID, actor=CallActor(kind=Actor.HUMAN), tool_id="a.b", tool_version="1.0.0", args={}
    )
    assert envelope_schemas()[0].misfit(msgspec.json.decode(msgspec.json.encode(request))) is None
    error = CallError(code="X", kind=ToolFaultKind.TOOL, message="m", retryable=True, details={})
    answers: list[dict[str, Any]] = [
        {"ok": True, "result": {}},
        {"ok": True, "result_ref": "0" * 64},
        {"ok": False, "error": error},
    ]
    for given in answers:
        response = ToolResponse(tool_call_id="c", trace_id=ID, timing=timing, resources=CallResources(), **given)
        assert envelope_schemas()[1].misfit(msgspec.json.decode(msgspec.json.encode(response))) is None
