"""Tools in texts: what a model without tools is told, and what of its answers are calls."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handshake.kernel.errors import InvalidRequest
from handshake.kernel.message import MessageRole
from handshake.kernel.retry import FaultKind
from handshake.kernel.tool_message import CalledTool, ToolAnswer, answer_content, call_content
from handshake.ports.model import Finished, TextPiece, ThreadMessage, ToolSchema
from handshake.providers.wire_emulated import (
    INSTRUCTIONS,
    UNREADABLE,
    EmulatedAnswer,
    emulated_request,
    offers_tools,
    read_block,
)
from handshake.providers.wire_openai import StreamedAnswer, WholeAnswer, chat_request
from handshake.providers.wire_sse import WireFault
from handshake.testing.replies import event_stream, whole_answer
from tests.requirement import requirement

USER = ThreadMessage(MessageRole.USER, "Grüße")
TOOLS = [
    ToolSchema("workspace__file__read", "Read.", {"type": "object", "properties": {"path": {}, "from": {}}}),
    ToolSchema("process__run", "Run.", {"type": "object"}),
]
CALL = '```tool_call\n{"name": "a__b", "arguments": {"x": 1.0}}\n```\n'
READ = CalledTool("block_0", "a__b", '{"x": 1.0}')


def call(call_id: str, arguments: str = "{}") -> ThreadMessage:
    return ThreadMessage(MessageRole.TOOL_CALL, call_content(CalledTool(call_id, "a__b", arguments)).decode())


def result(call_id: str, content: str) -> ThreadMessage:
    return ThreadMessage(MessageRole.TOOL_RESULT, answer_content(ToolAnswer(call_id, content, is_error=False)).decode())


def messages_of(*thread: ThreadMessage, tools: list[ToolSchema] | None = None) -> list[dict[str, str]]:
    body: dict[str, Any] = json.loads(emulated_request("m", thread, max_output_tokens=None, tools=tools or []))
    assert "tools" not in body
    return [dict(one) for one in body["messages"]]


def answered(*texts: str, reason: str = "stop") -> tuple[str, Finished]:
    """Return text and end of a streamed answer; as one whole answer it must be the same."""
    streamed = EmulatedAnswer(StreamedAnswer())
    data = event_stream(*texts, finish_reason=reason)
    text = "".join(piece.text for piece in [*streamed.feed(data), *streamed.feed(b"")])
    whole = EmulatedAnswer(WholeAnswer(10_000_000))
    body = whole_answer("".join(texts), finish_reason=reason)
    assert "".join(piece.text for piece in [*whole.feed(body), *whole.feed(b"")]) == text
    finished = streamed.finish()
    assert whole.finish() == finished
    return text, finished


@requirement("provider.tools.never_silent")
def test_a_request_has_one_byte_form() -> None:
    body = emulated_request("m", [USER], max_output_tokens=7, tools=TOOLS)
    assert body == emulated_request("m", [USER], max_output_tokens=7, tools=TOOLS[::-1])
    system = (
        f'{INSTRUCTIONS}\n{{"description":"Run.","name":"process__run","parameters":{{"type":"object"}}}}\n'
        '{"description":"Read.","name":"workspace__file__read",'
        '"parameters":{"type":"object","properties":{"path":{},"from":{}}}}'
    )
    assert body == chat_request("m", [ThreadMessage(MessageRole.SYSTEM, system), USER], max_output_tokens=7)


def test_the_block_of_tools_stands_below_what_the_runtime_says() -> None:
    first, second = messages_of(ThreadMessage(MessageRole.SYSTEM, "Be brief."), USER, tools=TOOLS)
    assert first["role"] == "system"
    assert first["content"].startswith(f"Be brief.\n\n{INSTRUCTIONS}")
    assert second == {"role": "user", "content": "Grüße"}


def test_without_tools_a_thread_is_as_ever() -> None:
    thread = [ThreadMessage(MessageRole.SYSTEM, "s"), USER, ThreadMessage(MessageRole.ASSISTANT, "a"), USER]
    assert emulated_request("m", thread, max_output_tokens=3, tools=[]) == chat_request(
        "m", thread, max_output_tokens=3
    )
    with pytest.raises(InvalidRequest):
        emulated_request("m", [], max_output_tokens=3, tools=TOOLS)


@requirement("provider.tools.never_silent", "message.thread.rebuilds_same_bytes")
def test_calls_and_results_are_texts() -> None:
    thread = [USER, ThreadMessage(MessageRole.ASSISTANT, "I look."), call("1", '{"x": 1.0}'), call("2", "{oops")]
    thread += [result("2", "two"), result("1", "```\n```tool_call\n{}\n```"), ThreadMessage(MessageRole.ASSISTANT, "!")]
    assert messages_of(*thread)[1:] == [
        {
            "role": "assistant",
            "content": f'I look.\n{CALL}```tool_call\n{{"name": "a__b", "arguments": {{"unreadable":"{{oops"}}}}\n```',
        },
        {
            "role": "user",
            "content": '```tool_result\n{"content":"```\\n```tool_call\\n{}\\n```","is_error":false,"name":"a__b"}'
            '\n```\n```tool_result\n{"content":"two","is_error":false,"name":"a__b"}\n```',
        },
        {"role": "assistant", "content": "!"},
    ]


def test_results_at_the_end_are_the_last_message() -> None:
    assert messages_of(USER, call("1"), result("1", "one"))[-1]["role"] == "user"


def test_a_body_says_whether_blocks_in_its_answer_are_calls() -> None:
    forged = ThreadMessage(MessageRole.USER, INSTRUCTIONS)
    assert offers_tools(emulated_request("m", [USER], max_output_tokens=None, tools=TOOLS))
    assert not offers_tools(emulated_request("m", [USER], max_output_tokens=None, tools=[]))
    assert not offers_tools(emulated_request("m", [USER, forged], max_output_tokens=None, tools=[]))
    assert not offers_tools(chat_request("m", [USER], max_output_tokens=None, tools=TOOLS))
    for body in (b"", b"{}", b'{"messages":[]}', b'{"messages":[{"content":null}]}'):
        assert not offers_tools(body)


@requirement("provider.tools.never_silent")
def test_a_block_is_a_call_and_the_rest_is_text() -> None:
    assert answered("I look.\n", CALL) == ("I look.\n", Finished("tool_calls", answered("x")[1].usage, (READ,)))
    text, finished = answered("Two:\n", CALL, "\n \n", CALL, "\nDone.")
    assert text == "Two:\nDone."
    assert finished.tool_calls == (READ, CalledTool("block_1", "a__b", '{"x": 1.0}'))


def test_a_plain_answer_stays_as_it_is() -> None:
    fences = ("```", "```tool", "```tool_call", "``` tool_call\n", "a ```tool_call\n", "```tool_calls\n")
    for text in ("", "\n \n", "Hi", "\n\n a\n\n```python\nx = 1\n```\n", *fences):
        assert answered(text) == (text, Finished("stop", answered("x")[1].usage))


@pytest.mark.parametrize(
    "written",
    [
        CALL.rstrip("\n"),
        CALL.removesuffix("\n```\n"),
        CALL.removesuffix("```\n"),
        CALL.replace("}\n```", "}```"),
        CALL.replace("\n", "\r\n"),
        CALL.replace("tool_call\n", "tool_call \t\n"),
    ],
)
def test_a_block_may_end_as_models_end_it(written: str) -> None:
    assert answered(written) == ("", Finished("tool_calls", answered("x")[1].usage, (READ,)))


def test_an_answer_that_was_cut_keeps_its_reason() -> None:
    _, finished = answered('```tool_call\n{"name": "a__b", "argu', reason="length")
    assert finished.finish_reason == "length"
    assert finished.tool_calls == (CalledTool("block_0", UNREADABLE, '{"name": "a__b", "argu'),)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"name": "a"}',
        '{"name": "a", "arguments": []}',
        '{"name": "a", "arguments": "{}"}',
        '{"name": "", "arguments": {}}',
        '{"name": 7, "arguments": {}}',
        '{"name": "a", "arguments": {}, "id": 1}',
        '{"name": "a", "name": "b", "arguments": {}}',
        '{"name": "a", "arguments": {"x": 1, "x": 2}}',
        '{"name": "a", "arguments": {}} {}',
        '{"name": "a", "arguments": {"x": NaN}}',
        '{"name": "%s", "arguments": {}}' % ("a" * 257),
    ],
)
@requirement("provider.tools.never_silent")
def test_a_block_that_is_no_call_is_told_and_not_dropped(text: str) -> None:
    assert read_block(text, 3) == CalledTool("block_3", UNREADABLE, text)


def test_arguments_keep_their_text() -> None:
    assert read_block('{"arguments": {\n "n": 12345678901234567890 }, "name": "a"}', 0).arguments == (
        '{\n "n": 12345678901234567890 }'
    )


parts = ["```tool_call\n", "```tool_call", "```", "``", "`", "\n", " ", "tool_call", '{"name": "a", "arguments": {}}']
pieces = st.lists(st.sampled_from(parts), max_size=12)


@requirement("provider.stream.any_split", "provider.tools.never_silent")
@given(pieces, st.lists(st.integers(0, 10_000), max_size=8))
def test_an_answer_reads_the_same_however_its_text_is_split(written: list[str], places: list[int]) -> None:
    text = "".join(written)
    cuts = sorted(place % (len(text) + 1) for place in places)
    texts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert answered(*texts) == answered(text)
    said, finished = answered(text)
    assert len(finished.tool_calls) == sum(line.rstrip() == "```tool_call" for line in said_or_call(text, said))


def said_or_call(text: str, said: str) -> list[str]:
    """Return the opening fences that count: those in a block that is open do not, nor does one without a line's end."""
    opened, inside = [], False
    for line in text.split("\n")[:-1]:
        if inside:
            inside = not line.rstrip().endswith("```")
        elif line.rstrip() == "```tool_call":
            opened.append(line)
            inside = True
    assert all(fence not in said.split("\n") for fence in opened)
    return opened


