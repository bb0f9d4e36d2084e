"""Tests of shapes: a record split into structure and patterned texts is the record."""

from __future__ import annotations

from typing import Annotated

import msgspec
import pytest
from msgspec import Meta

from handshake.kernel.shape import MEMO_VALUES, Patterned, matches, patterned, without_patterns

Hex = Annotated[str, Meta(min_length=2, max_length=4, pattern="^[0-9a-f]+$")]
Plain = Annotated[str, Meta(max_length=3)]


class Sample(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A record with every kind of field that shapes know."""

    digest: Hex
    inner: Annotated[int, Meta(ge=0, le=9)]
    name: Plain
    other: Hex | None = None
    renamed: Hex | None = msgspec.field(default=None, name="as")


Loose = without_patterns(Sample, bases=())


def test_patterned_fields_are_found_optional_ones_too() -> None:
    pattern = "^[0-9a-f]+$"
    assert patterned(Sample) == tuple(Patterned(name, pattern) for name in ("digest", "other", "renamed"))
    assert patterned(Loose) == ()


@pytest.mark.parametrize("digest", ["ab", "0123", "zz", "AB"])
def test_only_the_pattern_is_left_out(digest: str) -> None:
    body = msgspec.json.encode({"digest": digest, "inner": 1, "name": "abc", "as": "ff"})
    assert msgspec.json.encode(msgspec.json.decode(body, type=Loose)) == body


@pytest.mark.parametrize(
    "body",
    [
        {"inner": 1, "name": "abc"},
        {"digest": "a", "inner": 1, "name": "abc"},
        {"digest": "abcde", "inner": 1, "name": "abc"},
        {"digest": "ab", "inner": 10, "name": "abc"},
        {"digest": "ab", "inner": 1, "name": "abcd"},
        {"digest": "ab", "inner": 1, "name": "abc", "more": 1},
        {"digest": "ab", "inner": 1, "name": "abc", "renamed": "ff"},
        {"digest": None, "inner": 1, "name": "abc"},
        {"digest": 12, "inner": 1, "name": "abc"},
    ],
)
def test_everything_else_is_still_checked(body: dict[str, object]) -> None:
    encoded = msgspec.json.encode(body)
    for kind in (Sample, Loose):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(encoded, type=kind)


def test_a_default_that_was_left_out_stays_out() -> None:
    body = b'{"digest":"ab","inner":1,"name":"x"}'
    assert msgspec.json.encode(msgspec.json.decode(body, type=Loose)) == body


def test_a_match_is_of_the_whole_text() -> None:
    assert matches("ab12", "^[0-9a-f]+$")
    assert not matches("ab12\n", "^[0-9a-f]+$")
    assert not matches("xab12", "[0-9a-f]+")
    assert not matches("", "^[0-9a-f]+$")


@pytest.mark.parametrize("thing", [b"ab", 12, None, ["ab"]])
def test_what_is_no_text_matches_nothing(thing: object) -> None:
    with pytest.raises(TypeError):
        matches(thing, "^[0-9a-f]+$")


def test_the_memo_has_a_limit() -> None:
    assert matches.cache_info().maxsize == MEMO_VALUES
