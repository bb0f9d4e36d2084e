"""Canonical JSON: the published examples of RFC 8785, what own records refuse, and which record types are proved."""

from __future__ import annotations

import struct
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from handshake.kernel.canonical import (
    MAX_JSON_DEPTH,
    Ordered,
    canonical,
    canonical_body,
    is_provable,
    record_bytes,
    require_provable,
)
from handshake.kernel.catalogue import registry
from handshake.kernel.errors import InvalidRequest
from handshake.kernel.fields import Count, Id, Name, Sha256, Timestamp, Token, Usd
from handshake.kernel.units import MAX_SAFE_INTEGER


def refused(value: object, **options: Any) -> str:
    with pytest.raises(InvalidRequest) as caught:
        canonical(value, **options)
    assert set(caught.value.context) == {"field", "reason"}
    return str(caught.value.context["reason"])


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


# ── RFC 8785 ───────────────────────────────────────────────────────────────────────────────────────────────


def test_literals_are_written_as_in_section_3_2_2() -> None:
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "€$\u000f\u000aA'\u0042\u0022\u005c\\\"\u002f",
        "literals": [None, True, False],
    }
    assert canonical_body(value) == (
        b'{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        b'"string":"\xe2\x82\xac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


SORTED_IN_SECTION_3_2_3 = {
    "€": "Euro Sign",
    "\r": "Carriage Return",
    "\ufb33": "Hebrew Letter Dalet With Dagesh",
    "1": "One",
    "\U0001f600": "Emoji: Grinning Face",
    "\u0080": "Control",
    "ö": "Latin Small Letter O With Diaeresis",
}


def test_names_are_sorted_as_in_section_3_2_3() -> None:
    written = msgspec.json.decode(canonical_body(SORTED_IN_SECTION_3_2_3))
    assert list(written) == ["\r", "1", "\u0080", "ö", "€", "\U0001f600", "\ufb33"]


def test_own_records_sort_after_normalising() -> None:
    written = msgspec.json.decode(canonical(SORTED_IN_SECTION_3_2_3))
    assert list(written) == ["\r", "1", "\u0080", "ö", "\u05d3\u05bc", "€", "\U0001f600"]


@pytest.mark.parametrize(
    ("bits", "written"),
    [
        ("0000000000000000", "0"),
        ("8000000000000000", "0"),
        ("0000000000000001", "5e-324"),
        ("8000000000000001", "-5e-324"),
        ("7fefffffffffffff", "1.7976931348623157e+308"),
        ("ffefffffffffffff", "-1.7976931348623157e+308"),
        ("4340000000000000", "9007199254740992"),
        ("c340000000000000", "-9007199254740992"),
        ("4430000000000000", "295147905179352830000"),
        ("44b52d02c7e14af5", "9.999999999999997e+22"),
        ("44b52d02c7e14af6", "1e+23"),
        ("44b52d02c7e14af7", "1.0000000000000001e+23"),
        ("444b1ae4d6e2ef4e", "999999999999999700000"),
        ("444b1ae4d6e2ef4f", "999999999999999900000"),
        ("444b1ae4d6e2ef50", "1e+21"),
        ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("3eb0c6f7a0b5ed8d", "0.000001"),
        ("41b3de4355555553", "333333333.3333332"),
        ("41b3de4355555554", "333333333.33333325"),
        ("41b3de4355555555", "333333333.3333333"),
        ("41b3de4355555556", "333333333.3333334"),
        ("41b3de4355555557", "333333333.33333343"),
        ("becbf647612f3696", "-0.0000033333333333333333"),
        ("43143ff3c1cb0959", "1424953923781206.2"),
    ],
)
def test_doubles_are_written_as_in_appendix_b(bits: str, written: str) -> None:
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical_body([value]) == f"[{written}]".encode()


# ── own records ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (1.5, "float"),
        ({"a": [float("nan")]}, "float"),
        (MAX_SAFE_INTEGER + 1, "integer_range"),
        (-MAX_SAFE_INTEGER - 1, "integer_range"),
        ("a\ud800", "lone_surrogate"),
        ({"\udfff": 1}, "lone_surrogate"),
        ({"\udfff": 1, "b": 2}, "lone_surrogate"),
        ({1: 2}, "key_type"),
        ({"é": 1, "e\u0301": 2}, "duplicate_key"),
        (b"bytes", "type"),
        ({"a": {1, 2}}, "type"),
        (nested(MAX_JSON_DEPTH + 1), "too_deep"),
    ],
)
def test_own_record_refuses(value: object, reason: str) -> None:
    assert refused(value) == reason


