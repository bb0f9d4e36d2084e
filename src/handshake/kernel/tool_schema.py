"""Tool schema: what a tool's JSON Schema may say, so that it speaks of itself alone and is cheap to hold a value to.

Whether it compiles is found out where it is compiled (`gate.json_schema`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from handshake.kernel.canonical import canonical
from handshake.kernel.errors import InvalidRequest
from handshake.kernel.settings import MAX_TOOL_SCHEMA_BYTES, MAX_TOOL_SCHEMA_DEPTH, MAX_TOOL_SCHEMA_NODES


class Misfit(NamedTuple):
    """Where and why a value does not fit its schema; nothing of the value is told, but names of an object's members."""

    pointer: str
    rule: str
    """The keyword that it breaks."""
    sentence: str
    """For whoever made the value, never for evidence."""


class Check(Protocol):
    """A compiled schema."""

    def misfit(self, value: Any) -> Misfit | None:
        """Return the first place at which `value` does not fit, or None."""
        ...


_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REFERENCES = frozenset({"$ref", "$dynamicRef"})
_ELSEWHERE = frozenset({"$id", "$anchor", "$dynamicAnchor", "$vocabulary", "$recursiveRef", "$recursiveAnchor"})
"""Keywords by which a schema could be about another place than its own text."""


def schema_fault(schema: Mapping[str, Any]) -> str | None:
    """Return why a schema is refused as a tool's, or None.

    It is `schema_object` (not the schema of an object), `schema_size`, `schema_depth` (also for what is no JSON),
    `schema_dialect` (not 2020-12), `schema_reference` (to anything but a place in itself) or `schema_cost` (its
    references, written out, are more than `MAX_TOOL_SCHEMA_NODES` parts).
    """
    if schema.get("type") != "object":
        return "schema_object"
    try:
        size = len(canonical(schema, floats=True))
    except InvalidRequest:
        return "schema_depth"
    if size > MAX_TOOL_SCHEMA_BYTES:
        return "schema_size"
    if schema.get("$schema", _DIALECT) != _DIALECT:
        return "schema_dialect"
    level: list[Any] = [schema]
    for _ in range(MAX_TOOL_SCHEMA_DEPTH):
        if any(_leaves(one) for one in level):
            return "schema_reference"
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return None if _is_cheap(schema) else "schema_cost"
    return "schema_depth"


def _is_cheap(schema: Mapping[str, Any]) -> bool:
    try:
        return _Cost(schema).of("#", schema) <= MAX_TOOL_SCHEMA_NODES
    except RecursionError:  # a chain of references as long as the text allows
        return False


def _leaves(node: Any) -> bool:
    """Return whether a part of a schema names a place outside of the schema's own text.

    A property that happens to be called like a keyword has a schema as its value, where a keyword has text.
    """
    if not isinstance(node, dict):
        return False
    named = [node[key] for key in _REFERENCES if isinstance(node.get(key), str)]
    return any(_pointer(one) is None for one in named) or any(isinstance(node.get(key), str) for key in _ELSEWHERE)


def _inside(node: Any) -> Iterator[Any]:
    values = node.values() if isinstance(node, dict) else node
    return (one for one in values if isinstance(one, dict | list))


def _pointer(reference: str) -> list[str] | None:
    """Return the segments of a reference into the same text, or None for any other."""
    if (reference != "#" and not reference.startswith("#/")) or "%" in reference:
        return None
    return [one.replace("~1", "/").replace("~0", "~") for one in reference.split("/")[1:]]


class _Cost:
    """How many parts a schema has with its references written out; one that leads back to where it stands counts 1."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self._known: dict[str, int] = {}

    def of(self, place: str, node: Any) -> int:
        """Return the parts of what stands at `place`, the end of a reference."""
        if place not in self._known:
            self._known[place] = 1
            self._known[place] = self._of(node)
        return self._known[place]

    def _of(self, node: Any) -> int:
        reference = node.get("$ref") if isinstance(node, dict) else None
        led = self._referred(reference) if isinstance(reference, str) else 0
        return 1 + led + sum(self._of(one) for one in _inside(node))

    def _referred(self, reference: str) -> int:
        target: Any = self._schema
        for segment in _pointer(reference) or []:
            if isinstance(target, dict):
                target = target.get(segment)
            elif isinstance(target, list) and segment.isdecimal():
                target = target[int(segment)] if int(segment) < len(target) else None
        return self.of(reference, target) if isinstance(target, dict) else 1
