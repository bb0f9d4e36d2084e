"""OpenAI chat form: the bytes of requests, and the pieces of answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from handshake.kernel.errors import IntegrityBroken, InvalidRequest
from handshake.kernel.message import MessageRole
from handshake.kernel.retry import FaultKind
from handshake.kernel.tool_message import CalledTool, ToolAnswer, answer_content, call_content
from handshake.kernel.tool_name import sendable_name
from handshake.kernel.usage import TokenUsage
from handshake.ports.model import Finished, TextPiece, ThreadMessage, ToolSchema
from handshake.providers.wire_openai import StreamedAnswer, WholeAnswer, chat_request, model_of
from handshake.providers.wire_sse import WireFault
from handshake.providers.wire_thread import NO_RESULT
from tests.requirement import requirement

THREAD = [
    ThreadMessage(MessageRole.SYSTEM, "Be brief."),
    ThreadMessage(MessageRole.USER, "Grüße\u2028\n"),
    ThreadMessage(MessageRole.ASSISTANT, "Hi."),
    ThreadMessage(MessageRole.USER, "e\u0301"),
]


def events(*members: dict[str, Any], done: bool = True) -> bytes:
    lines = [json.dumps(one) for one in members] + (["[DONE]"] if done else [])
    return "".join(f"data: {line}\n\n" for line in lines).encode()


def said(content: object, **choice: object) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": {"content": content}, **choice}]}


def streamed(data: bytes) -> list[TextPiece | Finished]:
    answer = StreamedAnswer()
    return [*answer.feed(data), answer.finish()]


def whole(answer: dict[str, Any]) -> list[TextPiece | Finished]:
    reader = WholeAnswer(10_000)
    data = json.dumps(answer).encode()
    return [*reader.feed(data[:7]), *reader.feed(data[7:]), *reader.feed(b""), reader.finish()]


def fault_of(data: bytes) -> WireFault:
    with pytest.raises(WireFault) as raised:
        streamed(data)
    return raised.value


def test_a_request_has_one_byte_form() -> None:
    body = chat_request("hub/x:7b", THREAD, max_output_tokens=16)
    assert (
        body
        == (
            '{"max_tokens":16,"messages":[{"content":"Be brief.","role":"system"},'
            '{"content":"Grüße\u2028\\n","role":"user"},{"content":"Hi.","role":"assistant"},'
            '{"content":"e\u0301","role":"user"}],"model":"hub/x:7b","stream":true,'
            '"stream_options":{"include_usage":true}}'
        ).encode()
    )
    assert body == chat_request("hub/x:7b", list(THREAD), max_output_tokens=16)


def test_a_request_without_a_stream_or_a_limit_says_neither() -> None:
    body = chat_request("x", THREAD[:1], max_output_tokens=None, stream=False)
    assert body == b'{"messages":[{"content":"Be brief.","role":"system"}],"model":"x","stream":false}'


def test_what_has_no_form_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        chat_request("x", [], max_output_tokens=1)
    with pytest.raises(InvalidRequest):
        chat_request("x", THREAD, max_output_tokens=0)
    with pytest.raises(InvalidRequest):
        chat_request("x", [ThreadMessage(MessageRole.USER, "\ud800")], max_output_tokens=1)
    for role in (MessageRole.TOOL_RESULT, MessageRole.TOOL_CALL):
        with pytest.raises((InvalidRequest, IntegrityBroken)):
            chat_request("x", [ThreadMessage(role, "42")], max_output_tokens=1)


TOOLS = [
    ToolSchema("workspace__file__read", "Read a file.", {"type": "object", "properties": {"path": {}, "from": {}}}),
    ToolSchema("process__run", "", {"type": "object"}),
]
CALLED = [
    ThreadMessage(MessageRole.USER, "Grüße"),
    ThreadMessage(MessageRole.ASSISTANT, "I look."),
    ThreadMessage(MessageRole.TOOL_CALL, call_content(CalledTool("c1", "process__run", '{"a": 1.0}')).decode()),
    ThreadMessage(MessageRole.TOOL_CALL, call_content(CalledTool("c2", "no such", "{oops")).decode()),
    ThreadMessage(MessageRole.TOOL_RESULT, answer_content(ToolAnswer("c1", "ok", is_error=False)).decode()),
    ThreadMessage(MessageRole.TOOL_RESULT, answer_content(ToolAnswer("c2", "not a tool", is_error=True)).decode()),
    ThreadMessage(MessageRole.ASSISTANT, ""),
    ThreadMessage(MessageRole.TOOL_CALL, call_content(CalledTool("c3", "process__run", "{}")).decode()),
]


def test_tools_have_one_byte_form_in_stable_order() -> None:
    body = chat_request("x", THREAD[:1], max_output_tokens=None, tools=TOOLS, stream=False)
    assert body == (
        b'{"messages":[{"content":"Be brief.","role":"system"}],"model":"x","stream":false,"tools":['
        b'{"function":{"description":"","name":"process__run","parameters":{"type":"object"}},"type":"function"},'
        b'{"function":{"description":"Read a file.","name":"workspace__file__read","parameters":'
        b'{"type":"object","properties":{"path":{},"from":{}}}},"type":"function"}]}'
    )
    assert body == chat_request("x", THREAD[:1], max_output_tokens=None, tools=TOOLS[::-1], stream=False)


@requirement("message.thread.rebuilds_same_bytes")
def test_calls_and_their_results_have_one_byte_form() -> None:
    body = chat_request("x", CALLED, max_output_tokens=None, stream=False)
    assert json.loads(body)["messages"] == [
        {"role": "user", "content": "Grüße"},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "process__run", "arguments": '{"a": 1.0}'}},
                {
                    "id": "c2",
                    "type": "function",
                    "function": {"name": sendable_name("no such"), "arguments": '{"unreadable":"{oops"}'},
                },
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "ok"},
        {"role": "tool", "tool_call_id": "c2", "content": "not a tool"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c3", "type": "function", "function": {"name": "process__run", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c3", "content": NO_RESULT},
    ]
    assert body == chat_request("x", list(CALLED), max_output_tokens=None, stream=False)
    assert body.startswith(b'{"messages":[{"content":"Gr\xc3\xbc\xc3\x9fe","role":"user"},{"content":"I look.","role":')


def test_a_body_names_its_model() -> None:
    assert model_of(chat_request("hub/x:7b", THREAD, max_output_tokens=1)) == "hub/x:7b"
    for body in (b"", b"[]", b"{}", b'{"model": 3}', b'{"model": "\xff"}'):
        with pytest.raises(InvalidRequest):
            model_of(body)


def test_a_stream_gives_a_piece_for_every_text() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "details": {}}
    data = events(
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {"reasoning_content": "hm", "content": None}}]},
        said("Grü"),
        said("ße"),
        said(None, finish_reason="stop"),
        {"choices": [], "usage": usage},
    )
    assert streamed(data) == [TextPiece("Grü"), TextPiece("ße"), Finished("stop", TokenUsage(3, 2, 5))]


def test_a_stream_is_whole_with_its_end_mark_or_a_reason() -> None:
    assert streamed(events(said("a"))) == [TextPiece("a"), Finished(None, None)]
    assert streamed(events(said("a", finish_reason="length"), done=False)) == [
        TextPiece("a"),
        Finished("length", None),
    ]
    assert streamed(events(said("a"), done=False) + b"data: [DONE]") == [TextPiece("a"), Finished(None, None)]


def test_a_stream_with_neither_is_incomplete() -> None:
    for data in (b"", b": ping\n\n", events(said("a"), done=False), events(said("a"))[:-3]):
        assert fault_of(data).kind is FaultKind.INCOMPLETE


def test_what_follows_the_end_mark_is_nobodys() -> None:
    answer = StreamedAnswer()
    assert list(answer.feed(events() + b"data: {broken\n\n")) == []
    assert answer.is_done
    assert list(answer.feed(b"data: {broken\n\n")) == []
    assert answer.finish() == Finished(None, None)


def test_an_engine_may_put_a_message_into_a_stream() -> None:
    data = events({"choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}]})
    assert streamed(data) == [TextPiece("a"), Finished("stop", None)]


@pytest.mark.parametrize(
    "data",
    [
        b"data: {broken\n\n",
        b"data: 7\n\n",
        b"data: []\n\n",
        b'data: {"choices": 7}\n\n',
        b'data: {"choices": [{"delta": {"content": 7}}]}\n\n',
        b'data: {"choices": [{"delta": {"content": "\xff"}}]}\n\n',
        b'data: {"choices": [], "other": "\xff"}\n\n',
        b'data: {"choices": [{"delta": {"content": "\\ud83d"}}]}\n\n',
        b'data: {"choices": [{"index": 1, "delta": {"content": "a"}}]}\n\n',
        b'data: {"choices": [{"delta": {}}, {"delta": {}}]}\n\n',
        b'data: {"choices": []} {}\n\n',
        b"data: " + b"[" * 100_000 + b"\n\n",
        b"data: " + b'{"a":' * 100_000 + b"\n\n",
    ],
)
def test_what_is_not_the_protocol_is_garbage(data: bytes) -> None:
    assert fault_of(events(said("a"), done=False) + data).kind is FaultKind.GARBAGE


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, None),
        ("none", None),
        ([], None),
        ({}, TokenUsage(None, None, None)),
        ({"prompt_tokens": None, "completion_tokens": 2}, TokenUsage(None, 2, None)),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, TokenUsage(0, 0, 0)),
        ({"prompt_tokens": -1, "completion_tokens": 1.5, "total_tokens": "7"}, TokenUsage(None, None, None)),
        ({"prompt_tokens": True, "completion_tokens": 2**53}, TokenUsage(None, None, None)),
    ],
)
def test_usage_that_was_not_reported_is_missing(usage: object, expected: TokenUsage | None) -> None:
    assert streamed(events(said("a"), {"choices": [], "usage": usage}))[-1] == Finished(None, expected)
    answer = {"choices": [{"message": {"content": "a"}}], "usage": usage}
    assert whole(answer)[-1] == Finished(None, expected)


def test_usage_that_was_left_out_is_missing() -> None:
    assert streamed(events(said("a")))[-1] == Finished(None, None)
    assert whole({"choices": [{"message": {"content": "a"}}]})[-1] == Finished(None, None)


def test_the_last_usage_counts() -> None:
    data = events(
        {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}},
        {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
        {"choices": [], "usage": None},
    )
    assert streamed(data) == [Finished(None, TokenUsage(3, 2, None))]


@requirement("provider.error.not_echoed")
def test_reasons_outside_the_vocabulary_are_not_passed_on() -> None:
    assert streamed(events(said("a", finish_reason="my password is x")))[-1] == Finished("other", None)
    assert whole({"choices": [{"message": {"content": ""}, "finish_reason": "Stop!"}]}) == [Finished("other", None)]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"message": "m", "code": 503}, 503),
        ({"message": "m", "status": 429}, 429),
        ({"message": "m", "type": "rate_limit_error", "code": None}, 429),
        ({"message": "m", "type": "server_error"}, 500),
        ({"message": "m", "code": 200, "type": "what"}, None),
        ({"message": "m", "code": True}, None),
        ("m", None),
        (7, None),
    ],
)
@requirement("provider.error.not_echoed")
def test_an_error_in_an_answer_is_a_fault_without_its_words(error: object, status: int | None) -> None:
    data = events(said("a"), {"error": error}, done=False)
    fault = fault_of(data)
    assert (fault.kind, fault.status) == (FaultKind.STATUS, status)
    assert str(fault) == "status"
    assert json.loads(fault.body) == {"error": error}
    with pytest.raises(WireFault) as raised:
        whole({"error": error})
    assert raised.value.status == status


def test_a_whole_answer_is_one_piece() -> None:
    answer = {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }
    assert whole(answer) == [TextPiece("Hi"), Finished("stop", TokenUsage(1, 2, 3))]


@pytest.mark.parametrize("data", [b" ", b"{", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{"index": 0}]}'])
def test_half_an_answer_is_garbage(data: bytes) -> None:
    reader = WholeAnswer(10_000)
    assert list(reader.feed(data)) == []
    with pytest.raises(WireFault) as raised:
        list(reader.feed(b""))
    assert raised.value.kind is FaultKind.GARBAGE
    assert not reader.is_done


def test_a_whole_answer_is_held_up_to_a_bound() -> None:
    reader = WholeAnswer(10)
    assert list(reader.feed(b" " * 10)) == []
    with pytest.raises(WireFault) as raised:
        list(reader.feed(b" "))
    assert raised.value.kind is FaultKind.TOO_LARGE


def test_an_answer_that_did_not_end_is_incomplete() -> None:
    with pytest.raises(WireFault) as raised:
        WholeAnswer(10).finish()
    assert raised.value.kind is FaultKind.INCOMPLETE