def test_bounds_themselves_are_allowed() -> None:
    assert canonical([MAX_SAFE_INTEGER, -MAX_SAFE_INTEGER]) == b"[9007199254740991,-9007199254740991]"
    assert canonical(nested(MAX_JSON_DEPTH)) == b"[" * MAX_JSON_DEPTH + b"1" + b"]" * MAX_JSON_DEPTH


def test_strings_and_names_are_normalised() -> None:
    assert canonical({"e\u0301": ["e\u0301", ("\u212b",)]}) == '{"é":["é",["Å"]]}'.encode()


def test_canonical_hash_of_a_body_may_hold_floats() -> None:
    assert canonical({"temperature": 0.70, "n": 1.0}, floats=True) == b'{"n":1,"temperature":0.7}'
    assert refused([float("inf")], floats=True) == "not_finite"


def test_enum_counts_as_its_value() -> None:
    assert canonical({Colour.RED: Colour.RED, "n": Level.HIGH}) == b'{"n":9,"red":"red"}'
    assert refused(Plain.A) == "type"


# ── outbound bodies ────────────────────────────────────────────────────────────────────────────────────────


def test_body_leaves_strings_as_they_are() -> None:
    assert canonical_body({"b": "e\u0301", "a": "é"}) == '{"a":"é","b":"e\u0301"}'.encode()


def test_body_keeps_the_order_inside_schemas_only() -> None:
    schema = Ordered(
        type="object", properties={"zoo": {"type": "string", "maxLength": 3}, "ant": {}}, allOf=[{"b": 1, "a": 2}]
    )
    body = {"tools": [{"name": "t", "function": {"parameters": schema, "description": ""}}], "model": "m"}
    assert canonical_body(body) == (
        b'{"model":"m","tools":[{"function":{"description":"","parameters":{"type":"object","properties":'
        b'{"zoo":{"type":"string","maxLength":3},"ant":{}},"allOf":[{"b":1,"a":2}]}},"name":"t"}]}'
    )


def test_canonical_form_of_a_body_sorts_schemas_too() -> None:
    assert canonical({"schema": Ordered(b=1, a=Ordered(d=1, c=2))}) == b'{"schema":{"a":{"c":2,"d":1},"b":1}}'


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("-inf"), "not_finite"),
        (2**53, "integer_range"),
        (["\udc00"], "lone_surrogate"),
        ({"\udc00": 1}, "lone_surrogate"),
        (Ordered({"\udc00": 1}), "lone_surrogate"),
        ({None: 1}, "key_type"),
        (object(), "type"),
        (nested(MAX_JSON_DEPTH + 1), "too_deep"),
    ],
)
def test_body_refuses(value: object, reason: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        canonical_body(value)
    assert caught.value.context == {"field": "record", "reason": reason}


# ── record types ───────────────────────────────────────────────────────────────────────────────────────────


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 9


class Plain(Enum):
    A = "a"


class Inner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    b: Count
    a: Name | None = None


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename={"kind": "type"}):
    zone: Token
    kind: Colour
    at: Timestamp
    cost: Usd
    id: Id
    signed: Annotated[int, Meta(ge=-5, lt=5)]
    flag: bool = False
    word: Literal["some", "more"] | None = None
    inner: Inner | None = None
    others: tuple[Inner, ...] = ()
    pair: tuple[Name, Count] | None = None
    hashes: list[Sha256] = msgspec.field(default_factory=list)


def record(**changed: Any) -> Record:
    given: dict[str, Any] = {
        "zone": "z.1",
        "kind": Colour.RED,
        "at": "2026-01-02T03:04:05.000006Z",
        "cost": "0.000001",
        "id": "01890000-0000-7000-8000-000000000001",
        "signed": -5,
    }
    return Record(**(given | changed))


def test_record_of_a_provable_type_has_canonical_bytes() -> None:
    one = record(flag=True, word="more", inner=Inner(1, "e\u0301\n\u0303"), others=(Inner(2),), pair=("ﬁ", 3))
    assert record_bytes(one) == canonical(msgspec.to_builtins(one))
    assert b'"others":[{"a":null,"b":2}],"pair":["\xef\xac\x81",3]' in record_bytes(one)
    assert record_bytes(record()) == canonical(msgspec.to_builtins(record()))


