"""Tool: a definition is whole or refused, and a new version says what it changes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from handshake.kernel.errors import InvalidRequest
from handshake.kernel.settings import MAX_TOOL_DESCRIPTION_CHARS
from handshake.kernel.tool import SideEffect, ToolDefinition, admit, definition_sha256, require_upgrade
from tests.requirement import requirement

WHOLE: dict[str, Any] = {
    "tool_id": "workspace.file.write",
    "tool_version": "1.2.3",
    "description": "Write a file.\nWhole.",
    "input_schema": {
        "type": "object",
        "properties": {"path": {"$ref": "#/$defs/path"}, "text": {"type": "string"}},
        "required": ["path"],
        "$defs": {"path": {"type": "string", "maxLength": 9}},
    },
    "output_schema": {"type": "object"},
    "sinks": ["/path"],
    "content": ["/text"],
    "reversibility": "REVERSIBLE",
    "side_effect": "WRITE",
    "idempotency": "IDEMPOTENT",
    "determinism": "DETERMINISTIC",
    "availability": "ALWAYS",
    "required_capabilities": ["fs.write:{path}"],
    "risk_level": "MEDIUM",
    "output_trust": "trusted",
    "asks": "as_granted",
    "is_egress": False,
    "needs_sandbox": False,
    "deferred": False,
    "executed_by": "runtime",
    "timeout_ms": 1_000,
}
TOOL = msgspec.convert(WHOLE, ToolDefinition)


def changed(**fields: Any) -> ToolDefinition:
    return msgspec.structs.replace(TOOL, **fields)


def refusal(definition: ToolDefinition) -> object:
    with pytest.raises(InvalidRequest) as refused:
        admit(definition)
    return refused.value.context["reason"]


def test_whole_definition_is_taken() -> None:
    assert admit(TOOL) == TOOL
    assert admit(changed(side_effect="READ", required_capabilities=())).side_effect is SideEffect.READ


def test_what_was_taken_does_not_change_afterwards() -> None:
    schema: dict[str, Any] = {"type": "object"}
    taken = admit(changed(output_schema=schema))
    schema["type"] = "string"
    assert taken.output_schema == {"type": "object"}


@requirement("gate.registry.nothing_defaults")
@pytest.mark.parametrize("name", WHOLE)
def test_no_field_has_a_default(name: str) -> None:
    with pytest.raises(TypeError):
        ToolDefinition(**{key: value for key, value in WHOLE.items() if key != name})
    assert refusal(changed(**{name: None})) == "incomplete"


@requirement("gate.registry.nothing_defaults")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tool_id", "write"), ("tool_id", "Workspace.write"), ("tool_id", "a.b\n"), ("tool_id", "a." + "b" * 127),
        ("tool_version", "1.2"), ("tool_version", "v1.2.3"), ("tool_version", "01.2.3"), ("description", ""),
        ("description", "x" * (MAX_TOOL_DESCRIPTION_CHARS + 1)), ("side_effect", "read"), ("side_effect", "NONE"),
        ("risk_level", "UNKNOWN"), ("idempotency", ""), ("reversibility", "UNDO"), ("determinism", True),
        ("availability", "SOMETIMES"), ("output_trust", "TRUSTED"), ("asks", "never"), ("is_egress", 1),
        ("timeout_ms", 0), ("sinks", ["/a"] * 65), ("executed_by", "server"), ("input_schema", True),
        ("required_capabilities", ["x"] * 33), ("needs_sandbox", "no"), ("deferred", None),
    ],
)  # fmt: skip
def test_what_is_not_of_its_vocabulary_is_refused(name: str, value: object) -> None:
    assert refusal(changed(**{name: value})) == "incomplete"


@requirement("gate.registry.nothing_defaults")
@pytest.mark.parametrize("side_effect", ["WRITE", "EXECUTE"])
def test_only_a_read_may_require_nothing(side_effect: str) -> None:
    assert refusal(changed(side_effect=side_effect, required_capabilities=())) == "capabilities"


@pytest.mark.parametrize("text", ["a\x00b", "\x1b[31mred", "a\u0085b", "back\rspace"])
def test_description_without_control_characters(text: str) -> None:
    assert refusal(changed(description=text)) == "description"


@pytest.mark.parametrize("pointer", ["path", "/", "/a~", "/a~2", "/a//b", "/a\x00"])
def test_pointers_are_pointers(pointer: str) -> None:
    assert refusal(changed(sinks=(pointer,))) in ("pointer", "incomplete")
    assert refusal(changed(content=("/text", pointer))) in ("pointer", "incomplete")


def test_both_schemas_are_looked_at() -> None:
    assert refusal(changed(input_schema={"type": "string"})) == "schema_object"
    assert refusal(changed(output_schema={"type": "object", "$ref": "other.json"})) == "schema_reference"


def test_hash_covers_every_field() -> None:
    hashes = {definition_sha256(TOOL)}
    others: dict[str, Any] = {
        **dict.fromkeys(("tool_id", "description", "tool_version"), "other"),
        **{name: {"type": "object", "maxProperties": 1} for name in ("input_schema", "output_schema")},
        **dict.fromkeys(("sinks", "content", "required_capabilities"), ("/other",)),
        **dict.fromkeys(("is_egress", "needs_sandbox", "deferred"), True),
        "timeout_ms": 2,
    }
    for name in WHOLE:
        hashes.add(definition_sha256(changed(**{name: others.get(name, "OTHER")})))
    assert len(hashes) == len(WHOLE) + 1
    assert definition_sha256(msgspec.convert(WHOLE, ToolDefinition)) == definition_sha256(TOOL)


@pytest.mark.parametrize(
    "change",
    [
        {"side_effect": "READ"}, {"required_capabilities": ("fs.write",)}, {"sinks": ()}, {"risk_level": "LOW"},
        {"input_schema": {"type": "object"}}, {"output_trust": "untrusted"}, {"asks": "always"}, {"is_egress": True},
    ],
)  # fmt: skip
def test_what_others_rely_on_changes_with_a_major_version_only(change: dict[str, Any]) -> None:
    for version, reason in (("1.2.3", "unchanged"), ("1.2.4", "needs_major"), ("1.3.0", "needs_major")):
        with pytest.raises(InvalidRequest) as refused:
            require_upgrade(TOOL, changed(tool_version=version, **change))
        assert (refused.value.context["field"], refused.value.context["reason"]) == ("tool_version", reason)
    require_upgrade(TOOL, changed(tool_version="2.0.0", **change))


def test_what_is_told_of_a_tool_changes_with_any_version() -> None:
    require_upgrade(TOOL, TOOL)
    require_upgrade(TOOL, changed(tool_version="1.2.10", description="Write a whole file."))
    for version, reason in (("1.2.3", "unchanged"), ("1.1.9", "downgrade"), ("0.9.9", "downgrade")):
        with pytest.raises(InvalidRequest) as refused:
            require_upgrade(TOOL, changed(tool_version=version, description="Other."))
        assert refused.value.context["reason"] == reason
