"""Tests of shapes: a record split into structure and patterned texts is the record."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from handshake.kernel.fields import SHA256_PATTERN, UUID_PATTERN
from handshake.kernel.shape import MEMO_VALUES, Patterned, are_hex, are_uuids, matches, patterned, without_patterns

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


def test_the_memo_has_a_limit() -> None:
    assert matches.cache_info().maxsize == MEMO_VALUES


ONE = "01a1f8f4-581c-7ef8-b982-0b7924ffaafd"
TWO = "00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize("texts", [(), (None, None), (ONE,), (ONE, None, TWO), (TWO, ONE, ONE)])
def test_uuids_are_told_together(texts: tuple[str | None, ...]) -> None:
    assert are_uuids(texts)


WRONG_PLACES = [ONE[:at] + wrong + ONE[at + 1 :] for at in range(36) for wrong in "g-0AF \n" if wrong != ONE[at]]


@pytest.mark.parametrize("wrong", WRONG_PLACES)
def test_one_wrong_character_is_no_uuid_wherever_it_stands(wrong: str) -> None:
    expected = re.fullmatch(UUID_PATTERN, wrong) is not None
    assert are_uuids((wrong,)) is expected
    assert are_uuids((ONE, wrong, TWO)) is expected


@given(st.lists(st.text("0123456789abcdefAFg-", min_size=36, max_size=36) | st.sampled_from([ONE, TWO]), max_size=4))
def test_texts_of_the_right_length_are_uuids_exactly_if_each_has_the_pattern(texts: list[str]) -> None:
    assert are_uuids(texts) is all(re.fullmatch(UUID_PATTERN, text) for text in texts)


@given(st.lists(st.text("0123456789abcdefAFg-\n", min_size=64, max_size=64) | st.just("0f" * 32), max_size=4))
def test_texts_of_the_right_length_are_hashes_exactly_if_each_has_the_pattern(texts: list[str]) -> None:
    assert are_hex(texts) is all(re.fullmatch(SHA256_PATTERN, text) for text in texts)


@pytest.mark.parametrize("thing", [b"ab", 12, ["ab"], "\N{FULLWIDTH DIGIT ONE}"])
def test_what_is_no_plain_text_matches_nothing(thing: object) -> None:
    for check in (are_uuids, are_hex):
        with pytest.raises((TypeError, UnicodeEncodeError)):
            check((thing,))  # type: ignore[arg-type]
    if not isinstance(thing, str):
        with pytest.raises(TypeError):
            matches(thing, "^[0-9a-f]+$")


def test_a_patterned_text_has_a_least_length_because_an_empty_one_counts_as_missing() -> None:
    class Short(msgspec.Struct, frozen=True, kw_only=True):
        """A record with a text that may be empty."""

        digest: Annotated[str, Meta(max_length=4, pattern="^[0-9a-f]*$")]

    with pytest.raises(TypeError, match="least length"):
        patterned(Short)
