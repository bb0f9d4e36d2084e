"""Tools page: the runtime's own tools as a model is told of them, with what they require and what they can do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from handshake.kernel.tool import ToolDefinition
from handshake.kernel.tools.shipped import DEFINITIONS

_INTRODUCTION = (
    "What a session may ask for, if its grants reach it. A call passes the Tool Gate: its arguments are held to the "
    "schema, what it requires is computed from them and compared with the grants, and every answer leaves evidence. Of "
    "the arguments, *sinks* choose where something goes: in a run that read untrusted content they need an approval, "
    "unless a grant fixes them or an operator said them."
)


def tools_page() -> str:
    """Return the page."""
    lines = ["# Tools", "", "<!-- written by `make docs`; do not edit -->", "", _INTRODUCTION, ""]
    lines += ["| tool | requires | does | risk |", "| --- | --- | --- | --- |"]
    lines += [
        f"| [`{one.tool_id}`](#{one.tool_id.replace('.', '')}) | {_required(one)} | {one.side_effect.value} | "
        f"{one.risk_level.value} |"
        for one in DEFINITIONS
    ]
    for one in DEFINITIONS:
        lines += ["", *_section(one)]
    return "\n".join(lines) + "\n"


def _section(one: ToolDefinition) -> Iterator[str]:
    yield f"## `{one.tool_id}`"
    yield ""
    yield one.description
    yield ""
    facts = {
        "version": one.tool_version,
        "requires": _required(one),
        "sinks": ", ".join(f"`{pointer}`" for pointer in one.sinks) or "none",
        "asks": one.asks.value.replace("_", " "),
        "idempotency": one.idempotency.value,
        "reversibility": one.reversibility.value,
        "output": one.output_trust.value,
        "time": f"{one.timeout_ms // 1_000} s",
    }
    yield " · ".join(f"{name}: {value}" for name, value in facts.items())
    yield ""
    yield "| argument | takes | meaning |"
    yield "| --- | --- | --- |"
    yield from _rows(one.input_schema, "")


def _required(one: ToolDefinition) -> str:
    return ", ".join(f"`{text}`" for text in one.required_capabilities) or "nothing: it reads what the session has"


def _rows(schema: Mapping[str, Any], above: str) -> Iterator[str]:
    """Yield a row per argument, those inside of lists and objects after the one that holds them."""
    required = schema.get("required", ())
    for name, inner in schema.get("properties", {}).items():
        place = f"{above}{name}"
        mark = "" if name in required else " (optional)"
        yield f"| `{place}`{mark} | {_taken(inner)} | {inner.get('description', '')} |"
        if inner.get("type") == "array" and inner["items"].get("type") == "object":
            yield from _rows(inner["items"], f"{place}[].")
        elif "properties" in inner:
            yield from _rows(inner, f"{place}.")


def _taken(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(f"`{value}`" for value in schema["enum"])
    bounds = [
        f"{word} {schema[key]}"
        for key, word in (
            ("minimum", "from"),
            ("maximum", "to"),
            ("maxLength", "at most characters:"),
            ("maxItems", "at most items:"),
            ("maxProperties", "at most members:"),
        )
        if key in schema
    ]
    return " ".join([str(schema.get("type", "anything")), *bounds])
