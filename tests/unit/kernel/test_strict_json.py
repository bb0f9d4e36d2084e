"""Strict JSON: each thing that is refused is refused by name and place, and no error repeats what it read."""

from __future__ import annotations

import traceback
from typing import Any

import pytest

from handshake.kernel.canonical import MAX_JSON_DEPTH
from handshake.kernel.errors import InvalidRequest, TooLarge
from handshake.kernel.strict_json import MAX_NUMBER_CHARS, MAX_PLACED_TOKENS, read_json

PLENTY = 1_000_000


def refused(data: bytes, **options: Any) -> dict[str, Any]:
    with pytest.raises(InvalidRequest) as caught:
        read_json(data, max_bytes=PLENTY, **options)
    assert caught.value.context.pop("field") == options.get("field", "body")
    return dict(caught.value.context)


def test_value_is_read() -> None:
    data = ' {"a": [1, -0, 2.5e3, true, false, null, "é\\u00e9\\ud83d\\ude00\\n"], "b": {}} \r\n\t'.encode()
    assert read_json(data, max_bytes=len(data)) == {"a": [1, 0, 2500.0, True, False, None, "éé😀\n"], "b": {}}


@pytest.mark.parametrize(
    ("data", "at_byte"),
    [
        (b"", 0),
        (b"  ", 2),
        (b"1 2", 2),
        (b"{}x", 2),
        (b"[1,]", 3),
        (b"{,}", 1),
        (b'{"a" 1}', 5),
        (b"{a:1}", 1),
        (b"'a'", 0),
        (b"01", 1),
        (b"[+1]", 1),
        (b"\x0c1", 0),
        ("[\u00a01]".encode(), 1),
        ('["é",]'.encode(), 6),
        ("[١]".encode(), 1),
        (b'"a\nb"', 2),
        (b'"\x00"', 1),
        (b'"\\x41"', 1),
        (b'["\\u12"]', 3),
        (b"[tru]", 1),
        (b"/**/1", 0),
    ],
)
def test_syntax_fault_is_named_with_its_place(data: bytes, at_byte: int) -> None:
    assert refused(data) == {"reason": "syntax", "at_byte": at_byte}


@pytest.mark.parametrize(
    ("data", "reason", "at_byte"),
    [
        (b"NaN", "syntax", 0),
        (b'{"a":[1,Infinity]}', "syntax", 8),
        (b"[-Infinity]", "syntax", 1),
        (b"\xef\xbb\xbf{}", "bom", 0),
        (b'{"a":"\xff"}', "utf8", 6),
        (b'"\xed\xa0\x80"', "utf8", 1),
        (b'"\xc0\x80"', "utf8", 1),
        (b'{"a":1,"b":{"a":1},"a":2}', "duplicate_key", 19),
        ('{"é":1, "\\u00e9" : 2}'.encode(), "duplicate_key", 9),
        (b'[{"":1,"":1}]', "duplicate_key", 7),
        (b'[{"a":{"b":0,"b":{"a":1}}}]', "duplicate_key", 13),
        (b'["ok","\\ud800"]', "lone_surrogate", 6),
        (b'{"\\udfff":1}', "lone_surrogate", 1),
        (b'["\\\\ud800","\\ud83dx\\ude00"]', "lone_surrogate", 11),
        (b'["\\ude00\\ud83d"]', "lone_surrogate", 1),
        (b"[9007199254740992]", "integer_range", 1),
        (b"-9007199254740992", "integer_range", 0),
        (b"[1, 1e309]", "not_finite", 4),
        (b"[-1" + b"0" * 320 + b".5]", "not_finite", 1),
        (b"[0." + b"1" * MAX_NUMBER_CHARS + b"]", "number_length", 1),
        (b"[" + b"1" * 10_000 + b"]", "number_length", 1),
    ],
)
def test_fault_is_named_with_its_place(data: bytes, reason: str, at_byte: int) -> None:
    assert refused(data) == {"reason": reason, "at_byte": at_byte}


