"""Laws of canonical bytes: every faster way gives what the definition gives, for whatever strings and shapes."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from handshake.kernel.canonical import canonical, canonical_body, record_bytes
from handshake.kernel.catalogue import SessionCreated
from handshake.kernel.errors import InvalidEvent, InvalidRequest
from handshake.kernel.event import Actor, Context, seal
from handshake.kernel.fields import Count
from handshake.kernel.job import Backend
from handshake.kernel.session import MemoryPolicy
from handshake.kernel.strict_json import read_json
from handshake.kernel.units import MAX_SAFE_INTEGER
from tests.requirement import requirement

AWKWARD = (
    '\x00\x07\x1f\b\t\n\f\r"\\/\x7f\x80\u2028\u2029\ufeff<=>😀\U0001d15e\ufb33éÅ\u212beE'
    "\u0301\u0303\u0307\u0338\u0323가\u1100\u1161\u11a8"
)
"""Controls, what JSON escapes, line separators, and characters that NFC joins, splits or reorders."""

TEXT = st.text(st.one_of(st.sampled_from(AWKWARD), st.characters(codec="utf-8")), max_size=12)
INTEGERS = st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER)
SCALARS = st.none() | st.booleans() | INTEGERS | TEXT
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


def shapes(scalars: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy of JSON values with these leaves."""
    return st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
    )


def nfc(value: Any) -> Any:
    """Return the value with all strings in NFC, or raise KeyError where names fall together."""
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, list):
        return [nfc(item) for item in value]
    if isinstance(value, dict):
        members = {nfc(name): nfc(member) for name, member in value.items()}
        if len(members) != len(value):
            raise KeyError
        return members
    return value


# ── the definition ─────────────────────────────────────────────────────────────────────────────────────────


@given(shapes(SCALARS | FLOATS))
def test_body_is_what_the_library_writes(value: Any) -> None:
    assert canonical_body(value) == rfc8785.dumps(value)


@given(shapes(SCALARS))
def test_own_record_is_what_the_library_writes_of_normalised_strings(value: Any) -> None:
    try:
        expected = rfc8785.dumps(nfc(value))
    except KeyError:
        with pytest.raises(InvalidRequest):
            canonical(value)
    else:
        assert canonical(value) == expected
        assert canonical(read_json(expected, max_bytes=len(expected))) == expected


def test_every_character_is_written_as_the_library_writes_it() -> None:
    for plane in range(0, 0x110000, 0x1000):
        text = "".join(map(chr, range(plane, plane + 0x1000)))
        text = re.sub("[\ud800-\udfff]", "", text)
        assert canonical_body(text) == rfc8785.dumps(text)


# ── records ────────────────────────────────────────────────────────────────────────────────────────────────


class Leaf(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    text: str
    a: str | None = None
    count: Count = 0


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    zeta: str
    leaf: Leaf
    flag_or_none: bool | None
    leaves: tuple[Leaf, ...]
    Alpha: Count | str
    backend: Backend


LEAVES = st.builds(Leaf, text=TEXT, a=st.none() | TEXT, count=st.integers(0, MAX_SAFE_INTEGER))
RECORDS = st.builds(
    Record,
    zeta=TEXT,
    leaf=LEAVES,
    flag_or_none=st.none() | st.booleans(),
    leaves=st.lists(LEAVES, max_size=3).map(tuple),
    Alpha=st.integers(0, MAX_SAFE_INTEGER) | TEXT,
    backend=st.sampled_from(Backend),
)


@given(RECORDS)
def test_record_bytes_are_the_canonical_bytes_of_its_values(record: Record) -> None:
    assert record_bytes(record) == canonical(msgspec.to_builtins(record))


@given(RECORDS, st.sampled_from(["zeta", "leaf", "flag_or_none", "leaves", "Alpha"]), shapes(SCALARS | FLOATS))
def test_record_with_anything_in_a_field_is_canonical_or_refused(record: Record, field: str, value: Any) -> None:
    broken = msgspec.structs.replace(record, **{field: value})
    try:
        written = record_bytes(broken)
    except InvalidRequest:
        return
    assert canonical(json.loads(written)) == written


# ── events ─────────────────────────────────────────────────────────────────────────────────────────────────

SESSION = "01890000-0000-7000-8000-000000000001"
NAMES = st.text(st.one_of(st.sampled_from(AWKWARD), st.characters(codec="utf-8")), min_size=1, max_size=12)
BREAKS_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@requirement("recorder.schema.enforced")
@given(st.lists(NAMES, min_size=5, max_size=5), st.integers(0, MAX_SAFE_INTEGER), st.binary(min_size=32, max_size=32))
def test_sealed_event_is_the_canonical_form_of_what_was_given(names: list[str], seq: int, prev: bytes) -> None:
    payload = {
        "backend": "local",
        "memory_policy": "EPHEMERAL",
        "model_id": names[0],
        "mt_id": None,
        "role": "worker",
        "session_id": SESSION,
        "spawn_depth": 0,
        "wp_id": names[1],
    }
    event = {
        "actor": "human",
        "actor_id": names[2],
        "event_id": SESSION,
        "fr_id": "FR-EVT-SESS-001",
        "model_id": names[3],
        "model_session_id": SESSION,
        "payload": payload,
        "prev_hash": prev.hex(),
        "schema_version": 1,
        "seq": seq,
        "timestamp": "2026-01-02T03:04:05.000006Z",
        "type": "session.created",
        "wp_id": names[4],
    }
    record = SessionCreated(
        backend=Backend.LOCAL,
        memory_policy=MemoryPolicy.EPHEMERAL,
        model_id=names[0],
        mt_id=None,
        role="worker",
        session_id=SESSION,
        spawn_depth=0,
        wp_id=names[1],
    )
    context = Context(actor=Actor.HUMAN, actor_id=names[2], model_id=names[3], model_session_id=SESSION, wp_id=names[4])
    if any(map(BREAKS_LINE.search, names)):
        with pytest.raises(InvalidEvent):
            seal(record, context, event_id=SESSION, timestamp=str(event["timestamp"]))
    else:
        sealed = seal(record, context, event_id=SESSION, timestamp=str(event["timestamp"]))
        assert sealed.body(seq, prev.hex()) == canonical(event)
