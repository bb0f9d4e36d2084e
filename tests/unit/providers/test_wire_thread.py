"""Threads as they are sent: calls at their texts, an answer for each call."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handshake.kernel.errors import InvalidRequest, TooLarge
from handshake.kernel.message import MessageRole
from handshake.kernel.tool_message import CalledTool, ToolAnswer, answer_content, call_content
from handshake.ports.model import ThreadMessage, ToolSchema
from handshake.providers.wire_thread import NO_RESULT, Said, ordered_tools, sendable_arguments, spoken

USER = ThreadMessage(MessageRole.USER, "What is there?")


def text(said: str) -> ThreadMessage:
    return ThreadMessage(MessageRole.ASSISTANT, said)


def call(call_id: str) -> ThreadMessage:
    return ThreadMessage(MessageRole.TOOL_CALL, call_content(CalledTool(call_id, "a__b", "{}")).decode())


def result(call_id: str, content: str = "x") -> ThreadMessage:
    return ThreadMessage(MessageRole.TOOL_RESULT, answer_content(ToolAnswer(call_id, content, is_error=False)).decode())


def called(*call_ids: str) -> tuple[CalledTool, ...]:
    return tuple(CalledTool(call_id, "a__b", "{}") for call_id in call_ids)


def test_a_thread_without_tools_stays_as_it_is() -> None:
    thread = [ThreadMessage(MessageRole.SYSTEM, "s"), USER, text("a"), USER]
    assert spoken(thread) == [Said(message.role, message.text) for message in thread]


def test_calls_stand_at_their_text_and_answers_in_their_order() -> None:
    thread = [USER, text("I look."), call("1"), call("2"), result("2", "two"), result("1", "one"), text("Done.")]
    assert spoken(thread) == [
        Said(MessageRole.USER, USER.text),
        Said(MessageRole.ASSISTANT, "I look.", called("1", "2")),
        ToolAnswer("1", "one", is_error=False),
        ToolAnswer("2", "two", is_error=False),
        Said(MessageRole.ASSISTANT, "Done."),
    ]


def test_calls_may_come_without_a_text() -> None:
    assert spoken([call("1"), result("1")])[0] == Said(MessageRole.ASSISTANT, "", called("1"))


def test_an_id_may_come_again_in_a_later_answer() -> None:
    thread = [text(""), call("1"), result("1", "one"), text(""), call("1"), result("1", "two")]
    answers = [one for one in spoken(thread) if isinstance(one, ToolAnswer)]
    assert [one.content for one in answers] == ["one", "two"]


def test_a_call_without_a_result_is_told_so() -> None:
    said = spoken([text(""), call("1"), call("2"), result("2"), USER])
    assert said[1:3] == [ToolAnswer("1", NO_RESULT, is_error=True), ToolAnswer("2", "x", is_error=False)]
    assert said[3] == Said(MessageRole.USER, USER.text)


@pytest.mark.parametrize(
    ("thread", "reason"),
    [
        ([result("1")], "result_without_call"),
        ([USER, result("1")], "result_without_call"),
        ([text(""), call("1"), result("2")], "result_without_call"),
        ([text(""), call("1"), result("1"), result("1")], "result_without_call"),
        ([text(""), call("1"), result("1"), USER, result("1")], "result_without_call"),
        ([text(""), call("1"), call("1")], "same_call_id"),
    ],
)
def test_what_does_not_correlate_is_refused(thread: list[ThreadMessage], reason: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        spoken(thread)
    assert refused.value.context == {"field": "thread", "reason": reason}


def test_tools_are_sent_in_the_order_of_their_names() -> None:
    tools = [ToolSchema(name, "d", {"type": "object"}) for name in ("b", "a", "c")]
    assert [tool.name for tool in ordered_tools(tools)] == ["a", "b", "c"]


def test_tools_that_no_provider_takes_are_refused() -> None:
    tool = ToolSchema("a", "d", {})
    for tools in ([tool, tool], [ToolSchema("a.b", "d", {})], [ToolSchema("", "d", {})]):
        with pytest.raises(InvalidRequest):
            ordered_tools(tools)
    with pytest.raises(TooLarge):
        ordered_tools([ToolSchema(f"t{number}", "d", {}) for number in range(1_001)])


@given(st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.just('{ "a": 1.0 }'), st.just("[" * 100_000)))
def test_arguments_are_an_object_when_they_are_sent_again(arguments: str) -> None:
    sent = sendable_arguments(arguments)
    assert isinstance(json.loads(sent), dict)
    assert sent == arguments or json.loads(sent) == {"unreadable": arguments}
    assert sendable_arguments('{ "b": 1.0, "a": 2 }') == '{ "b": 1.0, "a": 2 }'
