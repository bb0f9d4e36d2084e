"""Names of tools on the wire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handshake.kernel.errors import InvalidRequest
from handshake.kernel.tool_name import is_wire_name, sendable_name, tool_ids_of, wire_name

tool_ids = st.from_regex(r"[a-z0-9_]{1,12}(\.[a-z0-9_]{1,30}){1,4}", fullmatch=True)


def test_a_plain_id_is_spelled_with_two_underlines() -> None:
    assert wire_name("workspace.file.read") == "workspace__file__read"
    assert wire_name("mcp.my_server.get_time") == "mcp__my_server__get_time"


@pytest.mark.parametrize("tool_id", ["a.b__c", "a._b", "a_.b", "_a.b", "a.b_", "a." + "b" * 62, "A.b", "a.b c", "a.ü"])
def test_what_is_ambiguous_long_or_foreign_ends_in_a_hash(tool_id: str) -> None:
    name = wire_name(tool_id)
    assert is_wire_name(name)
    assert name[-13] == "-"
    assert len(name) <= 64


@given(st.lists(tool_ids, max_size=6, unique=True))
def test_names_are_read_back(ids: list[str]) -> None:
    assert tool_ids_of(ids) == {wire_name(tool_id): tool_id for tool_id in ids}
    assert sorted(tool_ids_of(ids).values()) == sorted(ids)


@given(tool_ids, st.text(max_size=80))
def test_every_name_is_one_that_providers_take(tool_id: str, written: str) -> None:
    assert is_wire_name(wire_name(tool_id))
    assert is_wire_name(sendable_name(written))
    assert sendable_name(wire_name(tool_id)) == wire_name(tool_id)


def test_ids_that_look_alike_have_names_of_their_own() -> None:
    alike = ["a.b__c", "a.b.c", "a._b.c", "a_.b.c", "x." + "y" * 70, "x." + "y" * 71]
    assert len(tool_ids_of(alike)) == len(alike)


def test_one_tool_may_be_named_twice() -> None:
    assert tool_ids_of(["a.b", "a.b"]) == {"a__b": "a.b"}


def test_two_tools_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handshake.kernel.tool_name._MARK_CHARS", 0)
    with pytest.raises(InvalidRequest) as refused:
        tool_ids_of(["x." + "y" * 70, "x." + "y" * 71])
    assert refused.value.context == {"field": "tools", "reason": "same_name"}
