"""MCP pins: what servers list is noted whole, only a person approves, and a change is blocked and told."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from handshake.kernel.errors import NotFound, StateConflict, TooLarge
from handshake.kernel.mcp import MAX_MCP_TOOLS, McpListing, read_listing
from handshake.kernel.mcp_pin import Pin, PinState, shown_sha256
from handshake.operations import mcp_pins
from handshake.testing.memory_store import MemoryStore


def listing(*names: str, server: str = "s", **others: Any) -> McpListing:
    entries = [{"name": name, "description": "A tool.", "inputSchema": {"type": "object"}, **others} for name in names]
    return read_listing(server, entries)


async def approve(store: MemoryStore, *, tools: list[str] | None = None) -> list[Pin]:
    shown = shown_sha256(store.read_now(lambda reader: mcp_pins.waiting(reader, "s", tools)))
    return await store.write(lambda tx: mcp_pins.approve_shown(tx, "s", shown=shown, by="ada", tools=tools))


def states(store: MemoryStore) -> dict[str, PinState]:
    return {pin.name: pin.state for pin in store.read_now(mcp_pins.pins)}


def told(store: MemoryStore, kind: str) -> list[dict[str, Any]]:
    rows = store.read_now(
        lambda reader: reader.rows("event_page", {"type": kind, "since_us": 0, "after": 0, "limit": 100})
    )
    return [msgspec.json.decode(row[6])["payload"] for row in rows]  # type: ignore[arg-type]


async def test_what_is_listed_is_new_until_a_person_approves_it() -> None:
    store = MemoryStore()
    await mcp_pins.note(store, "s", listing("a", "b"))
    assert states(store) == {"a": PinState.NEW, "b": PinState.NEW}
    await approve(store, tools=["a"])
    assert states(store) == {"a": PinState.APPROVED, "b": PinState.NEW}
    (pinned, _) = store.read_now(mcp_pins.pinned_tools)
    assert (pinned.pin.decided_by, pinned.pin.revision, pinned.definition.description) == ("ada", 1, "A tool.")
    (event,) = told(store, "policy.changed")
    assert event == {"key": "mcp.s.a", "to": pinned.pin.approved_sha256, "user_id": "ada", "from": None}


async def test_a_change_blocks_the_tool_is_told_once_and_leaves_both_definitions() -> None:
    store = MemoryStore()
    await mcp_pins.note(store, "s", listing("a"))
    await approve(store)
    for _ in range(2):
        await mcp_pins.note(store, "s", listing("a", description="Another."))
    assert states(store) == {"a": PinState.CHANGED}
    assert [(one["action_taken"], one["trigger"]) for one in told(store, "security_violation")] == [
        ("blocked", "mcp.s.a")
    ]
    (approved,) = store.read_now(mcp_pins.pinned_tools)
    (seen,) = store.read_now(lambda reader: mcp_pins.pinned_tools(reader, "s", seen=True))
    assert (approved.definition.description, seen.definition.description) == ("A tool.", "Another.")
    await mcp_pins.note(store, "s", listing("a"))
    assert states(store) == {"a": PinState.CHANGED}, "going back does not unblock"
    await approve(store)
    assert states(store) == {"a": PinState.APPROVED}
    assert len(told(store, "policy.changed")) == 2


async def test_a_name_that_becomes_another_with_the_same_id_is_a_change() -> None:
    store = MemoryStore()
    await mcp_pins.note(store, "s", listing("get.it"))
    await approve(store)
    await mcp_pins.note(store, "s", listing("get_it"))
    assert states(store) == {"get_it": PinState.CHANGED}


async def test_the_same_listing_writes_nothing() -> None:
    store = MemoryStore()
    first = await mcp_pins.note(store, "s", listing("a"))
    assert await mcp_pins.note(store, "s", listing("a")) == first


async def test_what_was_shown_otherwise_is_not_approved() -> None:
    store = MemoryStore()
    await mcp_pins.note(store, "s", listing("a"))
    shown = shown_sha256(store.read_now(lambda reader: mcp_pins.waiting(reader, "s")))
    await mcp_pins.note(store, "s", listing("a", description="Another."))
    with pytest.raises(StateConflict):
        await store.write(lambda tx: mcp_pins.approve_shown(tx, "s", shown=shown, by="ada"))
    assert states(store) == {"a": PinState.NEW}
    assert told(store, "policy.changed") == []


async def test_there_must_be_something_to_approve() -> None:
    store = MemoryStore()
    await mcp_pins.note(store, "s", listing("a"))
    with pytest.raises(NotFound):
        store.read_now(lambda reader: mcp_pins.waiting(reader, "s", ["b"]))
    with pytest.raises(NotFound):
        store.read_now(lambda reader: mcp_pins.waiting(reader, "other"))
    await approve(store)
    with pytest.raises(NotFound):
        store.read_now(lambda reader: mcp_pins.waiting(reader, "s"))


async def test_servers_have_pins_of_their_own_and_what_nobody_approved_is_forgotten() -> None:
    store = MemoryStore()
    await mcp_pins.note(store, "s", listing("a", "b"))
    await mcp_pins.note(store, "t", listing("a", server="t"))
    await approve(store, tools=["a"])
    await mcp_pins.note(store, "s", listing("c"))
    found = store.read_now(mcp_pins.pins)
    assert [(one.tool_id, one.state.value) for one in found] == [
        ("mcp.s.a", "approved"),
        ("mcp.s.c", "new"),
        ("mcp.t.a", "new"),
    ]


async def test_pins_of_one_server_are_bounded() -> None:
    store = MemoryStore()
    for first in range(0, 2 * MAX_MCP_TOOLS, MAX_MCP_TOOLS):
        await mcp_pins.note(store, "s", listing(*(f"t{first + number}" for number in range(MAX_MCP_TOOLS))))
        await approve(store)
    with pytest.raises(TooLarge):
        await mcp_pins.note(store, "s", listing("another"))
