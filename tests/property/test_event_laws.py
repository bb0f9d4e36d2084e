"""Laws of events: what the schema allows is sealed and comes back, what it does not allow is refused."""

from __future__ import annotations

import functools
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec import inspect

from handshake.kernel import fields
from handshake.kernel.canonical import canonical
from handshake.kernel.catalogue import parse, registry
from handshake.kernel.errors import InvalidEvent
from handshake.kernel.event import Actor, Context, EventType, Payload, Sealed, seal
from handshake.kernel.units import MAX_SAFE_INTEGER
from tests.requirement import requirement

SESSION = "01890000-0000-7000-8000-000000000001"
EVENT = "01890000-0000-7000-8000-00000000000e"
HASH = "ab" * 32
NOW = "2026-01-02T03:04:05.000006Z"

KINDS = sorted(registry().values(), key=lambda kind: kind.name)
ANY_TYPE = st.sampled_from(KINDS)
EACH_TYPE = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
EXAMPLES_OF_A_TYPE = 25
LISTED = 4
"""Items of the longest list that is drawn."""

ONE_LINE = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=60)


def pattern(kind: object) -> str | None:
    """Return the pattern by which a kind of string is known; a name has none."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StrType)
    return info.pattern


LETTERS = "ABCXYZabcxyz0189"
STRINGS: dict[object, st.SearchStrategy[str]] = {
    pattern(fields.Id): st.uuids().map(str),
    pattern(fields.Sha256): st.binary(min_size=32, max_size=32).map(bytes.hex),
    pattern(fields.Token): st.builds(str.__add__, st.sampled_from(LETTERS), st.text(LETTERS + "_.:/-", max_size=63)),
    pattern(fields.Name): ONE_LINE,
    pattern(fields.Usd): st.integers(0, 10**15).map(lambda micro: f"{micro // 10**6}.{micro % 10**6:06}"),
    pattern(fields.Timestamp): st.datetimes().map(lambda at: at.isoformat(timespec="microseconds") + "Z"),
}
LOOSE: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary(max_size=20)
    | st.sets(st.integers(), max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def values(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Return a strategy of the values that a kind allows."""
    match kind:
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.EnumType(cls=cls):
            return st.sampled_from(list(cls))
        case inspect.LiteralType(values=words):
            return st.sampled_from(words)
        case inspect.IntType(ge=least, le=most):
            return st.integers(least, most)
        case inspect.StrType(pattern=known):
            return STRINGS[known]
        case inspect.VarTupleType(item_type=item):
            return st.lists(values(item), max_size=LISTED).map(tuple)
        case inspect.UnionType(types=types):
            return st.one_of([values(one) for one in types])
        case inspect.StructType(cls=record):
            return payloads(record)
        case _:
            raise AssertionError(f"no strategy for {kind!r}")


@functools.cache
def payloads(record: type[msgspec.Struct]) -> st.SearchStrategy[Payload]:
    """Return a strategy of the records that a schema allows; an optional field that is None is left out."""
    schema = inspect.type_info(record)
    assert isinstance(schema, inspect.StructType)
    assert issubclass(record, Payload)
    return st.builds(record, **{field.name: values(field.type) for field in schema.fields})


def sealed(payload: Payload, session_id: str | None) -> Sealed:
    named = getattr(payload, "session_id", None) or session_id
    context = Context(actor=Actor.AGENT, model_session_id=named)
    return seal(payload, context, event_id=EVENT, timestamp=NOW)


def drawn(kind: EventType, data: st.DataObject) -> Payload:
    return data.draw(payloads(kind.payload))


@requirement("recorder.schema.enforced")
@EACH_TYPE
@settings(max_examples=EXAMPLES_OF_A_TYPE)
@given(data=st.data())
def test_what_a_schema_allows_is_sealed_and_comes_back(kind: EventType, data: st.DataObject) -> None:
    payload = drawn(kind, data)
    body = sealed(payload, SESSION).body(MAX_SAFE_INTEGER, HASH)
    record = msgspec.json.decode(body, type=dict[str, Any])
    assert canonical(record) == body
    back = parse(kind.name, record["payload"])
    assert sealed(back, SESSION).body(MAX_SAFE_INTEGER, HASH) == body
    if body.isascii():
        assert back == payload
    assert (record["type"], record.get("fr_id"), record["schema_version"]) == (kind.name, kind.fr_id, kind.version)


@requirement("recorder.schema.enforced")
@EACH_TYPE
@settings(max_examples=EXAMPLES_OF_A_TYPE)
@given(data=st.data())
def test_one_field_of_a_wrong_kind_is_refused(kind: EventType, data: st.DataObject) -> None:
    payload = drawn(kind, data)
    field = data.draw(st.sampled_from(msgspec.structs.fields(kind.payload)))
    wrong = data.draw(LOOSE)
    assume(not fits(wrong, field))
    broken = msgspec.structs.replace(payload, **{field.name: wrong})
    with pytest.raises(InvalidEvent):
        sealed(broken, SESSION)
    loose = msgspec.to_builtins(payload, str_keys=True) | {field.encode_name: wrong}
    with pytest.raises(InvalidEvent):
        parse(kind.name, loose)


@requirement("recorder.schema.enforced")
@given(kind=ANY_TYPE, data=st.data(), extra=st.text(min_size=1, max_size=30), value=LOOSE)
def test_a_missing_and_an_extra_field_are_refused(
    kind: EventType, data: st.DataObject, extra: str, value: object
) -> None:
    loose = msgspec.to_builtins(drawn(kind, data))
    assume(extra not in kind.payload.__struct_encode_fields__)
    with pytest.raises(InvalidEvent):
        parse(kind.name, loose | {extra: value})
    required = [field.encode_name for field in msgspec.structs.fields(kind.payload) if field.required]
    gone = data.draw(st.sampled_from(required))
    with pytest.raises(InvalidEvent):
        parse(kind.name, {name: one for name, one in loose.items() if name != gone})


@requirement("recorder.session.correlated")
@given(kind=ANY_TYPE, data=st.data())
def test_an_event_of_a_session_carries_that_session_or_is_refused(kind: EventType, data: st.DataObject) -> None:
    payload = drawn(kind, data)
    named = getattr(payload, "session_id", None)
    under = data.draw(st.sampled_from([None, SESSION, named]))
    context = Context(model_session_id=under)
    if (under is None and kind.in_session) or named not in {None, under}:
        with pytest.raises(InvalidEvent) as refused:
            seal(payload, context, event_id=EVENT, timestamp=NOW)
        assert refused.value.context["reason"] in {"session_missing", "session_mismatch"}
    else:
        body = seal(payload, context, event_id=EVENT, timestamp=NOW).body(1, HASH)
        assert msgspec.json.decode(body, type=dict[str, Any]).get("model_session_id") == under


def fits(value: object, field: msgspec.structs.FieldInfo) -> bool:
    """Return whether a value is allowed, or stands for one that is once it is a list or a record."""
    try:
        msgspec.convert(value, field.type)
    except (msgspec.ValidationError, UnicodeEncodeError):
        return False
    return True
