"""Strict JSON: the one reader for JSON from outside, which refuses whatever two readers could understand differently.

The interpreter's own scanner does the reading, with checks hooked into it; only when something is refused is the text
walked a second time, to name the place. A place is a byte offset, because a JSON pointer would repeat content.

Source:
    03 §2 (inbound JSON); RFC 8259; RFC 7493 (I-JSON).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Literal, TypeAlias

from handshake.kernel.canonical import MAX_JSON_DEPTH
from handshake.kernel.errors import InvalidRequest, TooLarge
from handshake.kernel.units import MAX_SAFE_INTEGER

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
"""What JSON can hold."""

MAX_NUMBER_CHARS = 400
"""Longest number that is read: every finite double written out in full fits."""
MAX_PLACED_TOKENS = 100_000
"""Tokens that are walked to name the place of a fault: some 50 ms, and no more for a hostile text."""


def read_json(
    data: bytes,
    *,
    max_bytes: int,
    max_depth: int = MAX_JSON_DEPTH,
    integers: Literal["refuse", "keep"] = "refuse",
    field: str = "body",
) -> JsonValue:
    """Return the value of a JSON text in UTF-8, in time linear in its size.

    Args:
        data: the whole text.
        max_bytes: size limit in bytes.
        max_depth: nesting limit, at most `MAX_JSON_DEPTH`; a lone scalar has depth 0.
        integers: what happens to integers beyond ±(2^53−1): `refuse` them (own records), or `keep` them exact
            (client form, whose bytes are spliced and never written anew).
        field: what the errors call the text.

    Raises:
        TooLarge: more than `max_bytes`.
        InvalidRequest: `reason` is `utf8`, `bom`, `syntax` (also for data after the value, NaN and Infinity),
            `duplicate_key`, `lone_surrogate`, `too_deep`, `integer_range`, `not_finite` (too large for a double)
            or `number_length`; `at_byte` is the offset of the token at fault, or `after_byte` a lower bound of it
            where the walk to it would take too long. Never content.
    """
    if len(data) > max_bytes:
        raise TooLarge(field=field, size_bytes=len(data), limit_bytes=max_bytes)
    if data.startswith(_BOM):
        raise InvalidRequest(field=field, reason="bom", at_byte=0)
    limit = min(max_depth, MAX_JSON_DEPTH)
    keep = integers == "keep"
    try:
        text = data.decode()
    except UnicodeDecodeError as broken:
        refused = InvalidRequest(field=field, reason="utf8", at_byte=broken.start)
    else:
        try:
            return _read(data, text, max_depth=limit, keep=keep)
        except json.JSONDecodeError as broken:
            refused = InvalidRequest(field=field, reason="syntax", at_byte=_offset(text, broken.pos))
        except (_FaultError, RecursionError) as fault:
            reason = fault.reason if isinstance(fault, _FaultError) else "too_deep"
            refused = _placed(text, reason, field=field, max_depth=limit, keep=keep)
    # Raised here and not where it was made, so that no error with the text in it hangs on this one.
    raise refused


class _FaultError(Exception):
    """Well-formed JSON that is refused all the same."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


_BOM = b"\xef\xbb\xbf"
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def _read(data: bytes, text: str, *, max_depth: int, keep: bool) -> JsonValue:
    value: JsonValue = (_keeping if keep else _refusing).decode(text)
    if _nests_deeper(value, max_depth):
        raise _FaultError("too_deep")
    # Decoded UTF-8 holds no surrogate, so a lone one can only come from an escape; writing the value finds it.
    if _SURROGATE_ESCAPE.search(data):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise _FaultError("lone_surrogate") from None
    return value


# ── rules ──────────────────────────────────────────────────────────────────────────────────────────────────