def test_first_fault_of_the_text_is_the_one_that_is_named() -> None:
    assert refused(b'[9007199254740992,{"a":1,"a":2},NaN]') == {"reason": "integer_range", "at_byte": 1}
    assert refused(b'["\\ud800",{"a":1,"a":2}]') == {"reason": "lone_surrogate", "at_byte": 1}


def test_paired_and_escaped_surrogates_are_text() -> None:
    assert read_json(b'["\\ud83d\\ude00","\\\\ud800"]', max_bytes=PLENTY) == ["😀", "\\ud800"]


def test_largest_integers_are_read() -> None:
    assert read_json(b"[9007199254740991,-9007199254740991]", max_bytes=PLENTY) == [2**53 - 1, 1 - 2**53]


def test_larger_integers_are_kept_exact_where_asked_for() -> None:
    digits = b"9" * MAX_NUMBER_CHARS
    assert read_json(b"[9007199254740993," + digits + b"]", max_bytes=PLENTY, integers="keep") == [
        2**53 + 1,
        int(digits),
    ]
    assert refused(b"[" + digits + b"9]", integers="keep") == {"reason": "number_length", "at_byte": 1}


def test_size_limit_is_in_bytes() -> None:
    data = '"éé"'.encode()
    assert read_json(data, max_bytes=6) == "éé"
    with pytest.raises(TooLarge) as caught:
        read_json(data, max_bytes=5, field="tool_arguments")
    assert caught.value.context == {"field": "tool_arguments", "size_bytes": 6, "limit_bytes": 5}


@pytest.mark.parametrize(("opener", "closer"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a[":', b"}]")])
def test_depth_limit_counts_arrays_and_objects(opener: bytes, closer: bytes) -> None:
    levels = opener.count(b"[", 0, 1) + opener.count(b"{")
    times = 12 // levels
    data = opener * times + b"1" + closer * times
    read_json(data, max_bytes=PLENTY, max_depth=12)
    deepest = data.rindex(b"[{" if levels == 2 else opener) + levels - 1
    assert refused(data, max_depth=11) == {"reason": "too_deep", "at_byte": deepest}


def test_scalar_has_no_depth() -> None:
    assert read_json(b'"[[["', max_bytes=PLENTY, max_depth=0) == "[[["
    assert refused(b"[]", max_depth=0) == {"reason": "too_deep", "at_byte": 0}


def test_depth_is_bounded_whatever_the_caller_asks_for() -> None:
    read_json(b"[" * MAX_JSON_DEPTH + b"]" * MAX_JSON_DEPTH, max_bytes=PLENTY, max_depth=10**9)
    assert refused(b"[" * PLENTY, max_depth=10**9) == {"reason": "too_deep", "at_byte": MAX_JSON_DEPTH}
    assert refused(b'{"a":' * 100_000, max_depth=10**9) == {"reason": "too_deep", "at_byte": 5 * MAX_JSON_DEPTH}


def test_search_for_the_place_gives_up_after_so_many_tokens() -> None:
    before = b"[" + b"0," * MAX_PLACED_TOKENS
    assert refused(before + b"NaN]") == {"reason": "syntax", "after_byte": 2 * MAX_PLACED_TOKENS - 2}


@pytest.mark.parametrize(
    "data",
    [
        b'{"hidden":1,"hidden":2}',
        b'["hidden",]',
        b'["hidden\\ud800"]',
        b'"hidden\xff"',
        b'["hidden",NaN]',
        b'["hidden',
        b'{"hidden":[[1]]}',
    ],
)
def test_error_holds_no_content_and_hangs_on_nothing_that_does(data: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_json(data, max_bytes=PLENTY, max_depth=2)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
    shown = str(caught.value) + "".join(traceback.format_exception_only(caught.value))
    assert "hidden" not in shown
