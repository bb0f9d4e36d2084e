"""Canonical JSON: the one byte form of our own records and outbound bodies, and which records may take the short way.

The library `rfc8785` is the definition. It writes the floats here; everything else is written a faster way, and
property tests hold that way, and the still faster one of `record_bytes`, to the definition.

Source:
    RFC 8785; 03 §2; design/dependencies (canonical JSON).
"""

from __future__ import annotations

import functools
import math
import unicodedata
from collections.abc import Callable
from enum import Enum
from typing import Any

import msgspec
import rfc8785
from msgspec import inspect

from handshake.kernel.errors import InvalidRequest
from handshake.kernel.units import MAX_SAFE_INTEGER

MAX_JSON_DEPTH = 128
"""Deepest nesting of arrays and objects that is read or written; a lone scalar has depth 0."""


class Ordered(dict[str, Any]):
    """A JSON object that keeps the order of its members, as do all objects inside it: a JSON-Schema value (03 §2)."""


def canonical(value: object, *, floats: bool = False) -> bytes:
    """Return the canonical bytes of an own record: RFC 8785 over strings and member names in NFC.

    Args:
        value: None, bool, int within ±(2^53−1), str, list, tuple, or dict with string names.
        floats: allow finite floats; only for the canonical hash of an outbound body, which is not our record.

    Raises:
        InvalidRequest: field `record`; reason `float`, `not_finite`, `integer_range`, `lone_surrogate`,
            `duplicate_key` (also if names are equal only after NFC), `key_type`, `type` or `too_deep`.
    """
    return _written(_normalised(value, MAX_JSON_DEPTH, floats=floats))


def canonical_body(value: object) -> bytes:
    """Return the bytes of an outbound body in runtime form: RFC 8785 with strings unchanged and `Ordered` kept.

    Raises:
        InvalidRequest: as `canonical`, but finite floats are allowed.
    """
    return _written(value)


def record_bytes(record: msgspec.Struct) -> bytes:
    """Return `canonical` of a record of a provable type, faster; defaults that the type omits stay omitted.

    Raises:
        InvalidRequest: reason `not_its_type`: a value does not fit its field, or holds a lone surrogate.
        TypeError: the type is not provable.
    """
    kind = type(record)
    fits = _fits(kind)
    try:
        encoded = _encode_sorted(record)
        # A normalised text has only normalised parts. The reverse does not hold: an escape's last letter may seem to
        # join a combining mark after it. So what is not normalised as a whole is done string by string.
        if not encoded.isascii() and not unicodedata.is_normalized("NFC", encoded.decode()):
            encoded = canonical(msgspec.json.decode(encoded))
        fits(encoded)
    except (msgspec.MsgspecError, UnicodeEncodeError, OverflowError, RecursionError, TypeError):
        raise InvalidRequest(field="record", reason="not_its_type", record=kind.__name__) from None
    return encoded


def is_provable(record: type[msgspec.Struct]) -> bool:
    """Return whether `record_bytes` takes records of this type."""
    return _doubt(inspect.type_info(record), set(), declared_order=False) is None


def require_provable(record: type[msgspec.Struct], *, declared_order: bool = False) -> None:
    """Refuse a record type whose plain encoding could differ from its canonical bytes; for use at registration.

    Provable is a frozen struct that forbids unknown fields, has no tag, is no array, has ASCII identifiers as
    names, and whose fields are strings, string enums, bools, None, integers bounded within ±(2^53−1), provable
    structs, arrays of these, or unions of these: no float, no free dict, nothing that encodes itself.

    Args:
        record: the type.
        declared_order: also demand that fields are declared in sorted order at every level, so that an encoder
            that does not sort gives the same bytes.

    Raises:
        TypeError: it is not provable; the message names the type and the reason.
    """
    doubt = _doubt(inspect.type_info(record), set(), declared_order=declared_order)
    if doubt is not None:
        raise TypeError(f"{record.__name__} has no proved encoding: {doubt}")


# ── the definition ─────────────────────────────────────────────────────────────────────────────────────────


def _refused(reason: str) -> InvalidRequest:
    return InvalidRequest(field="record", reason=reason)


_encode = msgspec.json.Encoder().encode
_WORDS = {None: b"null", True: b"true", False: b"false"}


