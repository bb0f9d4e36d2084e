"""Audit: pages of the log in both directions, single events, and signing on demand."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from handshake.kernel.catalogue import SecurityViolation
from handshake.kernel.checkpoint import verify_checkpoint
from handshake.kernel.errors import IntegrityBroken, InvalidRequest, NotFound
from handshake.kernel.event import Context
from handshake.kernel.ids import ModelId, ProviderId, SessionId, uuid7
from handshake.kernel.job import Backend
from handshake.kernel.lane import Lane
from handshake.kernel.merkle import leaf_hash
from handshake.kernel.session import ExecutionMode, MemoryPolicy, ParameterClass
from handshake.kernel.settings import DEFAULT_PAGE_ITEMS, MAX_PAGE_ITEMS
from handshake.kernel.units import MAX_SAFE_INTEGER, US_PER_S
from handshake.operations import audit, sessions
from handshake.operations.audit import EventView
from handshake.ports.store import Tx
from handshake.storage.signing import verify
from handshake.testing.memory_store import MemoryStore
from handshake.testing.virtual_clock import START_US, VirtualClock
from tests.requirement import requirement

VIOLATION = SecurityViolation(action_taken="refused", guard_name="test", trigger="count", violation_type="none")
STEP_US = 10 * US_PER_S


def session_id(number: int) -> SessionId:
    return SessionId(uuid7(START_US, number))


def new_session(number: int) -> sessions.NewSession:
    return sessions.NewSession(
        session_id=session_id(number), model_id=ModelId("m"), provider_id=ProviderId("p"), backend=Backend.LOCAL,
        role="coder", memory_policy=MemoryPolicy.EPHEMERAL, lane=Lane.PRIMARY, wp_id=None, mt_id=None,
        execution_mode=ExecutionMode.MULTI_MODEL_PARALLEL, parameter_class=ParameterClass.UNKNOWN, title=None,
    )  # fmt: skip


async def written(events: int) -> MemoryStore:
    """Return a store with an event every `STEP_US`, of which every fifth is a session's."""
    clock = VirtualClock()
    store = MemoryStore(clock=clock)
    for number in range(1, events + 1):
        if number % 5 == 0:
            await store.write(partial(sessions.create, new=new_session(number), max_open=100))
        else:
            await store.write(lambda tx: tx.append(VIOLATION, Context()))
        clock.advance(STEP_US)
    return store


def page(store: MemoryStore, **filters: Any) -> list[EventView]:
    return store.read_now(partial(audit.events, **filters))


def seqs(found: list[EventView]) -> list[int]:
    return [one.seq for one in found]


async def test_pages_follow_one_another_without_gap_or_overlap() -> None:
    store = await written(130)
    size = store.read_now(audit.end)
    assert size > 130
    up: list[int] = []
    while found := page(store, after=up[-1] if up else 0, limit=7):
        up += seqs(found)
    down: list[int] = []
    while found := page(store, after=down[-1] if down else 0, limit=7, newest_first=True):
        down += seqs(found)
    assert up == list(range(1, size + 1))
    assert down == up[::-1]


async def test_page_is_bounded() -> None:
    store = await written(DEFAULT_PAGE_ITEMS + 10)
    assert len(store.read_now(audit.events)) == DEFAULT_PAGE_ITEMS
    for wrong in (0, MAX_PAGE_ITEMS + 1):
        with pytest.raises(InvalidRequest):
            page(store, limit=wrong)


async def test_tail_gives_what_was_added() -> None:
    store = await written(10)
    seen = store.read_now(audit.end)
    assert page(store, after=seen) == []
    await store.write(lambda tx: tx.append(VIOLATION, Context()))
    assert page(store, after=seen)[0].type == "security_violation"


@pytest.mark.parametrize("newest_first", [False, True])
async def test_filters_hold_together(newest_first: bool) -> None:
    store = await written(60)
    since_us = START_US + 30 * STEP_US

    look = partial(page, store, newest_first=newest_first, limit=1_000)
    everything = look()
    order = sorted(seqs(everything), reverse=newest_first)
    assert seqs(everything) == order
    assert seqs(look(type="session.created")) == [one.seq for one in everything if one.type == "session.created"]
    mine = look(session_id=session_id(40))
    assert seqs(mine) == [one.seq for one in everything if one.session_id == session_id(40)]
    assert len(mine) == 1
    late = look(since_us=since_us)
    assert 0 < len(late) < len(everything)
    assert {one.at >= "2026-01-01T00:05:00.000000Z" for one in late} == {True}
    assert look(session_id=session_id(10), since_us=since_us) == []
    assert look(session_id=session_id(40), type="session.created", since_us=since_us) == mine
    assert look(session_id=session_id(40), type="security_violation") == []


async def test_event_is_shown_as_it_is_hashed() -> None:
    store = await written(5)
    shown = store.read_now(lambda reader: audit.event(reader, 5))
    body = store.opened.db.execute("SELECT body FROM event WHERE seq = 5").fetchall()[0][0]
    assert isinstance(body, bytes)
    assert shown.hash == leaf_hash(body).hex()
    assert (shown.seq, shown.event["seq"], shown.event["type"], shown.event["timestamp"]) == (
        5, 5, shown.type, shown.at,
    )  # fmt: skip
    assert [shown] == page(store, after=4, limit=1)


@pytest.mark.parametrize("seq", [0, -1, 1_000, MAX_SAFE_INTEGER, 2**70])
async def test_event_that_is_not_there(seq: int) -> None:
    store = await written(3)
    with pytest.raises(NotFound):
        store.read_now(lambda reader: audit.event(reader, seq))


@pytest.mark.parametrize("body", [b'{"seq":2}', b"", b'{"timestamp"'])
async def test_event_whose_bytes_were_altered_is_not_shown(body: bytes) -> None:
    store = await written(3)
    db = store.opened.db
    db.execute("UPDATE event SET body = ? WHERE seq = 2", (body,)).fetchall()
    for _ in range(2):
        with pytest.raises(IntegrityBroken) as caught:
            store.read_now(lambda reader: audit.event(reader, 2))
        assert caught.value.context["seq"] == 2
        db.execute("UPDATE event SET hash = ? WHERE seq = 2", (leaf_hash(body),)).fetchall()


async def test_what_cannot_be_asked_is_refused_with_a_hint() -> None:
    store = await written(1)
    for filters, field in (
        ({"after": -1}, "after"), ({"after": 2**60}, "after"), ({"since_us": -1}, "since_us"), ({"type": "x"}, "type"),
    ):  # fmt: skip
        with pytest.raises(InvalidRequest) as caught:
            page(store, **filters)
        assert caught.value.context["field"] == field
    with pytest.raises(InvalidRequest) as caught:
        page(store, type="session.creatd")
    assert "session.created" in caught.value.hint
    with pytest.raises(NotFound):
        page(store, session_id=session_id(99))


@requirement("recorder.checkpoint.signed")
async def test_checkpoint_is_signed_on_demand() -> None:
    store = MemoryStore()
    assert store.read_now(audit.last_checkpoint) is None

    async def signed() -> int:
        await store.write(audit.sign_checkpoint)
        note = store.read_now(audit.last_checkpoint)
        return 0 if note is None else verify_checkpoint(note, store.key.verifier_key, verify).size

    def three(tx: Tx) -> None:
        for _ in range(3):
            tx.append(VIOLATION, Context())

    assert await signed() == 0
    await store.write(three)
    covered = await signed()
    assert covered == 3
    assert await signed() == covered  # its own event is no reason for another one
    await store.write(three)
    assert await signed() == store.read_now(audit.end) - 1 == covered + 4
