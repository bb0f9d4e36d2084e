"""Contents of messages of tools."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handshake.kernel.errors import IntegrityBroken, InvalidRequest
from handshake.kernel.tool_message import CalledTool, ToolAnswer, answer_content, call_content, read_answer, read_call
from tests.requirement import requirement

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@requirement("message.thread.rebuilds_same_bytes")
@given(texts, texts, texts)
def test_a_call_is_read_as_it_was_written(call_id: str, name: str, arguments: str) -> None:
    call = CalledTool(call_id, name, arguments)
    written = call_content(call)
    assert read_call(written.decode()) == call
    assert call_content(read_call(written.decode())) == written


@requirement("message.thread.rebuilds_same_bytes")
@given(texts, texts, st.booleans())
def test_an_answer_is_read_as_it_was_written(call_id: str, content: str, is_error: bool) -> None:
    answer = ToolAnswer(call_id, content, is_error)
    written = answer_content(answer)
    assert read_answer(written.decode()) == answer
    assert answer_content(read_answer(written.decode())) == written


def test_contents_have_one_byte_form_and_keep_their_strings() -> None:
    assert call_content(CalledTool("c1", "a__b", '{ "e\u0301": 1 }')) == (
        '{"arguments":"{ \\"e\u0301\\": 1 }","name":"a__b","tool_call_id":"c1"}'.encode()
    )
    assert answer_content(ToolAnswer("c1", "e\u0301", is_error=True)) == (
        '{"content":"e\u0301","is_error":true,"tool_call_id":"c1"}'.encode()
    )


def test_a_lone_surrogate_has_no_bytes() -> None:
    with pytest.raises(InvalidRequest):
        call_content(CalledTool("c1", "a__b", "\ud800"))
    with pytest.raises(InvalidRequest):
        answer_content(ToolAnswer("c1", "\ud800", is_error=False))


@pytest.mark.parametrize("text", ["", "42", "{}", '{"content":"x","is_error":0,"tool_call_id":"c"}', "[" * 100_000])
def test_other_contents_are_not_ours(text: str) -> None:
    for read in (read_call, read_answer):
        with pytest.raises(IntegrityBroken) as broken:
            read(text)
        assert broken.value.context == {"subject": "message", "reason": "not_a_tool_message"}


def test_a_member_more_is_not_ours() -> None:
    with pytest.raises(IntegrityBroken):
        read_call('{"arguments":"{}","name":"a","tool_call_id":"c","x":1}')
