"""Shapes: patterned text, checked once per value instead of once per record.

The same ids stand in many events. Matching a pattern costs more than all the rest of decoding a record, so a
record type is split in two: the same type without patterns, for the decoder, and the list of its patterned
fields, whose values are matched through a memo.
"""

from __future__ import annotations

import re
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec

MEMO_VALUES = 16_384
"""Values remembered: the ids of some hundred sessions with work in progress."""


class Patterned(NamedTuple):
    """A field whose text must match a pattern."""

    name: str
    pattern: str


@lru_cache(maxsize=MEMO_VALUES)
def matches(text: str, pattern: str) -> bool:
    """Return whether the whole of `text` matches `pattern`; anything but text raises TypeError."""
    return re.fullmatch(pattern, text) is not None


def patterned(record: type[msgspec.Struct]) -> tuple[Patterned, ...]:
    """Return the fields of `record` that are text with a pattern, or such text or None."""
    found = []
    for name, kind in get_type_hints(record, include_extras=True).items():
        pattern = _pattern_of(_without_none(kind))
        if pattern is not None:
            found.append(Patterned(name, pattern))
    return tuple(found)


def without_patterns(record: type[msgspec.Struct], *, bases: tuple[type[msgspec.Struct], ...]) -> type[msgspec.Struct]:
    """Return a type like `record` but for the patterns of its own fields; it derives from `bases`."""
    hints = get_type_hints(record, include_extras=True)
    fields: list[Any] = []
    for field in msgspec.structs.fields(record):
        kind = _plain(hints[field.name])
        options: dict[str, Any] = {"name": field.encode_name}
        if field.default is not msgspec.NODEFAULT:
            options["default"] = field.default
        fields.append((field.name, kind, msgspec.field(**options)))
    return msgspec.defstruct(
        record.__name__, fields, bases=bases, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
    )


def _plain(kind: Any) -> Any:
    if get_origin(kind) in (Union, UnionType):
        return Union[tuple(_plain(part) for part in get_args(kind))]  # noqa: UP007  (built at run time)
    meta = _meta_of(kind)
    if meta is None or meta.pattern is None:
        return kind
    return Annotated[str, msgspec.Meta(min_length=meta.min_length, max_length=meta.max_length)]


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, UnionType):
        parts = [part for part in get_args(kind) if part is not NoneType]
        return parts[0] if len(parts) == 1 else None
    return kind


def _pattern_of(kind: Any) -> str | None:
    meta = _meta_of(kind)
    return None if meta is None else meta.pattern


def _meta_of(kind: Any) -> msgspec.Meta | None:
    if get_origin(kind) is not Annotated:
        return None
    text, *metas = get_args(kind)
    if text is not str:
        return None
    return next((meta for meta in metas if isinstance(meta, msgspec.Meta)), None)
