"""Tool schema: it speaks of itself alone, and costs little to hold a value to."""

from __future__ import annotations

from typing import Any

import pytest

from handshake.kernel.settings import MAX_TOOL_SCHEMA_BYTES
from handshake.kernel.tool_schema import schema_fault

NESTED: dict[str, Any] = {"type": "object"}
for _ in range(30):
    NESTED = {"type": "object", "properties": {"a": NESTED}}


def doubling(times: int) -> dict[str, Any]:
    """A schema of some hundred bytes that holds one value to the same rule 2**times times."""
    rules = {str(n): {"anyOf": [{"$ref": f"#/$defs/{n + 1}"}, {"$ref": f"#/$defs/{n + 1}"}]} for n in range(times)}
    return {"type": "object", "$ref": "#/$defs/0", "$defs": {**rules, str(times): {"minProperties": 1}}}


def chain(length: int) -> dict[str, Any]:
    rules = {str(n): {"$ref": f"#/$defs/{n + 1}"} for n in range(length)}
    return {"type": "object", "$ref": "#/$defs/0", "$defs": rules}


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({}, "schema_object"),
        ({"type": "string"}, "schema_object"),
        ({"type": ["object", "null"]}, "schema_object"),
        ({"type": "object", "description": "x" * MAX_TOOL_SCHEMA_BYTES}, "schema_size"),
        (NESTED, "schema_depth"),
        ({"type": "object", "const": float("nan")}, "schema_depth"),
        ({"type": "object", "$schema": "http://json-schema.org/draft-07/schema#"}, "schema_dialect"),
        ({"type": "object", "$ref": "https://example.org/schema"}, "schema_reference"),
        ({"type": "object", "$ref": "#anchor"}, "schema_reference"),
        ({"type": "object", "$ref": "#/%24defs/a"}, "schema_reference"),
        ({"type": "object", "properties": {"a": {"$ref": "file:///etc/passwd"}}}, "schema_reference"),
        ({"type": "object", "anyOf": [{"$dynamicRef": "other.json#x"}]}, "schema_reference"),
        ({"type": "object", "$defs": {"a": {"$id": "https://example.org/"}}}, "schema_reference"),
        (doubling(40), "schema_cost"),
        (chain(1_800), "schema_cost"),
    ],
)
def test_schema_is_refused(schema: dict[str, Any], reason: str) -> None:
    assert schema_fault(schema) == reason


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"$ref": {"type": "string"}, "$id": {"$ref": "#/properties/$ref"}}},
        {"type": "object", "properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}},
        {"type": "object", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"items": {"$ref": "#/$defs/a"}}}},
        {"type": "object", "prefixItems": [{"$ref": "#/prefixItems/1"}, {"type": "string"}, {"$ref": "#/nothing"}]},
        doubling(9),
    ],
)
def test_schema_is_taken(schema: dict[str, Any]) -> None:
    assert schema_fault(schema) is None