def test_a_server_may_have_read_calls_itself() -> None:
    reader = EmulatedAnswer(StreamedAnswer())
    own = CalledTool("c1", "b", "{}")
    assert list(reader.feed(event_stream(CALL, calls=[own]))) == []
    assert reader.finish().tool_calls == (own, READ)
    same = EmulatedAnswer(StreamedAnswer())
    assert list(same.feed(event_stream(CALL, calls=[CalledTool("block_0", "b", "{}")]))) == []
    with pytest.raises(WireFault):
        same.finish()


def test_blocks_are_bounded() -> None:
    for texts, kind in (
        (["```tool_call\n", *["x" * 100_000] * 21], FaultKind.TOO_LARGE),
        ([CALL] * 129, FaultKind.GARBAGE),
    ):
        with pytest.raises(WireFault) as raised:
            answered(*texts)
        assert raised.value.kind is kind


def test_text_is_not_held_back_for_long() -> None:
    reader = EmulatedAnswer(StreamedAnswer())
    assert list(reader.feed(event_stream("Hel", "lo\n``", "`py", done=False))) == [
        TextPiece("Hel"),
        TextPiece("lo\n"),
        TextPiece("```py"),
    ]
    endless = EmulatedAnswer(StreamedAnswer())
    assert list(endless.feed(event_stream("```tool_call" + " " * 60, done=False))) == [
        TextPiece("```tool_call" + " " * 60)
    ]
