"""Laws of strict JSON: the reader takes exactly what a slow one, written from the rules, takes, and reads the same."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handshake.kernel.errors import InvalidRequest
from handshake.kernel.strict_json import JsonValue, read_json
from handshake.kernel.units import MAX_SAFE_INTEGER

PLENTY = 1_000_000
DEPTH = 4


class NotStrictError(Exception):
    """What the slow reader below refuses."""


class SlowReader:
    """RFC 8259 read letter by letter, with the rules of 03 §2: nothing here is shared with the reader under test."""

    def __init__(self, data: bytes, *, keep: bool) -> None:
        try:
            self.text = data.decode("utf-8", "strict")
        except UnicodeDecodeError:
            raise NotStrictError from None
        self.at = 0
        self.keep = keep

    def read(self) -> JsonValue:
        value = self.value(0)
        if self.at != len(self.text):
            raise NotStrictError
        return value

    def value(self, depth: int) -> JsonValue:
        self.space()
        first = self.text[self.at : self.at + 1]
        if first == "{":
            value: JsonValue = dict(self.members(depth + 1))
        elif first == "[":
            value = self.items(depth + 1)
        elif first == '"':
            value = self.string()
        else:
            value = self.word()
        self.space()
        return value

    def space(self) -> None:
        while self.text[self.at : self.at + 1] in {" ", "\t", "\n", "\r"}:
            self.at += 1

    def take(self, mark: str) -> bool:
        if not self.text.startswith(mark, self.at):
            return False
        self.at += len(mark)
        return True

    def items(self, depth: int) -> list[JsonValue]:
        self.enter("[", depth)
        found: list[JsonValue] = []
        if self.take("]"):
            return found
        while True:
            found.append(self.value(depth))
            if self.take("]"):
                return found
            if not self.take(","):
                raise NotStrictError

    def members(self, depth: int) -> dict[str, JsonValue]:
        self.enter("{", depth)
        found: dict[str, JsonValue] = {}
        if self.take("}"):
            return found
        while True:
            self.space()
            name = self.string()
            self.space()
            if name in found or not self.take(":"):
                raise NotStrictError
            found[name] = self.value(depth)
            if self.take("}"):
                return found
            if not self.take(","):
                raise NotStrictError

    def enter(self, mark: str, depth: int) -> None:
        if depth > DEPTH or not self.take(mark):
            raise NotStrictError
        self.space()

    def string(self) -> str:
        if not self.take('"'):
            raise NotStrictError
        units: list[int] = []  # UTF-16, so that pairs join by themselves
        while not self.take('"'):
            one = self.text[self.at : self.at + 1]
            self.at += 1
            if one < " ":
                raise NotStrictError
            packed = (self.escape() if one == "\\" else one).encode("utf-16-be", "surrogatepass")
            units += packed
        try:
            return bytes(units).decode("utf-16-be")
        except UnicodeDecodeError:
            raise NotStrictError from None

    def escape(self) -> str:
        one = self.text[self.at : self.at + 1]
        self.at += 1
        if one == "u":
            digits = self.text[self.at : self.at + 4]
            if re.fullmatch("[0-9a-fA-F]{4}", digits) is None:
                raise NotStrictError
            self.at += 4
            return chr(int(digits, 16))
        known = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
        if one not in known:
            raise NotStrictError
        return known[one]

    def word(self) -> JsonValue:
        words: dict[str, JsonValue] = {"true": True, "false": False, "null": None}
        for word, value in words.items():
            if self.take(word):
                return value
        number = re.compile(r"(-?(?:0|[1-9][0-9]*))(\.[0-9]+)?([eE][+-]?[0-9]+)?").match(self.text, self.at)
        if number is None:
            raise NotStrictError
        self.at = number.end()
        if number[2] or number[3]:
            double = float(number[0])
            if double in {float("inf"), float("-inf")}:
                raise NotStrictError
            return double
        if not self.keep and abs(int(number[0])) > MAX_SAFE_INTEGER:
            raise NotStrictError
        return int(number[0])


LETTERS = [b" ", b"\n", b"\x00", b"\x7f", b"\xc3\xa9", b"\xe2\x80\xa8", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf"]
WORDS = rb"""
    { } [ ] [[ ]] , : " "a" "b": "a":1 {"a":0,"a":1} "\u0061": \ \u \ud83d \ude00 \\ud83d "\ud83d\ude00" "\n" true null
    NaN -Infinity 0 - -0 01 1. 1.5 1e5 1E+400 1e-400 9007199254740991 9007199254740992 -9007199254740992
""".split()
PIECES = st.sampled_from(LETTERS + WORDS)
SOUP = st.lists(PIECES, max_size=12).map(b"".join)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=10,
)


@st.composite
def nearly_json(draw: st.DrawFn) -> bytes:
    """Return the text of a value, as some writer spells it, with pieces put in or taken out at a few places."""
    value = draw(VALUES)
    spelt = json.dumps(value, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1])))
    data = spelt.encode()
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.just(b"") | PIECES) + data[at + draw(st.integers(0, 2)) :]
    return data


@settings(max_examples=1_000)
@given(SOUP | nearly_json(), st.booleans())
def test_reader_accepts_and_returns_what_the_slow_reader_does(data: bytes, keep: bool) -> None:
    try:
        expected = SlowReader(data, keep=keep).read()
    except NotStrictError:
        with pytest.raises(InvalidRequest):
            read_json(data, max_bytes=PLENTY, max_depth=DEPTH, integers="keep" if keep else "refuse")
    else:
        value = read_json(data, max_bytes=PLENTY, max_depth=DEPTH, integers="keep" if keep else "refuse")
        assert repr(value) == repr(expected)


@given(SOUP | nearly_json())
def test_place_of_a_fault_lies_in_the_text(data: bytes) -> None:
    try:
        read_json(data, max_bytes=PLENTY, max_depth=DEPTH)
    except InvalidRequest as refused:
        place = refused.context.get("at_byte", refused.context.get("after_byte"))
        assert isinstance(place, int)
        assert 0 <= place <= len(data)
