"""Template: the capabilities that a tool requires, computed from the arguments of the actual call.

`fs.write:{path}` requires one scope, `fs.read:{paths[]}` one for every item, `net.http:{method=GET} {request.url}` one
of two arguments, the first of which may be absent. An argument that is absent and has no `=` stands for every scope:
the call then requires the whole axis. `proc.exec:{argv}` is the exact command, whatever characters its arguments have.

Source:
    capability.args.are_checked (02 §1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any, NamedTuple

import msgspec

from handshake.kernel.capability import Capability, CapabilityRegistry
from handshake.kernel.command_pattern import spell_command
from handshake.kernel.errors import InvalidRequest, TooLarge, UnknownCapability
from handshake.kernel.pointer import EVERY
from handshake.kernel.settings import MAX_REQUIRED_CAPABILITIES

COMMANDS = "proc.exec"
REQUESTS = "net.http"

_PLACE = re.compile(r"\{([^{}=]*)(?:=([^{}]*))?\}")
_NAME = re.compile(r"[A-Za-z0-9_$-]+(?:\[\])?")
_AXIS = re.compile(r"[a-z]+(?:[._][a-z]+)*")


class Place(msgspec.Struct, frozen=True, gc=False):
    """An argument in a template."""

    pointer: str
    """JSON pointer, in which `*` is every item."""
    otherwise: str | None
    """What stands for the argument if it is absent."""

    @property
    def argument(self) -> str:
        """The argument of the call in which the place is."""
        return self.pointer.split("/")[1]


class Needed(NamedTuple):
    """A capability that a call requires, and the arguments that say so."""

    capability: Capability
    pointers: frozenset[str]


class Template(msgspec.Struct, frozen=True, gc=False):
    """A required capability before the arguments are known."""

    axis: str
    parts: tuple[str | Place, ...]
    """What the scope is put together from; nothing is the whole axis."""

    @property
    def places(self) -> tuple[Place, ...]:
        """The arguments that the template speaks of."""
        return tuple(part for part in self.parts if isinstance(part, Place))


def parse_template(text: str) -> Template:
    """Return the template that `text` spells.

    Raises:
        InvalidRequest: field `required_capabilities`, reason `template`.
    """
    axis, colon, scope = text.partition(":")
    if not _AXIS.fullmatch(axis) or (colon and not scope) or not text.isprintable():
        raise _malformed()
    parts: list[str | Place] = []
    at = 0
    for place in _PLACE.finditer(scope):
        parts += [scope[at : place.start()], _place(place[1], place[2])]
        at = place.end()
    parts.append(scope[at:])
    if any(isinstance(part, str) and ("{" in part or "}" in part) for part in parts):
        raise _malformed()
    return Template(axis, tuple(part for part in parts if part != ""))


def required(
    templates: Iterable[Template], args: Mapping[str, Any], registry: CapabilityRegistry
) -> tuple[Needed, ...]:
    """Return the capabilities that a call with `args` requires, each once, in the order of the templates.

    Raises:
        InvalidRequest: field `args`; reason `not_a_scope`: an argument, named by `pointer`, is no text or nothing that
            a scope may be; the context tells why.
        TooLarge: field `args`; they require more than `MAX_REQUIRED_CAPABILITIES`.
        UnknownCapability: the registry has no such axis.
    """
    wanted: dict[Capability, frozenset[str]] = {}
    for template in templates:
        pointers = frozenset(place.pointer for place in template.places)
        for scope in _scopes(template, args):
            capability = _parsed(template, scope, registry)
            wanted[capability] = wanted.get(capability, frozenset()) | pointers
            if len(wanted) > MAX_REQUIRED_CAPABILITIES:
                raise TooLarge(field="args", limit=MAX_REQUIRED_CAPABILITIES, what="required_capabilities")
    return tuple(Needed(*one) for one in wanted.items())


def _parsed(template: Template, scope: str | None, registry: CapabilityRegistry) -> Capability:
    if not template.places or scope is None:
        return registry.parse(template.axis if scope is None else f"{template.axis}:{scope}")
    try:
        return registry.parse(f"{template.axis}:{scope}")
    except UnknownCapability as odd:
        registry.parse(template.axis)
        raise _no_scope(template.places[0], str(odd.context.get("reason", "scope"))) from None


def _scopes(template: Template, args: Mapping[str, Any]) -> Iterable[str | None]:
    """Yield the scopes of a template; None is the whole axis."""
    if not template.parts:
        return [None]
    choices: list[list[str]] = []
    many = 1
    for part in template.parts:
        texts = [part] if isinstance(part, str) else _texts(template.axis, part, args)
        if texts is None:
            return [None]
        many *= len(texts)
        if many > MAX_REQUIRED_CAPABILITIES:
            raise TooLarge(field="args", limit=MAX_REQUIRED_CAPABILITIES, what="required_capabilities")
        choices.append(texts)
    return ("".join(chosen) for chosen in product(*choices))


def _texts(axis: str, place: Place, args: Mapping[str, Any]) -> list[str] | None:
    """Return what may stand at a place of a scope, or None for anything; an empty array names nothing."""
    values = _values(place.pointer, args)
    if place.otherwise is None and None in values:
        return None
    return [place.otherwise or "" if value is None else _text(axis, place, value) for value in values]


def _values(pointer: str, args: Mapping[str, Any]) -> list[Any]:
    """Return what a place names, None wherever an argument is absent, also one of an item among others."""
    level: list[Any] = [args]
    for segment in pointer.split("/")[1:]:
        if segment == EVERY:
            level = [inner for value in level for inner in (value if isinstance(value, list) else [None])]
        else:
            level = [value.get(segment) if isinstance(value, dict) else None for value in level]
    return level


def _text(axis: str, place: Place, value: Any) -> str:
    if axis == COMMANDS:
        words = [word for word in (value if isinstance(value, list) else [value]) if isinstance(word, str)]
        if not words or (isinstance(value, list) and len(words) < len(value)):
            raise _no_scope(place, "type")
        return spell_command(words)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise _no_scope(place, "type")
    if not value or not value.isprintable() or (axis == REQUESTS and " " in value):
        raise _no_scope(place, "character" if value else "empty")
    return value


def _place(path: str, otherwise: str | None) -> Place:
    pointer = ""
    for name in path.split("."):
        if not _NAME.fullmatch(name):
            raise _malformed()
        pointer += f"/{name.removesuffix('[]')}" + (f"/{EVERY}" if name.endswith("[]") else "")
    return Place(pointer, otherwise)


def _malformed() -> InvalidRequest:
    return InvalidRequest(field="required_capabilities", reason="template")


def _no_scope(place: Place, why: str) -> InvalidRequest:
    return InvalidRequest(field="args", reason="not_a_scope", pointer=place.pointer, why=why)
