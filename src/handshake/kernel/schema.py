"""Schema: what kind of value a setting takes, read from the structs of `kernel.settings`."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec
from msgspec.inspect import (
    BoolType,
    EnumType,
    Field,
    IntType,
    Metadata,
    NoneType,
    StrType,
    StructType,
    Type,
    UnionType,
    VarTupleType,
)

MAX_TEXT_CHARS = 4_096
"""One value from a variable or flag."""
MAX_NUMBER_CHARS = 40
"""One number: the largest bound of a setting has 13 digits."""

_NUMBER = re.compile("-?[0-9]+([.][0-9]+)?", re.ASCII)


class Unfit(Exception):
    """The value is not of the kind; it says nothing about the value, which may be a secret."""


def fields_of(kind: Type) -> tuple[Field, ...]:
    """Return the keys of a table."""
    return kind.fields if isinstance(kind, StructType) else ()


def purpose(field: Field) -> str:
    """Return what a key is for."""
    return str((field.type.extra_json_schema or {}).get("description", "")) if isinstance(field.type, Metadata) else ""


@cache
def _inspected(schema: type[msgspec.Struct]) -> Type:
    return msgspec.inspect.type_info(schema)


def plain(kind: Any) -> Type:
    """Return the kind itself, without what is said about it and without the None of an optional key."""
    if isinstance(kind, type):
        return _inspected(kind)
    return _parted(kind)[0]


def expectation(kind: Type) -> str:
    """Return in words what values a key takes."""
    inner, notes = _parted(kind)
    if "expected" in notes:
        return str(notes["expected"])
    if "decimal_places" in notes and isinstance(inner, IntType):
        places = int(notes["decimal_places"])
        return f"a decimal from 0 to {int(inner.le or 0) // 10**places} with at most {places} places"
    if isinstance(inner, IntType):
        return f"a whole number from {inner.ge} to {inner.le}"
    if isinstance(inner, StrType):
        return f"one line of {inner.min_length} to {inner.max_length} characters"
    if isinstance(inner, EnumType):
        return f"one of {', '.join(member.value for member in inner.cls)}"
    if isinstance(inner, VarTupleType):
        return f"a list of {inner.min_length} to {inner.max_length} of: {expectation(inner.item_type)}"
    return "true or false" if isinstance(inner, BoolType) else "a table"


def read(value: object, kind: Type, *, is_text: bool = False) -> object:
    """Return `value` as the plain data that the schema's struct takes.

    Args:
        value: what a layer holds.
        kind: what the schema expects.
        is_text: whether numbers, booleans and lists come as text (lists with commas).

    Raises:
        Unfit: wrong type, or out of range.
    """
    inner, notes = _parted(kind)
    if is_text:
        value = _from_text(value, inner, is_decimal="decimal_places" in notes)
    if isinstance(inner, VarTupleType):
        return _list(value, inner)
    if "decimal_places" in notes:
        value = _scaled(value, int(notes["decimal_places"]))
    return _READERS[type(inner)](value, inner)


def _parted(kind: Type) -> tuple[Type, dict[str, Any]]:
    notes: dict[str, Any] = {}
    while isinstance(kind, Metadata | UnionType):
        if isinstance(kind, Metadata):
            notes = {**(kind.extra or {}), **notes}
            kind = kind.type
        else:
            kind = next(one for one in kind.types if not isinstance(one, NoneType))
    return kind, notes


def _from_text(text: object, kind: Type, *, is_decimal: bool) -> object:
    """Return what TOML would give for the same value."""
    if not isinstance(text, str) or len(text) > MAX_TEXT_CHARS:
        raise Unfit
    if isinstance(kind, VarTupleType):
        return [part.strip() for part in text.split(",")]
    if isinstance(kind, BoolType):
        return {"true": True, "false": False}.get(text)
    if not isinstance(kind, IntType):
        return text
    if len(text) > MAX_NUMBER_CHARS or not _NUMBER.fullmatch(text):
        raise Unfit
    return Decimal(text) if is_decimal else int(text) if text.lstrip("-").isdecimal() else None


def _scaled(value: object, places: int) -> int:
    """Return a decimal as a whole number of its smallest unit, exactly."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise Unfit
    sign, digits, exponent = Decimal(value).as_tuple()
    if not isinstance(exponent, int) or abs(exponent) > MAX_NUMBER_CHARS or len(digits) > MAX_NUMBER_CHARS:
        raise Unfit
    shift = exponent + places
    units, rest = divmod(int("".join(map(str, digits))) * 10 ** max(shift, 0), 10 ** max(-shift, 0))
    if rest:
        raise Unfit
    return int(-units if sign else units)


def _integer(value: object, kind: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not kind.ge <= value <= kind.le:
        raise Unfit
    return value


def _boolean(value: object, _kind: Any) -> bool:
    if not isinstance(value, bool):
        raise Unfit
    return value


def _string(value: object, kind: Any) -> str:
    if not isinstance(value, str) or not kind.min_length <= len(value) <= kind.max_length:
        raise Unfit
    if not value.isprintable() or (kind.pattern is not None and not re.fullmatch(kind.pattern, value)):
        raise Unfit
    return value


def _word(value: object, kind: Any) -> str:
    try:
        return str(kind.cls(value).value)
    except ValueError:
        raise Unfit from None


def _list(value: object, kind: VarTupleType) -> list[object]:
    if not isinstance(value, list | tuple) or not (kind.min_length or 0) <= len(value) <= (kind.max_length or 0):
        raise Unfit
    items = [read(item, kind.item_type) for item in value]
    if len(set(items)) < len(items):
        raise Unfit
    return items


_READERS: dict[type[Type], Callable[[object, Any], object]] = {
    IntType: _integer,
    BoolType: _boolean,
    StrType: _string,
    EnumType: _word,
}