def _nfc(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _normalised(value: object, depth: int, *, floats: bool) -> object:
    if isinstance(value, str):
        return _nfc(value)
    if isinstance(value, dict):
        inside = _deeper(depth)
        members: dict[str, object] = {}
        for name, member in value.items():
            known = _nfc(_name(name))
            if known in members:
                raise _refused("duplicate_key")
            members[known] = _normalised(member, inside, floats=floats)
        return members
    if isinstance(value, (list, tuple)):
        inside = _deeper(depth)
        return [_normalised(item, inside, floats=floats) for item in value]
    if isinstance(value, float) and not floats:
        raise _refused("float")
    return value


def _written(value: object) -> bytes:
    out: list[bytes] = []
    _write(value, out, depth=MAX_JSON_DEPTH, ordered=False)
    return b"".join(out)


def _write(value: object, out: list[bytes], *, depth: int, ordered: bool) -> None:
    if isinstance(value, dict):
        inside = _deeper(depth)
        ordered = ordered or isinstance(value, Ordered)
        names = [_name(name) for name in value]
        if not ordered:
            names.sort(key=_utf16)
        mark = b"{"
        for name in names:
            out += (mark, _text(name), b":")
            _write(value[name], out, depth=inside, ordered=ordered)
            mark = b","
        out.append(b"}" if names else b"{}")
    elif isinstance(value, (list, tuple)):
        inside = _deeper(depth)
        mark = b"["
        for item in value:
            out.append(mark)
            _write(item, out, depth=inside, ordered=ordered)
            mark = b","
        out.append(b"]" if value else b"[]")
    else:
        out.append(_scalar(value))


def _scalar(value: object) -> bytes:
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool):
        return _WORDS[value]
    if isinstance(value, int):
        if not -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
            raise _refused("integer_range")
        return b"%d" % value
    if not isinstance(value, float):
        raise _refused("type")
    if not math.isfinite(value):
        raise _refused("not_finite")
    return rfc8785.dumps(value)


def _text(value: str) -> bytes:
    try:
        return _encode(str.__str__(value))
    except UnicodeEncodeError:
        raise _refused("lone_surrogate") from None


def _deeper(depth: int) -> int:
    if depth == 0:
        raise _refused("too_deep")
    return depth - 1


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise _refused("key_type")
    return name


def _utf16(name: str) -> bytes:
    try:
        return name.encode("utf-16be")
    except UnicodeEncodeError:
        raise _refused("lone_surrogate") from None


# ── the short way, and for which types it is proved ────────────────────────────────────────────────────────

_encode_sorted = msgspec.json.Encoder(order="sorted").encode


@functools.cache
def _fits(record: type[msgspec.Struct]) -> Callable[[bytes], msgspec.Struct]:
    """Return the check that bytes are of the type: constructing a struct checks nothing, decoding everything."""
    require_provable(record)
    return msgspec.json.Decoder(record).decode


def _doubt(kind: inspect.Type, seen: set[type], *, declared_order: bool) -> str | None:
    """Return why values of a type may have another encoding than the canonical one, or None."""
    if isinstance(kind, inspect.StructType):
        if kind.cls in seen:
            return None
        seen.add(kind.cls)
        doubt = _doubt_of_struct(kind, declared_order=declared_order)
        inside = [field.type for field in kind.fields]
    else:
        doubt = _doubt_of_leaf(kind)
        inside = _parts(kind)
    if doubt is not None:
        return doubt
    doubts = (_doubt(part, seen, declared_order=declared_order) for part in inside)
    return next((found for found in doubts if found is not None), None)


def _doubt_of_struct(kind: inspect.StructType, *, declared_order: bool) -> str | None:
    names = [field.encode_name for field in kind.fields]
    rules = (
        (kind.cls.__struct_config__.frozen, "is not frozen"),
        (kind.forbid_unknown_fields, "accepts unknown fields"),
        (kind.tag is None, "has a tag"),
        (not kind.array_like, "is an array"),
        (all(name.isascii() and name.isidentifier() for name in names), "has a name that is no ASCII identifier"),
        (not declared_order or names == sorted(names), "declares its fields in another order than the sorted one"),
    )
    return next((f"{kind.cls.__name__} {fault}" for holds, fault in rules if not holds), None)


def _doubt_of_leaf(kind: inspect.Type) -> str | None:
    if isinstance(kind, inspect.IntType):
        return None if _is_bounded(kind) else "an integer has no bounds within ±(2^53−1)"
    if isinstance(kind, inspect.EnumType):
        return None if _are_plain(member.value for member in kind.cls) else "an enum has members other than strings"
    if isinstance(kind, inspect.LiteralType):
        return None if _are_plain(kind.values) else "a literal has values other than strings"
    plain = (inspect.StrType, inspect.BoolType, inspect.NoneType)
    if isinstance(kind, plain) or _parts(kind):
        return None
    return f"{type(kind).__name__} is not allowed"


def _parts(kind: inspect.Type) -> list[inspect.Type]:
    if isinstance(kind, (inspect.ListType, inspect.VarTupleType)):
        return [kind.item_type]
    if isinstance(kind, inspect.TupleType):
        return list(kind.item_types)
    if isinstance(kind, inspect.Metadata):
        return [kind.type]
    return list(kind.types) if isinstance(kind, inspect.UnionType) else []


def _is_bounded(kind: inspect.IntType) -> bool:
    bounds = (kind.gt if kind.ge is None else kind.ge, kind.lt if kind.le is None else kind.le)
    return all(bound is not None and abs(bound) <= MAX_SAFE_INTEGER for bound in bounds)


def _are_plain(values: Any) -> bool:
    return all(isinstance(value, str) and not isinstance(value, Enum) for value in values)
