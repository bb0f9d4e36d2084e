"""MCP pins: only a person approves a definition, and a changed one stays blocked until a person approves it again."""

from __future__ import annotations

import pytest

from handshake.kernel.errors import InvalidTransition, StateConflict
from handshake.kernel.mcp_pin import TRANSITIONS, Pin, PinState, approve, require_shown, see, shown_sha256

FIRST, SECOND = "1" * 64, "2" * 64


def pin(**changes: object) -> Pin:
    values: dict[str, object] = {
        "server": "s",
        "name": "search",
        "tool_id": "mcp.s.search",
        "state": PinState.NEW,
        "seen_sha256": FIRST,
        "approved_sha256": None,
        "revision": 0,
        "seen_at_us": 1,
        "decided_at_us": None,
        "decided_by": None,
    }
    return Pin(**{**values, **changes})  # type: ignore[arg-type]


def approved() -> Pin:
    return approve(pin(), by="ada", now_us=2)


def test_a_new_definition_is_not_approved_by_being_seen_again() -> None:
    seen = see(see(pin(), FIRST, now_us=2), SECOND, now_us=3)
    assert (seen.state, seen.seen_sha256, seen.approved_sha256, seen.seen_at_us) == (PinState.NEW, SECOND, None, 3)


def test_a_person_approves_what_was_seen_last() -> None:
    found = approve(see(pin(), SECOND, now_us=2), by="ada", now_us=3)
    assert (found.state, found.approved_sha256, found.revision) == (PinState.APPROVED, SECOND, 1)
    assert (found.decided_by, found.decided_at_us) == ("ada", 3)
    with pytest.raises(InvalidTransition):
        approve(found, by="ada", now_us=4)


def test_an_approved_definition_that_stays_the_same_stays_approved() -> None:
    assert see(approved(), FIRST, now_us=9).state is PinState.APPROVED


def test_a_changed_definition_is_blocked_until_a_person_approves_it_again() -> None:
    changed = see(approved(), SECOND, now_us=3)
    assert (changed.state, changed.approved_sha256) == (PinState.CHANGED, FIRST)
    assert see(changed, SECOND, now_us=4).state is PinState.CHANGED
    again = approve(changed, by="ben", now_us=5)
    assert (again.state, again.approved_sha256, again.revision) == (PinState.APPROVED, SECOND, 2)


def test_going_back_to_what_was_approved_does_not_undo_the_block() -> None:
    assert see(see(approved(), SECOND, now_us=3), FIRST, now_us=4).state is PinState.CHANGED


def test_the_table_is_closed() -> None:
    assert set(TRANSITIONS) == set(PinState)
    assert set().union(*TRANSITIONS.values()) == {PinState.APPROVED, PinState.CHANGED}


def test_an_approval_is_bound_to_the_tools_and_definitions_that_were_shown() -> None:
    other = pin(name="get", tool_id="mcp.s.get")
    shown = shown_sha256([pin(), other])
    assert shown == shown_sha256([other, pin()])
    require_shown([pin(), other], shown, server="s")
    for changed in ([pin()], [pin(seen_sha256=SECOND), other], []):
        with pytest.raises(StateConflict) as refused:
            require_shown(changed, shown, server="s")
        assert refused.value.context == {"server": "s", "reason": "shown_differs"}
