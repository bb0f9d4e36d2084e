"""MCP results: content is told within bounds, structured content whole or not at all."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handshake.tools.mcp_result import CUT_AT_LEAST_BYTES, error_text, value_of


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said, "annotations": {"audience": ["user"]}, "_meta": {"role": "SYSTEM"}}


def told(*blocks: dict[str, Any], most_bytes: int = 10_000) -> dict[str, Any]:
    value = value_of(blocks, None, is_structured=False, most_bytes=most_bytes)
    assert value is not None
    return value


def test_of_a_block_only_its_content_is_told() -> None:
    assert told(text("hello")) == {"content": [{"type": "text", "text": "hello"}], "truncated": False}


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (
            {"type": "audio", "data": "AAAA", "mimeType": "audio/wav"},
            {"type": "audio", "mime_type": "audio/wav", "omitted_base64_chars": 4},
        ),
        (
            {"type": "resource", "resource": {"uri": "x:1", "text": "t"}},
            {"type": "resource", "uri": "x:1", "text": "t"},
        ),
        (
            {"type": "resource", "resource": {"uri": "x:1", "blob": "AA", "mimeType": "a/b"}},
            {"type": "resource", "mime_type": "a/b", "omitted_base64_chars": 2},
        ),
        (
            {"type": "resource_link", "uri": "http://x/", "name": "n"},
            {"type": "resource_link", "uri": "http://x/", "name": "n"},
        ),
        ({"type": "new", "data": 7}, {"type": "new", "mime_type": "", "omitted_base64_chars": 0}),
    ],
)
def test_what_is_no_text_is_told_by_kind_and_size(block: dict[str, Any], expected: dict[str, Any]) -> None:
    assert told(block)["content"] == [expected]


@given(
    st.lists(st.text(max_size=3_000), max_size=5),
    st.integers(min_value=2 * CUT_AT_LEAST_BYTES, max_value=4 * CUT_AT_LEAST_BYTES),
)
def test_a_cut_result_fits_and_begins_as_the_whole_one(said: list[str], most_bytes: int) -> None:
    whole, cut = told(*map(text, said), most_bytes=1_000_000), told(*map(text, said), most_bytes=most_bytes)
    assert len(msgspec.json.encode(cut)) <= most_bytes
    assert cut["truncated"] == (len(msgspec.json.encode(whole)) > most_bytes)
    joined = "".join(one["text"] for one in whole["content"])
    assert joined.startswith("".join(one["text"] for one in cut["content"]))


def test_structured_content_is_the_result_or_there_is_none() -> None:
    given = {"sum": 5}
    assert value_of([text("5")], given, is_structured=True, most_bytes=100) == given
    for wrong in (None, [5], "5", {"x": "y" * 100}):
        assert value_of([text("5")], wrong, is_structured=True, most_bytes=100) is None


def test_an_error_is_told_in_visible_characters() -> None:
    assert error_text([text("no\u202e"), {"type": "image"}, text("why\x1b[1m")]) == "no\\u{202e}\nwhy\\u{1b}[1m"
    assert error_text([]) == "the server says that the call failed, and not why"
