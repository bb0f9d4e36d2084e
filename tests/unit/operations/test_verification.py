"""Verification: logs of other lengths than a page, what progress is told, and what the verdict says of signatures."""

from __future__ import annotations

import hashlib

import pytest

from handshake.kernel.catalogue import SecurityViolation
from handshake.kernel.checkpoint import Checkpoint, sign
from handshake.kernel.event import Context
from handshake.kernel.merkle import EMPTY_ROOT, Frontier, extend
from handshake.kernel.settings import LOG_PAGE_EVENTS
from handshake.operations import audit
from handshake.operations.verdict import Damage, Verdict
from handshake.operations.verification import verify
from handshake.ports.store import Tx
from handshake.storage.signing import verify as check
from handshake.testing.memory_store import MemoryStore
from tests.requirement import requirement

VIOLATION = SecurityViolation(action_taken="refused", guard_name="test", trigger="count", violation_type="none")
PAGE = LOG_PAGE_EVENTS


async def written(*batches: int) -> MemoryStore:
    """Return a store whose batches have so many events; the store signs after each that is long enough."""
    store = MemoryStore()
    for events in batches:

        def unit(tx: Tx, events: int = events) -> None:
            for _ in range(events):
                tx.append(VIOLATION, Context())

        await store.write(unit)
    return store


def verdict(store: MemoryStore, anchor: bytes | None = None) -> Verdict:
    return verify(store.read_now, store.key.verifier_key, check, anchor=anchor)


def tree(store: MemoryStore, size: int) -> Frontier:
    rows = store.opened.db.execute("SELECT hash FROM event WHERE seq <= ? ORDER BY seq", (size,)).fetchall()
    return extend(Frontier(), [bytes(row[0]) for row in rows])  # type: ignore[arg-type]


def unsign(store: MemoryStore, size: int) -> None:
    """Leave the first events alone, as if nothing had ever been signed."""
    db, after = store.opened.db, tree(store, size)
    last = db.execute("SELECT lower(hex(hash)) FROM event WHERE seq = ?", (size,)).fetchall()[0][0]
    db.execute("DELETE FROM checkpoint").fetchall()
    db.execute("DELETE FROM event WHERE seq > ?", (size,)).fetchall()
    end = (size, last, after.to_bytes())
    db.execute("UPDATE log_state SET size = ?, last_hash = ?, frontier = ?", end).fetchall()


def alter(store: MemoryStore, seq: int) -> None:
    db = store.opened.db
    body = db.execute("SELECT body FROM event WHERE seq = ?", (seq,)).fetchall()[0][0]
    assert isinstance(body, bytes)
    body = body.replace(b'"trigger":"count"', b'"trigger":"other"')
    digest = hashlib.sha256(b"\x00" + body).digest()
    db.execute("UPDATE event SET body = ?, hash = ? WHERE seq = ?", (body, digest, seq)).fetchall()


async def test_empty_log_is_sound_and_unsigned() -> None:
    store = await written()
    assert verdict(store) == Verdict(0, 0, 0, 0, None, False, None)
    empty = sign(Checkpoint(store.key.name, 0, EMPTY_ROOT), store.key.key_id, store.key.sign)
    assert verdict(store, empty).anchored_size == 0
    other = sign(Checkpoint(store.key.name, 0, bytes(32)), store.key.key_id, store.key.sign)
    broken = verdict(store, other).broken
    assert broken is not None
    assert broken.damage is Damage.RESIGNED


@requirement("recorder.log.verifies")
@pytest.mark.parametrize("events", [1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE + 7])
async def test_log_of_any_length_is_walked_to_its_end(events: int) -> None:
    store = await written(events)
    found = verdict(store)
    assert (found.size, found.verified, found.signed_size, found.unsigned_tail) == (events + 1, events + 1, events, 1)


@requirement("recorder.log.verifies")
@pytest.mark.parametrize("seq", [1, 700, PAGE, PAGE + 1, 2 * PAGE, 2_500, 3 * PAGE])
@pytest.mark.parametrize("signed", [True, False])
async def test_altered_event_is_named_across_pages(seq: int, signed: bool) -> None:
    """Before a checkpoint pages away, and in an unsigned tail as long, which only the stated end holds."""
    store = await written(3 * PAGE, 5)
    if not signed:
        unsign(store, 3 * PAGE)
        assert (verdict(store).sound, verdict(store).signed_size) == (True, 0)
    alter(store, seq)
    broken = verdict(store).broken
    assert broken is not None
    assert (broken.damage, broken.seq, broken.last_seq) == (Damage.ALTERED, seq, seq)


async def test_missing_page_is_named() -> None:
    store = await written(3 * PAGE)
    store.opened.db.execute("DELETE FROM event WHERE seq > 10 AND seq <= ?", (2 * PAGE + 10,)).fetchall()
    broken = verdict(store).broken
    assert broken is not None
    assert (broken.damage, broken.seq, broken.last_seq) == (Damage.MISSING, 11, 2 * PAGE + 10)


async def test_anchor_may_lie_anywhere() -> None:
    store = await written(2 * PAGE)
    size = store.read_now(audit.end)
    key = store.key
    for covered in (1, PAGE + 3, size - 1, size):
        anchor = sign(Checkpoint(key.name, covered, tree(store, covered).root()), key.key_id, key.sign)
        assert verdict(store, anchor).anchored_size == covered


async def test_what_is_written_meanwhile_is_not_looked_at() -> None:
    """Each page is a transaction of its own; the walk ends where the log ended when it began."""
    store = await written(2 * PAGE)
    size = store.read_now(audit.end)
    seen: list[int] = []

    def progress(verified: int, of: int) -> None:
        seen.append(verified)
        assert of == size
        store.opened.committer.commit([lambda tx: tx.append(VIOLATION, Context()) for _ in range(600)])

    found = verify(store.read_now, store.key.verifier_key, check, progress=progress)
    assert (found.sound, found.size, found.verified) == (True, size, size)
    assert seen == sorted(seen)
    assert seen[-1] == size < store.read_now(audit.end)
    assert verdict(store).sound
