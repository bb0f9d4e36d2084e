"""Server-sent events: which bytes make an event, and where they are too many."""

from __future__ import annotations

import pytest

from handshake.kernel.retry import FaultKind
from handshake.providers.wire_sse import EventStream, WireFault


def read(*chunks: bytes) -> list[bytes]:
    stream = EventStream()
    return [data for chunk in chunks for data in stream.feed(chunk)]


@pytest.mark.parametrize(
    ("text", "events"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a\r\n\r\n", [b"a"]),
        (b"data: a\r\r", [b"a"]),
        (b"data: a\r\n\rdata: b\n\r", [b"a", b"b"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data: a\ndata\ndata: b\n\n", [b"a\n\nb"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b": comment\n\ndata: a\n: comment\n\n", [b"a"]),
        (b"event: x\nid: 1\nretry: 5\ndata: a\n\n", [b"a"]),
        (b"database: x\n\n", []),
        (b" data: x\n\n", []),
        (b"data\n\n", []),
        (b"\n\n\n", []),
        (b"data: a\n", []),
        (b"data: a", []),
        (b"", []),
    ],
)
def test_events_are_read(text: bytes, events: list[bytes]) -> None:
    assert read(text) == events


def test_a_line_end_may_be_split() -> None:
    assert read(b"data: a\r", b"\n\r", b"\ndata: b\r", b"\r") == [b"a", b"b"]


def test_a_return_ends_a_line_at_once() -> None:
    assert read(b"data: a\r", b"\r") == [b"a"]


def test_what_lacks_its_empty_line_is_left_over() -> None:
    for text in (b"data: [DONE]", b"data: [DONE]\n", b"data:[DONE]\r"):
        stream = EventStream()
        assert list(stream.feed(text)) == []
        assert stream.left_over == b"[DONE]"


@pytest.mark.parametrize("split", [1, 3, 100])
def test_a_long_line_is_too_large_after_what_stands_before_it(split: int) -> None:
    stream = EventStream(max_line_bytes=20)
    text = b"data: a\n\ndata: " + b"b" * 15 + b"\n\n"
    found = (data for at in range(0, len(text), split) for data in stream.feed(text[at : at + split]))
    assert next(found) == b"a"
    with pytest.raises(WireFault) as fault:
        next(found)
    assert fault.value.kind is FaultKind.TOO_LARGE


def test_a_line_of_the_largest_size_is_read() -> None:
    stream = EventStream(max_line_bytes=20)
    assert list(stream.feed(b"data: " + b"b" * 14 + b"\n\n")) == [b"b" * 14]


def test_an_event_of_many_lines_is_too_large() -> None:
    stream = EventStream(max_event_bytes=100)
    with pytest.raises(WireFault) as fault:
        list(stream.feed(b"data:\n" * 101))
    assert fault.value.kind is FaultKind.TOO_LARGE
