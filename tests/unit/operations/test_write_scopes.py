"""Sessions that write: each has its scope to itself; the second one is BLOCKED, and goes on when the first is gone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from handshake.kernel.errors import TooLarge
from handshake.kernel.ids import SessionId
from handshake.kernel.session import SessionState
from handshake.kernel.settings import MAX_WRITE_SCOPES
from handshake.operations import records, write_scopes
from handshake.operations.write_scopes import Held
from handshake.ports.store import Tx
from tests.requirement import requirement
from tests.running import Stage


async def take(stage: Stage, session_id: SessionId, *scopes: str) -> SessionId | None:
    """Take scopes as a tool call does; return who holds one of them."""

    def unit(tx: Tx) -> SessionId | None:
        holder = write_scopes.take(tx, records.session(tx, session_id), scopes)
        if holder is not None:
            stage.queue.hold(session_id)
        return holder

    stage.clock.advance(1)
    return await stage.store.write(unit)


def held(stage: Stage, session_id: SessionId) -> Held:
    return stage.store.read_now(lambda reader: write_scopes.held_by(reader, session_id))


def told(stage: Stage, session_id: SessionId, kind: str) -> list[dict[str, object]]:
    return [event.payload for event in stage.check().of(kind) if event.session_id == session_id]


async def some(stage: Stage, count: int) -> Sequence[SessionId]:
    return [await stage.create() for _ in range(count)]


@requirement("gate.workspace.no_overlap")
async def test_the_second_session_is_blocked_and_told_who_holds_the_scope() -> None:
    stage = await Stage.open()
    first, second = await some(stage, 2)
    assert await take(stage, first, "src/**") is None
    assert await take(stage, second, "docs", "src/a.py") == first
    assert held(stage, first) == Held(("src/**",))
    assert held(stage, second) == Held((), waits_for=first)
    assert stage.session(second).state is SessionState.BLOCKED
    (denied,) = told(stage, second, "workspace.denied")
    assert denied == {"holder_session_id": first, "reason": "CX-MM-002", "session_id": second}
    (moved,) = told(stage, second, "session.state_change")
    assert (moved["to_state"], moved["reason"]) == ("BLOCKED", "write_scope_overlap")


@requirement("gate.workspace.no_overlap")
async def test_a_blocked_session_starts_nothing_until_the_holder_ends_and_then_holds_what_it_waited_for() -> None:
    stage = await Stage.open()
    first, second = await some(stage, 2)
    await take(stage, first, "src")
    await take(stage, second, "src")
    job_id = await stage.send(second)
    await stage.look()
    assert stage.performed == []
    await stage.batch(stage.completing(first))
    await stage.look()
    assert [one.job_id for one in stage.performed] == [job_id]
    assert (held(stage, first), held(stage, second)) == (Held(()), Held(("src",)))
    assert [one["reason"] for one in told(stage, second, "session.state_change")][-1] == "write_scope_free"


async def test_those_who_wait_are_let_in_in_the_order_in_which_they_came() -> None:
    stage = await Stage.open()
    first, second, third, fourth = await some(stage, 4)
    await take(stage, first, "src", "docs")
    await take(stage, second, "src/a")
    await take(stage, third, "src")
    await take(stage, fourth, "docs")
    await stage.batch(stage.cancelling_session(first))
    assert [held(stage, one) for one in (second, third, fourth)] == [
        Held(("src/a",)),
        Held((), waits_for=second),
        Held(("docs",)),
    ]
    await stage.batch(stage.completing(second))
    assert held(stage, third) == Held(("src",))
    assert stage.session(third).state is SessionState.CREATED
    stage.check()


async def test_one_that_waits_and_asks_again_is_blocked_once_and_told_each_time() -> None:
    stage = await Stage.open()
    first, second = await some(stage, 2)
    await take(stage, first, "src")
    assert [await take(stage, second, "src"), await take(stage, second, "src")] == [first, first]
    assert stage.session(second).blockers == 1
    assert len(told(stage, second, "workspace.denied")) == 2
    assert len(told(stage, second, "session.state_change")) == 1


async def test_scopes_that_are_apart_keep_nobody_waiting_and_taking_twice_is_the_same() -> None:
    stage = await Stage.open()
    first, second = await some(stage, 2)
    for session_id, scope in ((first, "src"), (second, "docs"), (first, "src"), (first, "tests")):
        assert await take(stage, session_id, scope) is None
    assert held(stage, first) == Held(("src", "tests"))
    assert told(stage, first, "workspace.denied") == []


@requirement("gate.workspace.no_overlap")
async def test_scopes_are_held_and_waited_for_over_a_restart() -> None:
    stage = await Stage.open()
    first, second = await some(stage, 2)
    await take(stage, first, "src")
    await take(stage, second, "src")
    await stage.send(second)
    await stage.begin()
    await stage.look()
    assert stage.performed == []
    assert held(stage, second) == Held((), waits_for=first)
    await stage.batch(stage.cancelling_session(first))
    await stage.look()
    assert len(stage.performed) == 1


async def test_one_that_ends_while_it_waits_leaves_nothing() -> None:
    stage = await Stage.open()
    first, second = await some(stage, 2)
    await take(stage, first, "src")
    await take(stage, second, "src")
    await stage.batch(stage.cancelling_session(second))
    await stage.batch(stage.completing(first))
    assert held(stage, second) == held(stage, first) == Held(())
    stage.check()


async def test_a_session_that_is_paused_as_well_stays_paused() -> None:
    stage = await Stage.open()
    first, second = await some(stage, 2)
    await take(stage, first, "src")
    await take(stage, second, "src")
    await stage.send(second)
    await stage.batch(stage.pausing(second))
    await stage.batch(stage.completing(first))
    await stage.look()
    assert stage.performed == []
    await stage.batch(stage.resuming(second))
    await stage.look()
    assert len(stage.performed) == 1


async def test_more_scopes_than_anybody_needs_are_refused() -> None:
    stage = await Stage.open()
    (first,) = await some(stage, 1)
    with pytest.raises(TooLarge):
        await take(stage, first, *(f"d{n}" for n in range(MAX_WRITE_SCOPES + 1)))
    assert held(stage, first) == Held(())
