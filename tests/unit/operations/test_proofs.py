"""Proofs: when there is one, what it holds, and what is said when there is none."""

from __future__ import annotations

from functools import partial

import pytest

from handshake.kernel.catalogue import SecurityViolation
from handshake.kernel.checkpoint import Checkpoint, parse_body, parse_note, sign
from handshake.kernel.errors import IntegrityBroken, InvalidRequest, NotFound, StateConflict, TooLarge
from handshake.kernel.event import Context
from handshake.kernel.merkle import EMPTY_ROOT
from handshake.operations import audit
from handshake.operations.proofs import consistency, prove
from handshake.ports.store import Tx
from handshake.storage.signing import SEED_BYTES, SigningKey
from handshake.testing.memory_store import MemoryStore

VIOLATION = SecurityViolation(action_taken="refused", guard_name="test", trigger="count", violation_type="none")


async def append(store: MemoryStore, events: int) -> None:
    def unit(tx: Tx) -> None:
        for _ in range(events):
            tx.append(VIOLATION, Context())

    await store.write(unit)


async def signed(events: int) -> tuple[MemoryStore, bytes]:
    """Return a store whose log was signed after so many events, and the checkpoint."""
    store = MemoryStore()
    await append(store, events)
    await store.write(audit.sign_checkpoint)
    note = store.read_now(audit.last_checkpoint)
    assert note is not None
    assert parse_body(parse_note(note).body).size == events
    return store, note


def strip(store: MemoryStore, statement: str) -> None:
    store.opened.db.execute(statement).fetchall()


async def test_proof_ends_with_the_last_checkpoint() -> None:
    store, first = await signed(4)
    await append(store, 3)
    assert store.read_now(partial(prove, seq=2)).endswith(b"\n\n" + first)
    await store.write(audit.sign_checkpoint)
    last = store.read_now(audit.last_checkpoint)
    assert last is not None
    assert last != first
    assert store.read_now(partial(prove, seq=2)).endswith(b"\n\n" + last)


async def test_event_that_no_checkpoint_covers_has_no_proof_yet() -> None:
    store, _ = await signed(4)
    for seq in (5, 6):
        await append(store, 1)
        with pytest.raises(StateConflict) as caught:
            store.read_now(partial(prove, seq=seq))
        assert (caught.value.context["seq"], caught.value.context["signed_size"]) == (seq, 4)
        assert "handshake audit checkpoint" in caught.value.hint
    strip(store, "DELETE FROM checkpoint")
    with pytest.raises(StateConflict):
        store.read_now(partial(prove, seq=1))


@pytest.mark.parametrize("seq", [0, -1, 100, 2**80])
async def test_event_that_is_not_there(seq: int) -> None:
    store, _ = await signed(4)
    with pytest.raises(NotFound):
        store.read_now(partial(prove, seq=seq))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE event SET body = x'7b7d' WHERE seq = 3",
        "UPDATE event SET hash = zeroblob(32) WHERE seq = 5",
        "UPDATE event SET hash = zeroblob(31) WHERE seq = 5",
        "DELETE FROM event WHERE seq = 5",
        "DELETE FROM event WHERE seq > 5",
    ],
)
async def test_nothing_is_proved_from_a_broken_log(statement: str) -> None:
    store, note = await signed(9)
    await append(store, 20)
    await store.write(audit.sign_checkpoint)
    strip(store, statement)
    with pytest.raises(IntegrityBroken):
        store.read_now(partial(prove, seq=3))
    if "body" not in statement:  # what a proof of growth is about is the hashes
        with pytest.raises(IntegrityBroken):
            store.read_now(partial(consistency, old_note=note))


async def test_log_continues_itself_and_the_empty_log() -> None:
    store, note = await signed(5)
    assert store.read_now(partial(consistency, old_note=note)) == b"old 5\n\n" + note
    empty = sign(Checkpoint(store.key.name, 0, EMPTY_ROOT), store.key.key_id, store.key.sign)
    assert store.read_now(partial(consistency, old_note=empty)) == b"old 0\n\n" + note


async def test_log_does_not_continue_another_history() -> None:
    store, _ = await signed(5)
    key = store.key
    for size in (0, 3, 5, 6):
        old = sign(Checkpoint(key.name, size, bytes(32)), key.key_id, key.sign)
        with pytest.raises(IntegrityBroken) as caught:
            store.read_now(partial(consistency, old_note=old))
        assert caught.value.context["reason"] == ("truncated" if size > 5 else "not_continued")


async def test_what_is_no_checkpoint_of_this_log_is_refused() -> None:
    store, _ = await signed(5)
    other = SigningKey("handshake.log/other", bytes(SEED_BYTES))
    foreign = sign(Checkpoint(other.name, 1, bytes(32)), other.key_id, other.sign)
    for old, reason in ((foreign, "another_log"), (b"", "not_a_checkpoint"), (b"x\n\n\xff", "not_a_checkpoint")):
        with pytest.raises(InvalidRequest) as caught:
            store.read_now(partial(consistency, old_note=old))
        assert caught.value.context["reason"] == reason
    with pytest.raises(TooLarge):
        store.read_now(partial(consistency, old_note=bytes(200_000)))
    fresh = MemoryStore()
    with pytest.raises(StateConflict):
        fresh.read_now(partial(consistency, old_note=foreign))


async def test_proof_over_several_pages_of_hashes() -> None:
    store, first = await signed(1_500)
    await append(store, 1_200)
    await store.write(audit.sign_checkpoint)
    note = store.read_now(audit.last_checkpoint)
    assert note is not None
    size = parse_body(parse_note(note).body).size
    for seq in (1, 1_024, 1_025, 2_049, size):
        assert store.read_now(partial(prove, seq=seq)).endswith(note)  # it checks itself against the signed root
    assert store.read_now(partial(consistency, old_note=first)).startswith(b"old 1500\n")
