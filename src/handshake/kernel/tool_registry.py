"""Tool registry: the one list of tools, from which the gate decides and every listing of schemas is made.

Source:
    gate.registry.nothing_defaults, gate.provider_schemas.generated (02 §2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from handshake.kernel.capability import CapabilityRegistry
from handshake.kernel.errors import InvalidRequest, StateConflict, TooLarge
from handshake.kernel.settings import MAX_TOOLS
from handshake.kernel.template import Template, parse_template
from handshake.kernel.tool import ToolDefinition, admit, definition_sha256, require_upgrade
from handshake.kernel.tool_schema import Check


class ToolSource(StrEnum):
    """Who brought a tool; each has names of its own, so that none can stand in for another's."""

    RUNTIME = "runtime"
    PROGRAM = "program"
    """A function of the program that opened the workspace."""
    MCP = "mcp"
    CLIENT = "client"
    """A client of the gateway, which executes it itself."""


class Standing(StrEnum):
    """Whether a tool's definition may be used (02 §5)."""

    USABLE = "usable"
    NOT_APPROVED = "definition_not_approved"
    CHANGED = "definition_changed"


class RegisteredTool(NamedTuple):
    """A tool with all that is computed of its definition once."""

    definition: ToolDefinition
    sha256: str
    source: ToolSource
    standing: Standing
    templates: tuple[Template, ...]
    input_check: Check
    output_check: Check


class ToolListing(msgspec.Struct, frozen=True):
    """What a model or an MCP client is told of a tool."""

    tool_id: str
    description: str
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]


class ToolRegistry:
    """The tools of a workspace; what was taken out of it before a change stays as it was.

    Args:
        capabilities: the registry of capabilities.
        compiled: makes the check of a schema, or raises InvalidRequest.
    """

    def __init__(self, capabilities: CapabilityRegistry, compiled: Callable[[Mapping[str, Any]], Check]) -> None:
        self.capabilities = capabilities
        self._compiled = compiled
        self._tools: dict[str, RegisteredTool] = {}

    def register(
        self, definition: ToolDefinition, source: ToolSource, *, standing: Standing = Standing.USABLE
    ) -> RegisteredTool:
        """Take a tool in, or a later version of it.

        Raises:
            InvalidRequest: the definition is not whole (`kernel.tool.admit`), its name is another source's, a schema
                does not compile, a template is malformed or speaks of an argument that the schema does not name, or
                the version does not tell what changes (`kernel.tool.require_upgrade`).
            UnknownCapability: a template's axis is not in the registry of capabilities.
            StateConflict: another source has registered the tool.
            TooLarge: more than `MAX_TOOLS`.
        """
        whole = admit(definition)
        tool_id = whole.tool_id
        if not _may_name(source, tool_id):
            raise InvalidRequest(field="tool_id", reason="reserved", tool_id=tool_id)
        earlier = self._tools.get(tool_id)
        if earlier is not None:
            if earlier.source is not source:
                raise StateConflict(tool_id=tool_id, reason="tool_of_another_source")
            require_upgrade(earlier.definition, whole)
        elif len(self._tools) >= MAX_TOOLS:
            raise TooLarge(field="tool", limit=MAX_TOOLS)
        tool = RegisteredTool(
            definition=whole,
            sha256=definition_sha256(whole),
            source=source,
            standing=standing,
            templates=tuple(self._template(whole, text) for text in whole.required_capabilities),
            input_check=self._check(whole, whole.input_schema),
            output_check=self._check(whole, whole.output_schema),
        )
        self._tools[tool_id] = tool
        return tool

    def replace(self, definition: ToolDefinition, *, standing: Standing) -> RegisteredTool:
        """Take in what an MCP server or a client says of its tool now; its version is not its own, its pin decides.

        Raises:
            As `register`.
        """
        earlier = self._tools.pop(definition.tool_id, None)
        source = ToolSource.MCP if earlier is None else earlier.source
        try:
            return self.register(definition, source, standing=standing)
        except Exception:
            if earlier is not None:
                self._tools[definition.tool_id] = earlier
            raise

    def remove(self, tool_id: str) -> None:
        """Forget a tool that its source no longer offers."""
        self._tools.pop(tool_id, None)

    def find(self, tool_id: str) -> RegisteredTool | None:
        """Return a tool, or None."""
        return self._tools.get(tool_id)

    def all(self) -> tuple[RegisteredTool, ...]:
        """Return every tool in the order of its id."""
        return tuple(self._tools[tool_id] for tool_id in sorted(self._tools))

    def listings(self, *, only: Iterable[str] | None = None, deferred: bool = False) -> tuple[ToolListing, ...]:
        """Return what models and MCP clients are told, in the order of the ids; the same registry gives the same bytes.

        Args:
            only: the tools that the session may use; None is every one.
            deferred: whether tools are listed that a model must look for.
        """
        chosen = None if only is None else frozenset(only)
        return tuple(
            ToolListing(one.tool_id, one.description, one.input_schema, one.output_schema)
            for one in (tool.definition for tool in self.all() if tool.standing is Standing.USABLE)
            if (chosen is None or one.tool_id in chosen) and (deferred or not one.deferred)
        )

    def _template(self, definition: ToolDefinition, text: str) -> Template:
        template = parse_template(text)
        self.capabilities.parse(template.axis)
        properties = definition.input_schema.get("properties")
        named = properties if isinstance(properties, dict) else {}
        if any(place.argument not in named for place in template.places):
            raise InvalidRequest(field="required_capabilities", reason="argument", tool_id=definition.tool_id)
        return template

    def _check(self, definition: ToolDefinition, schema: dict[str, Any]) -> Check:
        try:
            return self._compiled(schema)
        except InvalidRequest:
            raise InvalidRequest(field="tool", reason="schema_invalid", tool_id=definition.tool_id) from None


_RESERVED = {
    **dict.fromkeys(
        ("artifact", "handshake", "http", "mailbox", "process", "session", "workspace"), ToolSource.RUNTIME
    ),
    "mcp": ToolSource.MCP,
    "client": ToolSource.CLIENT,
}
"""First words of tool ids, and whose they are; a program may use any other."""


def _may_name(source: ToolSource, tool_id: str) -> bool:
    return _RESERVED.get(tool_id.partition(".")[0], ToolSource.PROGRAM) is source