def test_escape_before_a_combining_mark_stays_an_escape() -> None:
    assert record_bytes(Inner(0, "\n\u0303e\u0301")) == '{"a":"\\n\u0303é","b":0}'.encode()


@pytest.mark.parametrize(
    "changed",
    [
        {"signed": 5},
        {"signed": 2**64},
        {"signed": 1.0},
        {"signed": True},
        {"cost": 1},
        {"zone": "a\ud800"},
        {"zone": "two\nlines"},
        {"inner": Inner(-1)},
        {"inner": Inner(2**53)},
        {"pair": ("a",)},
        {"others": (msgspec.structs.replace(Inner(1), a="x" * 201),)},
        {"flag": object()},
    ],
)
def test_record_with_a_value_that_is_not_of_its_field_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        record_bytes(record(**changed))
    assert caught.value.context == {"field": "record", "reason": "not_its_type", "record": "Record"}


def test_field_cannot_smuggle_a_larger_record() -> None:
    class Wider(Inner, frozen=True, forbid_unknown_fields=True):
        share: float = 0.5

    with pytest.raises(InvalidRequest):
        record_bytes(record(inner=Wider(1)))


class Tree(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    parts: tuple[Tree, ...] = ()


def test_recursive_type_is_provable() -> None:
    require_provable(Tree)
    assert record_bytes(Tree("a", (Tree("b"),))) == b'{"name":"a","parts":[{"name":"b","parts":[]}]}'


def one_field(kind: Any, **options: Any) -> type[msgspec.Struct]:
    settings = {"frozen": True, "forbid_unknown_fields": True} | options
    return msgspec.defstruct("One", [("field", kind)], **settings)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (one_field(int), "an integer has no bounds"),
        (one_field(Annotated[int, Meta(ge=0)]), "an integer has no bounds"),
        (one_field(Annotated[int, Meta(ge=0, le=2**53)]), "an integer has no bounds"),
        (one_field(float), "FloatType is not allowed"),
        (one_field(str | float), "FloatType is not allowed"),
        (one_field(dict[str, str]), "DictType is not allowed"),
        (one_field(set[str]), "SetType is not allowed"),
        (one_field(bytes), "BytesType is not allowed"),
        (one_field(Any), "AnyType is not allowed"),
        (one_field(msgspec.Raw), "RawType is not allowed"),
        (one_field(tuple[tuple[float, ...], ...]), "FloatType is not allowed"),
        (one_field(Level), "an enum has members other than strings"),
        (one_field(Literal[1]), "a literal has values other than strings"),
        (one_field(str, frozen=False), "One is not frozen"),
        (one_field(str, forbid_unknown_fields=False), "One accepts unknown fields"),
        (one_field(str, tag="t"), "One has a tag"),
        (one_field(str, array_like=True), "One is an array"),
        (one_field(str, rename={"field": "größe"}), "One has a name that is no ASCII identifier"),
        (one_field(str, rename={"field": "a b"}), "One has a name that is no ASCII identifier"),
        (one_field(one_field(str, frozen=False)), "One is not frozen"),
    ],
)
def test_type_without_a_proved_encoding_is_refused(kind: type[msgspec.Struct], reason: str) -> None:
    assert not is_provable(kind)
    with pytest.raises(TypeError, match=f"One has no proved encoding: {reason}"):
        require_provable(kind)


def test_record_of_another_type_is_not_written() -> None:
    with pytest.raises(TypeError, match="no proved encoding"):
        record_bytes(one_field(float)(1.0))


def test_declared_order_is_demanded_where_the_encoder_does_not_sort() -> None:
    require_provable(Tree, declared_order=True)
    with pytest.raises(TypeError, match="Inner declares its fields in another order"):
        require_provable(Inner, declared_order=True)
    with pytest.raises(TypeError, match="Inner declares its fields in another order"):
        require_provable(one_field(tuple[Inner, ...]), declared_order=True)


def test_every_event_payload_is_provable_as_it_is_declared() -> None:
    kinds = registry().values()
    assert len(kinds) > 50
    for kind in kinds:
        require_provable(kind.payload, declared_order=True)
