"""MCP pins: what servers list is noted, and what a person approves is pinned; changes are units of work.

Source:
    gate.mcp.definition_pinned (02 §5).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from handshake.kernel.catalogue import PolicyChanged, SecurityViolation
from handshake.kernel.errors import NotFound, TooLarge
from handshake.kernel.event import Actor, Context
from handshake.kernel.ids import ArtifactId
from handshake.kernel.mcp import (
    MAX_MCP_TOOLS,
    McpDefinition,
    McpListing,
    definition_bytes,
    definition_sha256,
    parse_definition,
)
from handshake.kernel.mcp_pin import Pin, PinState, approve, require_shown, see
from handshake.kernel.mcp_tool import PinnedTool
from handshake.ports.store import Content, Reader, Row, Store, Tx

MAX_PINS_PER_SERVER = 2 * MAX_MCP_TOOLS
"""Pins of one server: what it lists, and as much that was approved once and is listed no more."""
_JSON = "application/json"


async def note(store: Store, server: str, listing: McpListing) -> list[Pin]:
    """Keep what a server listed, and return its pins; what changed since it was approved is blocked by this commit.

    Raises:
        TooLarge: the server has had more tools than pins are kept of.
        StoreFailed: it is not kept.
    """
    contents = [await store.prepare(definition_bytes(one), _JSON) for one in listing.definitions]
    return await store.write(lambda tx: take(tx, server, listing.definitions, contents), outcome=True)


def take(tx: Tx, server: str, definitions: Sequence[McpDefinition], contents: Sequence[Content]) -> list[Pin]:
    """Note the definitions that a server listed; `contents` are their bytes, in the same order.

    Raises:
        TooLarge: as `note`.
    """
    known = {pin.tool_id: pin for pin in pins(tx, server)}
    listed = {one.tool_id for one in definitions}
    for pin in known.values():
        if pin.state is PinState.NEW and pin.tool_id not in listed:
            tx.run("mcp_pin_forget", {"tool_id": pin.tool_id})
    kept = sum(1 for pin in known.values() if pin.state is not PinState.NEW and pin.tool_id not in listed)
    if kept + len(listed) > MAX_PINS_PER_SERVER:
        raise TooLarge(field="tools", server=server, limit=MAX_PINS_PER_SERVER)
    for one, content in zip(definitions, contents, strict=True):
        before = known.get(one.tool_id)
        after = _seen(before or _new(one, tx.now_us), one, tx.now_us)
        if before is None or before.seen_sha256 != after.seen_sha256 or before.state is not after.state:
            tx.put(content)
            _put(tx, after)
        if before is not None and before.state is not after.state:
            blocked = SecurityViolation(
                action_taken="blocked",
                guard_name="mcp.definition_pin",
                trigger=after.tool_id,
                violation_type="definition_changed",
            )
            tx.append(blocked, Context())
    return pins(tx, server)


def approve_shown(tx: Tx, server: str, *, shown: str, by: str, tools: Sequence[str] | None = None) -> list[Pin]:
    """Approve the definitions of a server's tools as they were shown to a person; return the pins.

    Args:
        tx: the unit's transaction.
        server: its name.
        shown: SHA-256 of what the person was shown (`kernel.mcp_pin.shown_sha256`).
        by: who approves.
        tools: names of the tools as the server spells them; None is all that are not approved.

    Raises:
        NotFound: there is no such tool, or none to approve.
        StateConflict: something else was shown.
    """
    before = waiting(tx, server, tools)
    require_shown(before, shown, server=server)
    after = [approve(pin, by=by, now_us=tx.now_us) for pin in before]
    for old, new in zip(before, after, strict=True):
        _put(tx, new)
        told = PolicyChanged(from_=old.approved_sha256, key=new.tool_id, to=new.approved_sha256, user_id=by)
        tx.append(told, Context(actor=Actor.HUMAN, actor_id=by))
    return after


def waiting(reader: Reader, server: str, tools: Sequence[str] | None = None) -> list[Pin]:
    """Return the pins of a server's tools that a person may approve.

    Raises:
        NotFound: there are none, or none of one of these names.
    """
    open_ = [pin for pin in pins(reader, server) if pin.state is not PinState.APPROVED]
    named = set(tools or ())
    found = [pin for pin in open_ if tools is None or pin.name in named]
    missing = named - {pin.name for pin in found}
    if missing or not found:
        hint = "handshake mcp list shows the tools of each server, and which are approved."
        raise NotFound(kind="mcp_tool", server=server, tools=sorted(missing), hint=hint)
    return found


def pins(reader: Reader, server: str | None = None) -> list[Pin]:
    """Return the pins of one server, or of all, in the order of the tools' ids."""
    found: list[Pin] = []
    after = ""
    while True:
        filters = {"server": server, "after": after, "limit": MAX_PINS_PER_SERVER}
        page = [_pin(row) for row in reader.rows("mcp_pin_page", filters)]
        found += page
        if len(page) < MAX_PINS_PER_SERVER:
            return found
        after = page[-1].tool_id


def pinned_tools(reader: Reader, server: str | None = None, *, seen: bool = False) -> list[PinnedTool]:
    """Return pins with their definitions, in the order of the tools' ids.

    Args:
        reader: where they are read.
        server: whose; None is all.
        seen: whether the definitions are those that were seen last, also where others were approved.

    Raises:
        IntegrityBroken: a definition is not what its hash says.
        NotFound: a definition is missing.
    """
    return [PinnedTool(pin, _definition(reader, pin, seen=seen)) for pin in pins(reader, server)]


def _definition(reader: Reader, pin: Pin, *, seen: bool) -> McpDefinition:
    sha256 = pin.seen_sha256 if seen or pin.approved_sha256 is None else pin.approved_sha256
    data = reader.artifact(ArtifactId(sha256))
    if data is None:
        raise NotFound(kind="artifact", artifact_id=sha256)
    return parse_definition(pin.server, data)


def _new(one: McpDefinition, now_us: int) -> Pin:
    return Pin(
        server=one.server,
        name=one.name,
        tool_id=one.tool_id,
        state=PinState.NEW,
        seen_sha256="",
        approved_sha256=None,
        revision=0,
        seen_at_us=now_us,
        decided_at_us=None,
        decided_by=None,
    )


def _seen(pin: Pin, one: McpDefinition, now_us: int) -> Pin:
    """Return the pin after its definition was listed; a name that is spelled anew is part of the definition."""
    return msgspec.structs.replace(see(pin, definition_sha256(one), now_us=now_us), name=one.name)


def _put(tx: Tx, pin: Pin) -> None:
    tx.run("mcp_pin_put", {**msgspec.structs.asdict(pin), "state": pin.state.value})


def _pin(row: Row) -> Pin:
    return msgspec.convert(dict(zip(Pin.__struct_fields__, row, strict=True)), Pin)
