"""Layer: one source of settings, read key by key against the schema.

Errors name the key and what is allowed, never the value, which may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any, NamedTuple, NoReturn

import msgspec
from msgspec.inspect import DictType, StructType, Type

from handshake.kernel.errors import InvalidConfig
from handshake.kernel.schema import Unfit, expectation, fields_of, plain, purpose, read
from handshake.kernel.settings import Settings
from handshake.kernel.suggestion import suggest

VARIABLE_PREFIX = "HANDSHAKE_"
RESERVED_VARIABLES = frozenset(
    {"HANDSHAKE_HOME", "HANDSHAKE_URL", "HANDSHAKE_API_KEY", "HANDSHAKE_DATABASE_URL", "HANDSHAKE_LOG"}
)
"""Variables that are no keys: they say where to work, not how."""

Path = tuple[str, ...]
"""A key, part by part."""

_BARE = re.compile("[A-Za-z0-9_-]+")


class LayerName(StrEnum):
    """Where a value comes from, weakest first."""

    BUILT_IN = "built-in"
    USER = "user"
    WORKSPACE = "workspace"
    ENVIRONMENT = "environment"
    FLAG = "flag"


class Layer(msgspec.Struct, frozen=True):
    """One source of settings: tables as TOML gives them, or tables of texts that are read by their key's kind."""

    name: LayerName
    values: Mapping[str, Any]
    is_text: bool = False
    is_trusted: bool = True
    """Whether it counts whole; a layer that does not may only tighten limits (`kernel.config_trust`)."""


class Leaf(NamedTuple):
    """One checked value; in `pattern`, `*` stands for a name of the user's."""

    path: Path
    pattern: Path
    value: object


class Table(NamedTuple):
    """The value of a leaf that says only that its table exists."""


class KnownKey(NamedTuple):
    """One key of the schema, for documents and suggestions; `*` stands for a name of the user's."""

    name: str
    expected: str
    default: object
    description: str


def from_environment(variables: Mapping[str, str]) -> Layer:
    """Return the layer of `HANDSHAKE_*` variables: `HANDSHAKE_CALLS__IDLE_MS` is `calls.idle_ms`.

    Raises:
        InvalidConfig: two variables contradict each other.
    """
    values: dict[str, Any] = {}
    for name in sorted(variables):
        if name.startswith(VARIABLE_PREFIX) and name not in RESERVED_VARIABLES:
            path = tuple(name.removeprefix(VARIABLE_PREFIX).lower().split("__"))
            _put(values, path, variables[name], LayerName.ENVIRONMENT)
    return Layer(LayerName.ENVIRONMENT, values, is_text=True)


def from_flags(assignments: Mapping[str, str]) -> Layer:
    """Return the layer of flags: dotted keys and their texts.

    Raises:
        InvalidConfig: two flags contradict each other.
    """
    values: dict[str, Any] = {}
    for key in sorted(assignments):
        _put(values, tuple(key.split(".")), assignments[key], LayerName.FLAG)
    return Layer(LayerName.FLAG, values, is_text=True)


def leaves(layer: Layer) -> Iterator[Leaf]:
    """Yield every value of `layer`, and a `Table` for every entry of a free table.

    Raises:
        InvalidConfig: a key is unknown, or a value of the wrong type or out of range.
    """
    return _leaves(layer, layer.values, plain(Settings), (), ())


def known_keys() -> tuple[KnownKey, ...]:
    """Return every key of the schema, in its order."""
    return tuple(_known(plain(Settings), ()))


def dotted(path: Path) -> str:
    """Return a key as TOML writes it: `providers.openai.models."gpt-4.1".context_window`."""
    return ".".join(part if _BARE.fullmatch(part) else f'"{part}"' for part in path)


def refuse(layer: LayerName, path: Path, reason: str, *, hint: str | None = None, **allowed: str) -> NoReturn:
    """Raise the error about one key of one layer, the key spelled as that layer spells it."""
    raise InvalidConfig(key=_spelled(path, layer), layer=layer.value, reason=reason, hint=hint, **allowed)


def _spelled(path: Path, layer: LayerName) -> str:
    return VARIABLE_PREFIX + "__".join(path).upper() if layer is LayerName.ENVIRONMENT else dotted(path)


def _put(values: dict[str, Any], path: Path, text: str, layer: LayerName) -> None:
    table = values
    for part in path[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            refuse(layer, path, "given_twice")
    if path[-1] in table:
        refuse(layer, path, "given_twice")
    table[path[-1]] = text


def _leaves(layer: Layer, given: object, kind: Type, path: Path, pattern: Path) -> Iterator[Leaf]:
    if not isinstance(given, Mapping):
        refuse(layer.name, path, "wrong_value", expected="a table")
    for key, value in given.items():
        if isinstance(kind, DictType):
            below, at, place = kind.value_type, (*path, str(key)), (*pattern, "*")
            _take(layer, key, kind.key_type, at)
        else:
            name, below = _field(layer, str(key), kind, path)
            at, place = (*path, name), (*pattern, name)
        inner = plain(below)
        if isinstance(inner, StructType | DictType):
            if place[-1] == "*":
                yield Leaf(at, place, Table())
            yield from _leaves(layer, value, inner, at, place)
        else:
            yield Leaf(at, place, _take(layer, value, below, at))


def _take(layer: Layer, value: object, kind: Type, path: Path) -> object:
    try:
        return read(value, kind, is_text=layer.is_text)
    except Unfit:
        refuse(layer.name, path, "wrong_value", expected=expectation(kind))


def _field(layer: Layer, word: str, kind: Type, path: Path) -> tuple[str, Type]:
    names = {field.encode_name: field.type for field in fields_of(kind)}
    if layer.is_text:
        word = next((name for name in names if name.lower() == word.lower()), word)
    if word not in names:
        refuse(layer.name, (*path, word), "unknown_key", hint=_instead(layer.name, (*path, word), names))
    return word, names[word]


def _instead(layer: LayerName, path: Path, siblings: Iterable[str]) -> str:
    """Return the hint for an unknown key: what was probably meant, else what there is."""
    paths = [tuple(key.name.split(".")) for key in known_keys()]
    if layer is LayerName.ENVIRONMENT:
        spelled = [_spelled(key, layer) for key in paths if "*" not in key]
        meant = suggest(_spelled(path, layer), (*spelled, *sorted(RESERVED_VARIABLES)))
    else:
        elsewhere = {key[-1]: ".".join(key) for key in reversed(paths)}
        near = suggest(path[-1], siblings)
        meant = elsewhere.get(path[-1]) or (dotted((*path[:-1], near)) if near else None)
        meant = meant or elsewhere.get(suggest(path[-1], elsewhere) or "")
    return f"Did you mean {meant}?" if meant else f"Known here: {', '.join(siblings)}."


def _known(kind: Type, path: Path) -> Iterator[KnownKey]:
    for field in fields_of(kind):
        here, below = (*path, field.encode_name), plain(field.type)
        default = None if field.required else field.default
        told = field.type
        if isinstance(below, DictType):
            here, told, default = (*here, "*"), below.value_type, None
            below = plain(told)
        if isinstance(below, StructType):
            yield from _known(below, here)
        else:
            yield KnownKey(".".join(here), expectation(told), default, purpose(field))