def _members(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _FaultError("duplicate_key")
    return members


def _kept_integer(lexeme: str) -> int:
    if len(lexeme) > MAX_NUMBER_CHARS:
        raise _FaultError("number_length")
    return int(lexeme)


def _safe_integer(lexeme: str) -> int:
    value = _kept_integer(lexeme)
    if not -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
        raise _FaultError("integer_range")
    return value


def _double(lexeme: str) -> float:
    if len(lexeme) > MAX_NUMBER_CHARS:
        raise _FaultError("number_length")
    value = float(lexeme)
    if math.isinf(value):
        raise _FaultError("not_finite")
    return value


def _constant(_lexeme: str) -> None:
    raise _FaultError("syntax")


_refusing = json.JSONDecoder(
    object_pairs_hook=_members, parse_int=_safe_integer, parse_float=_double, parse_constant=_constant
)
_keeping = json.JSONDecoder(
    object_pairs_hook=_members, parse_int=_kept_integer, parse_float=_double, parse_constant=_constant
)


def _nests_deeper(value: JsonValue, max_depth: int) -> bool:
    level = _containers([value])
    for _ in range(max_depth):
        if not level:
            return False
        level = [
            inner for outer in level for inner in _containers(outer.values() if isinstance(outer, dict) else outer)
        ]
    return bool(level)


def _containers(values: Iterable[JsonValue]) -> list[dict[str, JsonValue] | list[JsonValue]]:
    return [value for value in values if isinstance(value, (dict, list))]


# ── places ─────────────────────────────────────────────────────────────────────────────────────────────────

_TOKEN = re.compile(
    r"""[ \t\n\r,:]*+(?:
        (?P<string>"(?:[^"\\]++|\\.)*+")(?P<is_name>[ \t\n\r]*+:)?+
      | (?P<opener>[\[{])
      | (?P<closer>[\]}])
      | (?P<scalar>[^ \t\n\r,:\[\]{}"]++)
    )""",
    re.VERBOSE | re.DOTALL,
)


def _placed(text: str, reason: str, *, field: str, max_depth: int, keep: bool) -> InvalidRequest:
    """Return the first fault in the order of the text, which need not be the one that the reader met first."""
    walk = _Walk(max_depth, keep=keep)
    position = 0
    for _ in range(MAX_PLACED_TOKENS):
        token = _TOKEN.match(text, position)
        if token is None:
            break
        try:
            walk.take(token)
        except _FaultError as fault:
            start = max(token.start(kind) for kind in ("string", "opener", "closer", "scalar"))
            return InvalidRequest(field=field, reason=fault.reason, at_byte=_offset(text, start))
        position = token.end()
    return InvalidRequest(field=field, reason=reason, after_byte=_offset(text, position))


class _Walk:
    """The names seen in each open array or object, token by token."""

    def __init__(self, max_depth: int, *, keep: bool) -> None:
        self._open: list[set[str]] = []
        self._max_depth = max_depth
        self._integer = _kept_integer if keep else _safe_integer

    def take(self, token: re.Match[str]) -> None:
        if token["string"] is not None:
            self._take_string(token["string"], is_name=token["is_name"] is not None)
        elif token["opener"] is not None:
            if len(self._open) == self._max_depth:
                raise _FaultError("too_deep")
            self._open.append(set())
        elif token["closer"] is not None:
            del self._open[-1:]
        else:
            self._take_scalar(token["scalar"])

    def _take_string(self, lexeme: str, *, is_name: bool) -> None:
        try:
            value: str = json.loads(lexeme)
        except json.JSONDecodeError:
            raise _FaultError("syntax") from None
        if _SURROGATE.search(value):
            raise _FaultError("lone_surrogate")
        if is_name and self._open:
            if value in self._open[-1]:
                raise _FaultError("duplicate_key")
            self._open[-1].add(value)

    def _take_scalar(self, lexeme: str) -> None:
        if lexeme in {"true", "false", "null"}:
            return
        if not _NUMBER.fullmatch(lexeme):
            raise _FaultError("syntax")
        if lexeme.lstrip("-").isdigit():
            self._integer(lexeme)
        else:
            _double(lexeme)


_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+")


def _offset(text: str, position: int) -> int:
    """Return the byte offset of a character."""
    return len(text[:position].encode())
