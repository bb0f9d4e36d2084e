"""Calls of tools in answers, as different engines tell them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from handshake.kernel.retry import FaultKind
from handshake.kernel.tool_message import CalledTool
from handshake.ports.model import Finished
from handshake.providers.wire_calls import CallPart, CallReader
from handshake.providers.wire_openai import StreamedAnswer, WholeAnswer
from handshake.providers.wire_sse import WireFault


def read(*chunks: list[dict[str, Any]]) -> tuple[CalledTool, ...]:
    reader = CallReader()
    for chunk in chunks:
        reader.take(msgspec.json.decode(json.dumps(chunk), type=list[CallPart]))
    return reader.finish()


def part(arguments: object = None, *, name: str | None = None, **more: object) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **more}


def kind_of(*chunks: list[dict[str, Any]]) -> FaultKind:
    with pytest.raises(WireFault) as raised:
        read(*chunks)
    return raised.value.kind


def test_fragments_of_several_calls_come_by_turns() -> None:
    assert read(
        [part("", name="a", index=0, id="c1"), part("", name="b", index=1, id="c2")],
        [part('{"x"', index=1)],
        [part("{", index=0), part(": 1}", index=1)],
        [part("}", index=0)],
    ) == (CalledTool("c1", "a", "{}"), CalledTool("c2", "b", '{"x": 1}'))


def test_the_exact_text_stays() -> None:
    written = '{ "e\u0301":1.0 }\n{oops'
    assert read([part(written, name="a", index=0, id="c")])[0].arguments == written


def test_an_engine_may_repeat_what_it_said() -> None:
    told = part("{", name="a", index=0, id="c1")
    assert read([told], [part("}", name="a", index=0, id="c1")], [part("", index=0, id="")]) == (
        CalledTool("c1", "a", "{}"),
    )


def test_an_engine_may_give_a_fragment_another_id() -> None:
    chunks = [part("{", name="a", index=0, id="c1")], [part("}", index=0, id="c9")]
    assert read(*chunks) == (CalledTool("c1", "a", "{}"),)


def test_an_engine_may_give_all_calls_one_place() -> None:
    assert read([part("{}", name="a", index=0, id="c1")], [part("{}", name="a", index=0, id="c2")]) == (
        CalledTool("c1", "a", "{}"),
        CalledTool("c2", "a", "{}"),
    )


def test_an_engine_may_give_no_place() -> None:
    assert read([part("{}", name="a", id="c1"), part("{", name="a", id="c2")], [part("}")]) == (
        CalledTool("c1", "a", "{}"),
        CalledTool("c2", "a", "{}"),
    )


def test_an_engine_may_give_no_ids() -> None:
    assert [call.call_id for call in read([part("{}", name="a"), part("{}", name="a")])] == ["call_0", "call_1"]


def test_arguments_may_be_an_object_or_nothing() -> None:
    assert read([part({"b": 1, "a": [2.0]}, name="a")])[0].arguments == '{"b": 1, "a": [2.0]}'
    assert read([part(name="a")])[0].arguments == "{}"
    assert read([part("", name="a")])[0].arguments == "{}"


@pytest.mark.parametrize(
    "chunks",
    [
        [[part("{}")]],
        [[part("{}", index=0, id="c1")]],
        [[part("{}", name="", index=0)]],
        [[part("{}", name="a", index=0)], [part("{}", name="b", index=0)]],
        [[part("{}", name="a", id="c1"), part("{}", name="b", id="c1")]],
        [[part("{}", name="a", index=0, id="c1")], [part("{}", name="a", index=1, id="c1")]],
        [[part("{", name="a", index=0)], [part({}, index=0)]],
        [[part(7, name="a")]],
        [[part([], name="a")]],
        [[part("{}", name="a", id="c" * 257)]],
        [[part("{}", name="a" * 257)]],
        [[{"index": 0, "id": "c1", "type": "custom"}]],
        [[part("{}", name="a", index=at)] for at in range(129)],
    ],
)
def test_what_is_no_call_is_garbage(chunks: list[list[dict[str, Any]]]) -> None:
    assert kind_of(*chunks) is FaultKind.GARBAGE


def test_as_many_calls_as_allowed_are_read() -> None:
    assert len(read([part("{}", name="a", index=at) for at in range(128)])) == 128


def test_arguments_are_bounded() -> None:
    half = "ü" * (512 * 1024)
    assert len(read([part(half, name="a", index=0)], [part(half, index=0)])[0].arguments) == 1024 * 1024
    assert kind_of([part(half, name="a", index=0)], [part(half, name="b", index=1)], [part(".", index=1)]) is (
        FaultKind.TOO_LARGE
    )


@pytest.mark.parametrize("text", [b"\\ud83d", b"\\ud83d and more", b"\\x", b"\\ude00"])
def test_what_is_no_text_is_garbage(text: bytes) -> None:
    call = b'{"function": {"name": "a", "arguments": "%b"}}' % text
    with pytest.raises(WireFault) as raised:
        list(StreamedAnswer().feed(b'data: {"choices": [{"delta": {"tool_calls": [%b]}}]}\n\n' % call))
    assert raised.value.kind is FaultKind.GARBAGE


def test_the_form_before_calls_had_ids_is_read() -> None:
    deltas = [{"name": "a", "arguments": ""}, {"arguments": "{"}, {"arguments": "}"}]
    lines = [json.dumps({"choices": [{"delta": {"content": None, "function_call": one}}]}) for one in deltas]
    data = "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]).encode()
    streamed = StreamedAnswer()
    assert list(streamed.feed(data)) == []
    assert streamed.finish() == Finished(None, None, (CalledTool("call_0", "a", "{}"),))
    whole = WholeAnswer(1_000)
    message = {"content": None, "function_call": {"name": "a", "arguments": "{}"}}
    body = json.dumps({"choices": [{"message": message, "finish_reason": "function_call"}]}).encode()
    assert [*whole.feed(body), *whole.feed(b"")] == []
    assert whole.finish() == Finished("function_call", None, (CalledTool("call_0", "a", "{}"),))
