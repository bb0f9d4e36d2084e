"""Tampering: whatever somebody does to the file of a real log, verification finds it and names it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from handshake.bootstrap import verifier_key
from handshake.operations.verdict import Damage
from handshake.operations.verification import verify
from handshake.storage.artifacts import ArtifactFiles
from handshake.storage.files import OsFiles
from handshake.storage.signing import verify as check
from handshake.storage.transaction import SqliteReader
from tests.requirement import requirement
from tests.written_log import EVERY, TAIL, Log, middle

pytestmark = requirement("recorder.log.verifies")


def places(log: Log) -> dict[str, int]:
    """Return events where the neighbourhood differs: at both ends, on both sides of a checkpoint, and in the tail."""
    signed = log.signed_sizes
    return {
        "first": 1,
        "middle": middle(log),
        "last of a checkpoint": signed[4],
        "tells of a checkpoint": signed[4] + 1,
        "after that": signed[4] + 2,
        "last signed": signed[-1],
        "tail": signed[-1] + 3,
        "last": log.size,
    }


# ── nothing was done ───────────────────────────────────────────────────────────────────────────────────────


def test_log_of_real_runs_is_sound(log: Log) -> None:
    told: list[tuple[int, int]] = []
    verdict = log.verdict(deep=True, progress=lambda done, of: told.append((done, of)))
    assert verdict.sound
    assert verdict.verified == verdict.size == log.size > 100
    assert (verdict.checkpoints, verdict.signed_size) == (len(log.signed_sizes), log.signed_sizes[-1])
    assert verdict.checkpoints > 100 // (EVERY + 1)
    assert TAIL < verdict.unsigned_tail == log.size - log.signed_sizes[-1]
    assert told[-1] == (log.size, log.size)
    assert len(log.rows("SELECT DISTINCT type FROM event")) >= 7


def test_log_continues_what_was_exported_of_it(log: Log) -> None:
    for note, size in log.rows("SELECT note, tree_size FROM checkpoint"):
        assert log.verdict(anchor=note.encode()).anchored_size == size
    assert log.verdict().anchored_size is None


# ── altered ────────────────────────────────────────────────────────────────────────────────────────────────


def test_byte_of_a_body(log: Log) -> None:
    seq = middle(log)
    log.alter(seq)
    verdict = log.verdict()
    assert log.broken() == (Damage.ALTERED, seq, seq)
    assert (verdict.verified, verdict.sound) == (seq - 1, False)


@pytest.mark.parametrize("place", ["first", "middle", "last of a checkpoint", "tells of a checkpoint", "after that",
                                   "last signed", "tail", "last"])  # fmt: skip
def test_body_with_its_hash(log: Log, place: str) -> None:
    """Whose neighbour no longer names it shows which of two was altered, wherever it stands."""
    seq = places(log)[place]
    log.alter(seq)
    log.rehash(seq)
    assert log.broken() == (Damage.ALTERED, seq, seq)


def test_first_of_several_bodies_with_their_hashes(log: Log) -> None:
    seq = middle(log)
    for one in (seq, seq + 1, seq + 3):
        log.alter(one)
        log.rehash(one)
    assert log.broken() == (Damage.ALTERED, seq, seq)


def test_what_an_event_says_about_the_one_before(log: Log) -> None:
    seq = middle(log)
    body = log.body(seq)
    at = body.index(b'"prev_hash":"') + len(b'"prev_hash":"')
    log.run("UPDATE event SET body = ? WHERE seq = ?", body[:at] + b"0" * 64 + body[at + 64 :], seq)
    log.rehash(seq)
    assert log.broken() == (Damage.ALTERED, seq, seq)


def test_whole_chain_computed_anew(log: Log) -> None:
    """Everything fits together; only the signature does not, and it covers a stretch."""
    seq = middle(log)
    log.alter(seq)
    log.rechain(seq)
    before, after = log.signed_sizes[3], log.signed_sizes[4]
    assert log.broken() == (Damage.ALTERED, before + 1, after)
    assert before < seq <= after


def test_chain_of_the_unsigned_tail_computed_anew(log: Log) -> None:
    """Nothing can find this, and the verdict says how long the tail is; one more checkpoint ends it."""
    seq = log.size - 2
    log.alter(seq)
    log.rechain(seq)
    verdict = log.verdict()
    assert verdict.sound
    assert verdict.size - verdict.unsigned_tail == verdict.signed_size < seq


def test_chain_of_the_unsigned_tail_without_the_end(log: Log) -> None:
    seq = log.size - 2
    log.alter(seq)
    (end,) = log.rows("SELECT last_hash, frontier FROM log_state")
    log.rechain(seq)
    log.run("UPDATE log_state SET last_hash = ?, frontier = ?", *end)
    damage, first, last = log.broken()
    assert damage is Damage.ALTERED
    assert log.signed_sizes[-1] < first <= seq <= last == log.size


@pytest.mark.parametrize(
    "change",
    ["type = 'session.created'", "session_id = NULL", "job_id = NULL", "at_us = at_us + 1", f"at_us = {2**62}"],
)
def test_columns_beside_a_body(log: Log, change: str) -> None:
    seq = int(log.value("SELECT seq FROM event WHERE type = 'llm_inference' AND seq > ?", middle(log)))
    log.run(f"UPDATE event SET {change} WHERE seq = ?", seq)
    assert log.broken() == (Damage.ALTERED, seq, seq)


def test_stored_hash(log: Log) -> None:
    seq = middle(log)
    log.run("UPDATE event SET hash = zeroblob(32) WHERE seq = ?", seq)
    assert log.broken() == (Damage.ALTERED, seq, seq)


@pytest.mark.parametrize("body", [b"", b"null", b"{", b"\xff\xfe", b'{"seq":"x"}'])
def test_body_that_is_no_event(log: Log, body: bytes) -> None:
    seq = middle(log)
    log.run("UPDATE event SET body = ? WHERE seq = ?", body, seq)
    log.rehash(seq)
    assert log.broken() == (Damage.ALTERED, seq, seq)


def altered_with_its_hash(log: Log, seq: int) -> None:
    log.alter(seq)
    log.rehash(seq)


def removed(log: Log, seq: int) -> None:
    log.run("DELETE FROM event WHERE seq = ?", seq)


@pytest.mark.parametrize("hand", [altered_with_its_hash, removed])
def test_every_single_event_is_named(log: Log, hand: Callable[[Log, int], None]) -> None:
    reader = SqliteReader(log.db, ArtifactFiles(OsFiles(), log.place.artifacts, str))
    key, last = verifier_key(log.place), log.size
    for seq in range(1, last + 1):
        log.db.execute("BEGIN")
        hand(log, seq)
        broken = verify(lambda query: query(reader), key, check).broken
        log.db.execute("ROLLBACK")
        assert broken is not None
        assert (broken.seq, broken.last_seq) == (seq, seq)
        missing = Damage.TRUNCATED if seq == last else Damage.MISSING
        assert broken.damage is (missing if hand is removed else Damage.ALTERED)


# ── missing, reordered, added ──────────────────────────────────────────────────────────────────────────────


def test_one_event(log: Log) -> None:
    seq = middle(log)
    log.run("DELETE FROM event WHERE seq = ?", seq)
    assert log.broken() == (Damage.MISSING, seq, seq)


def test_stretch_of_events(log: Log) -> None:
    first, last = middle(log), middle(log) + 2 * EVERY
    log.run("DELETE FROM event WHERE seq BETWEEN ? AND ?", first, last)
    assert log.broken() == (Damage.MISSING, first, last)


def test_beginning(log: Log) -> None:
    log.run("DELETE FROM event WHERE seq <= 5")
    assert log.broken() == (Damage.MISSING, 1, 5)


def test_one_event_and_the_others_moved_up(log: Log) -> None:
    seq = middle(log)
    log.run("DELETE FROM event WHERE seq = ?", seq)
    log.run("UPDATE event SET seq = -seq WHERE seq > ?", seq)
    log.run("UPDATE event SET seq = -seq - 1 WHERE seq < 0")
    assert log.broken() == (Damage.MISSING, seq, seq)


@pytest.mark.parametrize("apart", [1, 2, 40])
def test_two_events_in_each_others_place(log: Log, apart: int) -> None:
    seq = middle(log)
    log.run("UPDATE event SET seq = -1 WHERE seq = ?", seq)
    log.run("UPDATE event SET seq = ? WHERE seq = ?", seq, seq + apart)
    log.run("UPDATE event SET seq = ? WHERE seq = -1", seq + apart)
    assert log.broken() == (Damage.REORDERED, seq, seq)


@pytest.mark.parametrize("apart", [1, 2, 40])
def test_two_bodies_in_each_others_place(log: Log, apart: int) -> None:
    seq = middle(log)
    body, other = log.body(seq), log.body(seq + apart)
    log.run("UPDATE event SET body = ? WHERE seq = ?", other, seq)
    log.run("UPDATE event SET body = ? WHERE seq = ?", body, seq + apart)
    assert log.broken() == (Damage.REORDERED, seq, seq)


def test_two_events_in_each_others_place_with_their_numbers(log: Log) -> None:
    seq, other = middle(log), middle(log) + 6
    bodies = log.body(seq), log.body(other)
    for place, body, was in ((seq, bodies[1], other), (other, bodies[0], seq)):
        moved = body.replace(b'"seq":%d,' % was, b'"seq":%d,' % place)
        log.run("UPDATE event SET body = ? WHERE seq = ?", moved, place)
        log.rehash(place)
    assert log.broken() == (Damage.REORDERED, seq, seq)


def test_number_in_a_body(log: Log) -> None:
    seq = middle(log)
    log.run("UPDATE event SET body = ? WHERE seq = ?", log.body(seq).replace(b'"seq":%d,' % seq, b'"seq":1,'), seq)
    log.rehash(seq)
    assert log.broken() == (Damage.ALTERED, seq, seq)


def test_event_after_the_end(log: Log) -> None:
    size = log.size
    columns = "type, session_id, job_id, at_us, hash, body"
    log.run(f"INSERT INTO event (seq, {columns}) SELECT seq + 1, {columns} FROM event WHERE seq = ?", size)
    assert log.broken() == (Damage.ADDED, size + 1, size + 1)
