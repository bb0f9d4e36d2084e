"""MCP session: what an unmodified client of the official SDK sees of a session's tools, and how refusals reach it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
from mcp import Client

from handshake.kernel.catalogue.tools import ToolFaultKind
from handshake.kernel.errors import StateConflict
from handshake.kernel.htc import CallError, CallResources, CallTiming, ToolResponse
from handshake.kernel.tool_registry import ToolListing
from handshake.server.mcp_session import ERROR_META, KEY_META, PAGE_TOOLS, mcp_server

OBJECT: dict[str, Any] = {"type": "object", "properties": {"x": {"type": "integer"}}}
TIMING = CallTiming(started_at="", ended_at="", duration_ms=1)


def result(**value: Any) -> ToolResponse:
    return ToolResponse(
        tool_call_id="c", trace_id=None, ok=True, result=value, timing=TIMING, resources=CallResources()
    )


def refused(code: str, **details: Any) -> ToolResponse:
    error = CallError(code=code, kind=ToolFaultKind.POLICY, message="No.", retryable=True, details=details)
    return ToolResponse(
        tool_call_id="c", trace_id=None, ok=False, error=error, timing=TIMING, resources=CallResources()
    )


class Tools:
    """Tools whose answer is given."""

    def __init__(self, count: int, answer: ToolResponse) -> None:
        self.count = count
        self.given = answer
        self.calls: list[tuple[str, dict[str, Any], str, str | None]] = []

    async def listings(self) -> Sequence[ToolListing]:
        return [ToolListing(f"tool.n{number:03}", "A tool.", OBJECT, OBJECT) for number in range(self.count)]

    async def call(self, tool_id: str, args: dict[str, Any], *, client: str, key: str | None) -> ToolResponse:
        self.calls.append((tool_id, args, client, key))
        return self.given


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_client_lists_and_calls(mode: str) -> None:
    tools = Tools(2, result(x=1))
    async with Client(mcp_server(tools, "1"), mode=mode) as client:
        listed = await client.list_tools()
        assert [(one.name, one.input_schema, one.output_schema) for one in listed.tools] == [
            ("tool.n000", OBJECT, OBJECT),
            ("tool.n001", OBJECT, OBJECT),
        ]
        answer = await client.call_tool("tool.n000", {"x": 2}, meta=cast(Any, {KEY_META: "key"}))
    assert (answer.structured_content, answer.is_error) == ({"x": 1}, False)
    assert answer.content[0].text == '{"x":1}'  # type: ignore[union-attr]
    assert tools.calls == [("tool.n000", {"x": 2}, "mcp", "key")]


async def test_a_long_listing_comes_in_pages_each_tool_once() -> None:
    async with Client(mcp_server(Tools(2 * PAGE_TOOLS + 1, result()), "1")) as client:
        names: list[str] = []
        cursor = None
        for _ in range(3):
            page = await client.list_tools(cursor=cursor)
            names += [one.name for one in page.tools]
            cursor = page.next_cursor
    assert cursor is None
    assert names == sorted(set(names))
    assert len(names) == 2 * PAGE_TOOLS + 1


async def test_a_call_that_waits_names_the_approval_and_a_refusal_is_data_too() -> None:
    async with Client(mcp_server(Tools(1, refused("approval_required", approval_id="the-id")), "1")) as client:
        answer = await client.call_tool("tool.n000", {})
    assert answer.is_error
    said = answer.content[0].text  # type: ignore[union-attr]
    assert said == "approval_required: No. Look at it: handshake approval show the-id"
    assert answer.meta is not None
    assert answer.meta[ERROR_META]["details"] == {"approval_id": "the-id"}
    async with Client(mcp_server(Tools(1, refused("HSK-403-CAPABILITY", missing=["fs.read:x"])), "1")) as client:
        answer = await client.call_tool("tool.n000", {})
    assert answer.is_error
    assert answer.content[0].text == "HSK-403-CAPABILITY: No."  # type: ignore[union-attr]


class Taken(Tools):
    """Tools of a workspace that somebody else holds."""

    async def call(self, tool_id: str, args: dict[str, Any], *, client: str, key: str | None) -> ToolResponse:
        raise StateConflict(reason="workspace_in_use")


async def test_what_the_workspace_refuses_is_an_answer_with_its_code() -> None:
    async with Client(mcp_server(Taken(1, result()), "1")) as client:
        answer = await client.call_tool("tool.n000", {})
    assert answer.is_error
    assert answer.meta is not None
    assert answer.meta[ERROR_META]["code"] == "HSK-409-CONFLICT"
