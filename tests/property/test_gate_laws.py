"""Laws of the gate: whatever comes, it answers once, tells of it once, and only what was allowed reached the tool."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from handshake.gate.tool_gate import Origin
from handshake.kernel.catalogue.tools import Transport
from handshake.kernel.containment import covers
from handshake.kernel.grant import Use
from tests.gating import Door
from tests.requirement import requirement

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    [
        "src",
        "docs",
        "a.py",
        "..",
        ".",
        "",
        "*",
        "**",
        "~",
        ".handshake",
        ".git",
        "config",
        "SRC",
        "s\u200drc",
        "ſrc",
        "a b",
    ]
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join) | st.text(max_size=10)
ARGS = st.fixed_dictionaries({"path": PATHS}, optional={"text": st.text(max_size=5), "amount": st.integers()}) | JSON
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "tool_id": st.sampled_from(["notes.write", "notes.none", "Notes", "a.b\n"]),
        "tool_version": st.sampled_from(["1.0.0", "1.0", "2.0.0"]),
        "idempotency_key": st.sampled_from(["k", "l", ""]),
        "tool_call_id": st.sampled_from(["one", "two", "", "a b"]),
        "dry_run": st.booleans(),
        "actor": st.sampled_from([{"kind": "human"}, {"kind": "agent", "agent_id": "\u2028x"}, {"kind": "root"}]),
        "extra": st.just(1),
    },
)
CALLS = st.lists(st.tuples(st.integers(0, 3), ARGS, CHANGES, st.sampled_from(Transport)), min_size=1, max_size=6)


def encodable(value: Any) -> bool:
    try:
        msgspec.json.encode(value)
    except (UnicodeEncodeError, ValueError, TypeError, OverflowError):
        return False
    return True


async def check_laws(calls: list[tuple[int, Any, dict[str, Any], Transport]]) -> None:
    door = await Door.open()
    sessions = [
        await door.session(),
        await door.session("fs.write:src/**"),
        await door.session("fs.write:docs/*"),
    ]
    door.policy.grant(sessions[2], "fs.write:out/**", use=Use.ASK)
    answers: list[bool] = []
    for number, args, changes, transport in calls:
        if not encodable(args):
            continue
        session = sessions[number] if number < len(sessions) else None
        envelope = door.envelope(session, **{"args": args} | changes)
        origin = Origin(transport=transport)
        asked, verdict = await door.gate.explain(envelope, origin)
        before = len(door.tool.calls)
        response = await door.gate.call(envelope, origin)
        answers.append(response.ok)
        reached = len(door.tool.calls) - before
        assert response.ok is (verdict.decision == "allow")
        assert reached == (response.ok and not asked.dry_run and verdict.recorded_seq is None)
        if reached:
            held = [one.capability for one in door.policy.grants[sessions[number]]]
            assert asked.needed
            assert all(any(covers(one, wanted.capability) for one in held) for wanted in asked.needed)
            assert door.tool.calls[-1][1] == args
    assert [one["ok"] for one in door.told("tool_call")] == answers


@requirement("gate.event.on_every_path", "capability.explain.equals_gate", "gate.arguments.are_strict")
@settings(max_examples=40)
@given(CALLS)
def test_every_call_is_answered_told_of_and_explained_alike(
    calls: list[tuple[int, Any, dict[str, Any], Transport]],
) -> None:
    asyncio.run(check_laws(calls))


@requirement("gate.envelope.validated_both_ways")
@settings(max_examples=40)
@given(st.binary(max_size=60) | JSON.filter(encodable).map(msgspec.json.encode))
def test_what_is_no_request_is_answered_as_one_that_is_none(data: bytes) -> None:
    async def sent() -> None:
        door = await Door.open()
        response = await door.gate.call(data, Origin(transport=Transport.OTHER))
        assert not response.ok
        assert [one["error"]["code"] for one in door.told("tool_call")] == ["VAL-HTC-001"]

    asyncio.run(sent())
