"""MCP: what a server says of its tools, held to bounds: their ids here, their hashes, and which are not taken at all.

All of it is untrusted text. A definition that could hide something from the person who approves it is refused, and two
tools that would have the same id are refused both, so that neither can pass for the other.

Source:
    gate.mcp.definition_pinned (02 §5).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from handshake.kernel.canonical import canonical_body
from handshake.kernel.errors import InvalidRequest
from handshake.kernel.mcp_settings import MAX_MCP_TOOL_NAME_CHARS

MAX_MCP_TOOLS = 512
"""Tools of one server; a longer listing is not taken, since nobody could approve it knowingly."""
MAX_MCP_DESCRIPTION_CHARS = 8_192
"""What a server says of one tool."""
MAX_MCP_SCHEMA_BYTES = 64 * 1024
"""One schema, in canonical form."""
MAX_MCP_TOOL_PART_CHARS = 39
"""The last part of a tool's id: with the longest server's name, an id fits into a token of the log."""

_HASH_CHARS = 8
_NOT_IN_ID = re.compile("[^a-z0-9_]")
_JOINERS = frozenset("\u200c\u200d")
_BREAKS = "\n\t\r"
_HIDING = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})


class McpDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says of one tool, as far as a model would be told or held to it."""

    server: str
    name: str
    """As the server spells it."""
    description: str
    input_schema: dict[str, Any]
    output_schema: dict[str, Any] | None

    @property
    def tool_id(self) -> str:
        """The tool's id here."""
        return tool_id(self.server, self.name)


class RefusedTool(msgspec.Struct, frozen=True, gc=False):
    """A tool that is not taken; `name` is made safe to show."""

    server: str
    name: str
    reason: str
    """`name`, `collision`, `description`, `hidden_characters`, `schema`, `schema_size` or `schema_depth`."""


class McpListing(msgspec.Struct, frozen=True):
    """One server's tools in the order of their ids, and those that are not taken."""

    definitions: tuple[McpDefinition, ...]
    refused: tuple[RefusedTool, ...]


def tool_id(server: str, name: str) -> str:
    """Return the id of a server's tool: `mcp.<server>.<tool>`, what an id may not hold replaced by `_`.

    A name that is too long is cut, with the beginning of its hash in place of what is lost.
    """
    part = _NOT_IN_ID.sub("_", name.lower())
    if len(part) > MAX_MCP_TOOL_PART_CHARS:
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_CHARS]
        part = f"{part[: MAX_MCP_TOOL_PART_CHARS - _HASH_CHARS - 1]}_{digest}"
    return f"mcp.{server}.{part}"


def definition_bytes(definition: McpDefinition) -> bytes:
    """Return the bytes that are shown, pinned and kept: name, description and schemas, exactly as the server says."""
    return canonical_body(
        {
            "description": definition.description,
            "input_schema": definition.input_schema,
            "name": definition.name,
            "output_schema": definition.output_schema,
        }
    )


def definition_sha256(definition: McpDefinition) -> str:
    """Return the hash that a pin holds."""
    return hashlib.sha256(definition_bytes(definition)).hexdigest()


def parse_definition(server: str, data: bytes) -> McpDefinition:
    """Return the definition that `definition_bytes` wrote."""
    return msgspec.convert({"server": server, **msgspec.json.decode(data)}, McpDefinition)


def read_listing(server: str, entries: Sequence[Mapping[str, Any]]) -> McpListing:
    """Return what a server's listing gives.

    Args:
        server: its name in the configuration.
        entries: every tool as the protocol spells it (`name`, `description`, `inputSchema`, `outputSchema`).

    Raises:
        InvalidRequest: field `tools`, reason `too_many`.
    """
    if len(entries) > MAX_MCP_TOOLS:
        raise InvalidRequest(field="tools", reason="too_many", server=server, limit=MAX_MCP_TOOLS)
    taken: list[McpDefinition] = []
    refused: list[RefusedTool] = []
    for entry in entries:
        found = _definition(server, entry)
        if isinstance(found, RefusedTool):
            refused.append(found)
        else:
            taken.append(found)
    times = Counter(one.tool_id for one in taken)
    refused += (RefusedTool(server, one.name, "collision") for one in taken if times[one.tool_id] > 1)
    alone = (one for one in taken if times[one.tool_id] == 1)
    return McpListing(
        tuple(sorted(alone, key=lambda one: one.tool_id)),
        tuple(sorted(refused, key=lambda one: (one.name, one.reason))),
    )


def visible(text: str, *, breaks: str = _BREAKS) -> str:
    """Return `text` with every character that would not be seen, or would move others, written as its code point.

    Args:
        text: what somebody else wrote.
        breaks: control characters that stay as they are.
    """
    return "".join(f"\\u{{{ord(char):x}}}" if _hides(char, breaks) else char for char in text)


def _definition(server: str, entry: Mapping[str, Any]) -> McpDefinition | RefusedTool:
    name, description = entry.get("name"), entry.get("description") or ""
    told = visible(str(name), breaks="")[:MAX_MCP_TOOL_NAME_CHARS]
    if not isinstance(name, str) or not 0 < len(name) <= MAX_MCP_TOOL_NAME_CHARS or not name.isprintable():
        return RefusedTool(server, told, "name")
    if not isinstance(description, str) or len(description) > MAX_MCP_DESCRIPTION_CHARS:
        return RefusedTool(server, told, "description")
    given, returned = entry.get("inputSchema"), entry.get("outputSchema")
    if not isinstance(given, dict) or not isinstance(returned, dict | None):
        return RefusedTool(server, told, "schema")
    found = McpDefinition(server=server, name=name, description=description, input_schema=given, output_schema=returned)
    reason = _fault(found)
    return found if reason is None else RefusedTool(server, told, reason)


def _fault(found: McpDefinition) -> str | None:
    try:
        sizes = [len(canonical_body(schema)) for schema in (found.input_schema, found.output_schema)]
        written = definition_bytes(found).decode()
    except InvalidRequest as broken:
        return "schema_depth" if broken.context.get("reason") == "too_deep" else "schema"
    if max(sizes) > MAX_MCP_SCHEMA_BYTES:
        return "schema_size"
    if any(map(_hides, found.description)) or any(map(_hides, written)):
        return "hidden_characters"
    return None


def _hides(char: str, breaks: str = _BREAKS) -> bool:
    if char.isascii():
        return not char.isprintable() and char not in breaks
    return unicodedata.category(char) in _HIDING and char not in _JOINERS
