"""Shapes: patterned text, checked for a whole record at once.

Matching a pattern costs more than all the rest of decoding a record, so a record type is split in two: the same
type without patterns, for the decoder, and the list of its patterned fields. Ids and hashes, which are most of these
and always new, are compared with their form all together; words, of which there are few, are matched through a memo.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec

MEMO_VALUES = 16_384
"""Words remembered: more than all vocabularies hold."""

_UUID_FORM = b"00000000-0000-0000-0000-000000000000"
_HEX = b"0123456789abcdef"
_DIGITS_TO_ZERO = bytes.maketrans(b"123456789abcdef", b"000000000000000")


class Patterned(NamedTuple):
    """A field whose text must match a pattern."""

    name: str
    pattern: str


@lru_cache(maxsize=MEMO_VALUES)
def matches(text: str | None, pattern: str) -> bool:
    """Return whether `text` is None or the whole of it matches `pattern`; anything but text raises TypeError."""
    return text is None or re.fullmatch(pattern, text) is not None


def are_uuids(texts: Iterable[str | None]) -> bool:
    """Return whether all `texts` but None, each of which must have 36 characters, are UUIDs in lower-case form.

    Raises:
        TypeError, UnicodeEncodeError: one is no text, or not ASCII.
    """
    joined = "".join(filter(None, texts)).encode("ascii")
    return joined.translate(_DIGITS_TO_ZERO) == _UUID_FORM * (len(joined) // len(_UUID_FORM))


def are_hex(texts: Iterable[str | None]) -> bool:
    """Return whether all `texts` but None are lower-case hex; anything but ASCII text raises as in `are_uuids`."""
    joined = "".join(filter(None, texts)).encode("ascii")
    return not joined.translate(None, _HEX)


def patterned(record: type[msgspec.Struct]) -> tuple[Patterned, ...]:
    """Return the fields of `record` that are text with a pattern, or such text or None."""
    found = []
    for name, kind in get_type_hints(record, include_extras=True).items():
        meta = _meta_of(_without_none(kind))
        if meta is not None and meta.pattern is not None:
            if not meta.min_length:
                raise TypeError(f"{record.__name__}.{name}: a patterned text has a least length")
            found.append(Patterned(name, meta.pattern))
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


def _meta_of(kind: Any) -> msgspec.Meta | None:
    if get_origin(kind) is not Annotated:
        return None
    text, *metas = get_args(kind)
    if text is not str:
        return None
    return next((meta for meta in metas if isinstance(meta, msgspec.Meta)), None)
