"""Stream splits: an answer reads the same, wherever the network cuts its bytes."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from handshake.kernel.tool_message import CalledTool
from handshake.kernel.usage import TokenUsage
from handshake.ports.model import Finished, TextPiece
from handshake.providers.wire_openai import AnswerReader, StreamedAnswer, WholeAnswer
from handshake.providers.wire_sse import EventStream, WireFault
from handshake.testing.replies import event_stream, whole_answer
from tests.requirement import requirement

Seen = list[TextPiece | Finished | str]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
functions: st.SearchStrategy[dict[str, object]] = st.fixed_dictionaries(
    {}, optional={"name": st.sampled_from(["a__b", "c"]), "arguments": st.sampled_from(['{"a"', ": 1}", "", None, {}])}
)
parts = st.fixed_dictionaries(
    {"function": functions}, optional={"index": st.integers(0, 2), "id": st.sampled_from(["c1", "c2", ""])}
)
objects = st.one_of(
    st.builds(lambda text: {"choices": [{"index": 0, "delta": {"content": text}}]}, texts),
    st.builds(lambda reason: {"choices": [{"delta": {}, "finish_reason": reason}]}, st.sampled_from(["stop", "x"])),
    st.builds(lambda count: {"choices": [], "usage": {"prompt_tokens": count}}, st.integers(0, 9)),
    st.builds(lambda parts: {"choices": [{"delta": {"tool_calls": parts}}]}, st.lists(parts, max_size=3)),
    st.builds(lambda part: {"choices": [{"delta": {"function_call": part}}]}, functions),
    st.just({"error": {"code": 500}}),
    st.just({"choices": [{"index": 2}]}),
)


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """Lines of a stream: events of an answer, in any spelling, comments, other fields, and plain noise."""
    spelled = json.dumps(draw(objects), ensure_ascii=draw(st.booleans())).encode()
    return draw(
        st.sampled_from(
            [
                b"data: " + spelled,
                b"data:" + spelled,
                b"data: " + spelled.replace(b", ", b",\ndata: "),
                b"data: [DONE]",
                b": " + spelled,
                b"event: message",
                b"data",
                b"",
                draw(st.binary(max_size=6)),
            ]
        )
    )


ends = st.sampled_from([b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b"\r\r"])
streams = st.builds(
    lambda mark, parts, cut: (mark + b"".join(line + end for line, end in parts))[: cut or None],
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
    st.lists(st.tuples(lines(), ends), max_size=8),
    st.integers(-30, 0),
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(bounds)]


def seen(reader: AnswerReader, chunks: list[bytes]) -> Seen:
    """Return all that a reader of the answer sees, a fault by its kind."""
    found: Seen = []
    try:
        for chunk in chunks:
            found.extend(reader.feed(chunk))
        found.append(reader.finish())
    except WireFault as fault:
        found.append(f"{fault.kind} {fault.status} {fault.body!r}")
    return found


@requirement("provider.stream.any_split")
@given(streams, st.lists(st.integers(0, 10_000), max_size=12))
@example('data: {"choices":[{"delta":{"content":"Grüße"}}]}\r\n\r\ndata: [DONE]\r\n\r\n'.encode(), [])
def test_a_streamed_answer_reads_the_same_for_every_split(data: bytes, places: list[int]) -> None:
    whole = seen(StreamedAnswer(), [data])
    assert seen(StreamedAnswer(), cut(data, places)) == whole
    assert seen(StreamedAnswer(), [data[at : at + 1] for at in range(len(data))]) == whole


@requirement("provider.stream.any_split")
@given(
    st.lists(st.builds(CalledTool, st.uuids().map(str), st.sampled_from(["a__b", "c"]), texts.filter(bool))),
    st.lists(st.integers(0, 10_000), max_size=12),
)
def test_calls_read_the_same_for_every_split_streamed_and_whole(calls: list[CalledTool], places: list[int]) -> None:
    data = event_stream("I look.", calls=calls, finish_reason="tool_calls")
    expected = [TextPiece("I look."), Finished("tool_calls", TokenUsage(3, 2, 5), tuple(calls))]
    assert seen(StreamedAnswer(), cut(data, places)) == expected
    assert seen(StreamedAnswer(), [data[at : at + 1] for at in range(len(data))]) == expected
    whole = whole_answer("I look.", calls=calls, finish_reason="tool_calls")
    chunks = [chunk for chunk in cut(whole, places) if chunk]
    assert seen(WholeAnswer(1_000_000), [*chunks, b""]) == expected


@requirement("provider.stream.any_split")
@given(
    texts,
    st.integers(0, 9),
    st.lists(parts, max_size=2),
    st.lists(st.integers(0, 10_000), max_size=6),
    st.integers(-9, 0),
)
def test_a_whole_answer_reads_the_same_for_every_split(
    text: str, count: int, calls: list[dict[str, object]], places: list[int], short: int
) -> None:
    message = {"content": text, "tool_calls": calls}
    answer = {"choices": [{"message": message}], "usage": {"prompt_tokens": count}}
    data = json.dumps(answer, ensure_ascii=False).encode()[: short or None]
    chunks = [chunk for chunk in cut(data, places) if chunk]
    assert seen(WholeAnswer(10_000), [*chunks, b""]) == seen(WholeAnswer(10_000), [data, b""])


@requirement("provider.stream.any_split", "provider.limits.bound_memory")
@given(streams, st.lists(st.integers(0, 10_000), max_size=12), st.integers(1, 60), st.integers(1, 60))
def test_bounds_fall_at_the_same_event_for_every_split(
    data: bytes, places: list[int], max_line_bytes: int, max_event_bytes: int
) -> None:
    def read(chunks: list[bytes]) -> list[bytes]:
        stream = EventStream(max_line_bytes=max_line_bytes, max_event_bytes=max_event_bytes)
        found = []
        try:
            for chunk in chunks:
                for event in stream.feed(chunk):
                    found.append(event)  # noqa: PERF402  (what came before the fault counts)
        except WireFault as fault:
            found.append(str(fault).encode())
        return found

    assert read(cut(data, places)) == read([data])
