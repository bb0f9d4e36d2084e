"""A debug relaxation is one session's, ends by itself, and is in everybody's sight."""

from __future__ import annotations

import pytest

from handshake.kernel.debug_scope import RISKS, Relaxation
from handshake.kernel.errors import GovernanceLocked, InvalidRequest, InvalidTransition, NotFound
from handshake.kernel.ids import SessionId
from handshake.kernel.settings import MAX_DEBUG_SCOPE_S, AutomationLevel
from handshake.kernel.tool import Risk
from handshake.kernel.units import US_PER_S
from handshake.operations import debug_scopes
from tests.requirement import requirement
from tests.running import Stage


async def relax(stage: Stage, session_id: SessionId, for_s: int = 60, level: str = "HYBRID") -> None:
    await stage.store.write(
        lambda tx: debug_scopes.relax(tx, session_id, for_s=for_s, by="ada", level=AutomationLevel(level))
    )


def relaxed(stage: Stage, session_id: SessionId) -> frozenset[Risk]:
    now_us = stage.clock.now_us()
    return stage.store.read_now(lambda reader: debug_scopes.relaxed(reader, session_id, now_us=now_us))


@requirement("trust.debug.scoped")
async def test_it_is_one_sessions_and_ends_by_itself() -> None:
    stage = await Stage.open()
    one, other = await stage.create(), await stage.create()
    await relax(stage, one)
    assert relaxed(stage, one) == frozenset({Risk.LOW, Risk.MEDIUM})
    assert relaxed(stage, other) == frozenset()
    stage.clock.advance(60 * US_PER_S + 1)
    assert relaxed(stage, one) == frozenset()


@requirement("trust.debug.scoped")
async def test_it_is_evented_and_shown_while_it_lasts() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    await relax(stage, session_id)
    (event,) = stage.check().of("trust.debug_scope_opened")
    assert (event.payload["session_id"], event.payload["relaxation"]) == (session_id, "policy_questions")
    assert event.payload["user_id"] == "ada"
    now_us = stage.clock.now_us()
    (shown,) = stage.store.read_now(lambda reader: debug_scopes.open_scopes(reader, now_us=now_us))
    assert (shown.session_id, shown.opened_by) == (session_id, "ada")
    assert 59 * US_PER_S < shown.expires_at_us - now_us <= 60 * US_PER_S


@requirement("trust.debug.scoped")
async def test_it_lasts_over_a_restart_and_no_longer_than_it_was_opened_for() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    await relax(stage, session_id)
    await stage.begin()
    assert relaxed(stage, session_id)
    stage.clock.advance(61 * US_PER_S)
    assert not relaxed(stage, session_id)


async def test_it_can_be_ended_before_its_time_which_is_evented() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    await relax(stage, session_id)
    assert await stage.store.write(lambda tx: debug_scopes.restore(tx, session_id, by="ada"))
    assert relaxed(stage, session_id) == frozenset()
    (event,) = stage.check().of("policy.changed")
    assert (event.payload["key"], event.payload["from"], event.payload["to"]) == (
        "debug_scope",
        "policy_questions",
        None,
    )
    assert not await stage.store.write(lambda tx: debug_scopes.restore(tx, session_id, by="ada"))


async def test_it_is_replaced_by_the_next_one_and_gone_with_its_session() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    await relax(stage, session_id, 60)
    await relax(stage, session_id, 5)
    stage.clock.advance(6 * US_PER_S)
    assert not relaxed(stage, session_id)
    await relax(stage, session_id, 60)
    await stage.batch(stage.completing(session_id))
    now_us = stage.clock.now_us()
    assert stage.store.read_now(lambda reader: debug_scopes.open_scopes(reader, now_us=now_us)) == []
    with pytest.raises(InvalidTransition):
        await relax(stage, session_id)


@requirement("trust.debug.scoped")
async def test_nothing_of_high_risk_is_ever_relaxed_and_nothing_under_locked() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    assert all(Risk.HIGH not in RISKS[one] for one in Relaxation)
    with pytest.raises(GovernanceLocked):
        await relax(stage, session_id, level="LOCKED")
    for for_s in (0, -1, MAX_DEBUG_SCOPE_S + 1):
        with pytest.raises(InvalidRequest):
            await relax(stage, session_id, for_s)
    with pytest.raises(NotFound):
        await relax(stage, SessionId("018f0000-0000-7000-8000-00000000dead"))
    assert stage.check().of("trust.debug_scope_opened") == []
