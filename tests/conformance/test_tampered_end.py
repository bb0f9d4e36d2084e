"""Tampering with the end of a log and with what was signed: only a signature, or an exported one, shows it."""

from __future__ import annotations

import pytest

from handshake.kernel.checkpoint import Checkpoint, sign
from handshake.kernel.errors import InvalidRequest
from handshake.operations.audit import last_checkpoint
from handshake.operations.verdict import Damage
from handshake.storage.signing import PUBLIC_KEY_FILE, SEED_BYTES, SigningKey
from tests.requirement import requirement
from tests.written_log import Log, middle

pytestmark = requirement("recorder.log.verifies")


# ── the end of the log ─────────────────────────────────────────────────────────────────────────────────────


def test_tail_is_cut_off(log: Log) -> None:
    size = log.size
    log.run("DELETE FROM event WHERE seq > ?", size - 3)
    assert log.broken() == (Damage.TRUNCATED, size - 2, size)


def test_tail_is_cut_off_and_the_end_moved(log: Log) -> None:
    """The checkpoints that stayed know more events than there are."""
    left, signed = log.signed_sizes[-2] + 4, log.signed_sizes[-1]
    log.run("DELETE FROM event WHERE seq > ?", left)
    log.move_end()
    assert log.broken() == (Damage.TRUNCATED, left + 1, signed)


def test_event_that_tells_of_the_last_checkpoint_is_cut_off(log: Log) -> None:
    signed = log.signed_sizes[-1]
    log.run("DELETE FROM event WHERE seq > ?", signed)
    log.move_end()
    assert log.broken() == (Damage.TRUNCATED, signed + 1, signed + 1)


def test_tail_is_cut_off_with_its_checkpoints(log: Log) -> None:
    """Without a checkpoint outside, a shorter log is only a younger one."""
    exported = log.read(last_checkpoint)
    left, signed = log.signed_sizes[-2] + 4, log.signed_sizes[-1]
    log.cut(left)
    assert log.verdict().sound
    assert log.broken(anchor=exported) == (Damage.TRUNCATED, left + 1, signed)


def test_tail_is_cut_off_and_signed_with_another_key(log: Log) -> None:
    exported = log.read(last_checkpoint)
    left = log.signed_sizes[-2] + 4
    log.cut(left)
    other = SigningKey(log.key.name, bytes(SEED_BYTES))
    log.sign_end(other)
    assert log.broken() == (Damage.CHECKPOINT_FORGED, left + 1, left + 1)
    for size in log.signed_sizes:
        log.run("UPDATE checkpoint SET note = ? WHERE tree_size = ?", log.note(other, size), size)
    (log.place.keys / PUBLIC_KEY_FILE).write_text(f"{other.verifier_key.text()}\n")
    assert log.broken(anchor=exported)[0] is Damage.RESIGNED
    assert log.broken(key=log.key.verifier_key)[0] is Damage.CHECKPOINT_FORGED


def test_tail_is_cut_off_and_signed_with_the_log_s_own_key(log: Log) -> None:
    """Who has the key can write history; who has an earlier checkpoint can show it."""
    exported = log.read(last_checkpoint)
    signed = log.signed_sizes[-1]
    log.cut(log.signed_sizes[-2] + 4)
    log.sign_end(log.key)
    assert log.size < signed
    assert log.verdict().sound
    assert log.broken(anchor=exported) == (Damage.TRUNCATED, log.size + 1, signed)
    while log.size <= signed:
        log.sign_end(log.key)
    assert log.verdict().sound
    assert log.broken(anchor=exported) == (Damage.RESIGNED, 1, signed)


def test_stated_end(log: Log) -> None:
    size, signed = log.size, log.signed_sizes[-1]
    (before,) = log.rows("SELECT size, last_hash, frontier FROM log_state")
    for change, found in (
        (f"size = {size + 2}", (Damage.TRUNCATED, size + 1, size + 2)),
        (f"size = {size - 1}", (Damage.ADDED, size, size)),
        ("size = 0", (Damage.ADDED, 1, size)),
        ("last_hash = ''", (Damage.ALTERED, size, size)),
        ("frontier = x'00'", (Damage.ALTERED, signed + 1, size)),
    ):
        log.run(f"UPDATE log_state SET {change}")
        assert log.broken() == found
        log.run("UPDATE log_state SET size = ?, last_hash = ?, frontier = ?", *before)
    log.run("DELETE FROM log_state")
    assert log.broken() == (Damage.ADDED, 1, size)


# ── checkpoints ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "change",
    [
        "root_hash = lower(hex(zeroblob(32)))",
        "signed_at_us = signed_at_us + 1",
        "note = replace(note, 'handshake', 'handsome')",
        "note = substr(note, 1, length(note) - 9) || 'AAAAAAA=' || char(10)",
        "note = ''",
    ],
)
def test_row_of_a_checkpoint(log: Log, change: str) -> None:
    size = log.signed_sizes[4]
    log.run(f"UPDATE checkpoint SET {change} WHERE tree_size = ?", size)
    assert log.broken() == (Damage.CHECKPOINT_FORGED, size + 1, size + 1)


@pytest.mark.parametrize("statement", ["DELETE FROM checkpoint", "UPDATE checkpoint SET tree_size = tree_size + 2"])
def test_row_of_a_checkpoint_is_not_there(log: Log, statement: str) -> None:
    size = log.signed_sizes[4]
    log.run(f"{statement} WHERE tree_size = ?", size)
    assert log.broken() == (Damage.CHECKPOINT_MISSING, size + 1, size + 1)


def test_signed_checkpoint_that_the_log_does_not_tell(log: Log) -> None:
    """Even the log's own key signs nothing in silence."""
    size = middle(log)
    root = log.tree(size).root().hex()
    log.run("INSERT INTO checkpoint VALUES (?, ?, 0, ?)", size, root, log.note(log.key, size))
    assert log.broken() == (Damage.CHECKPOINT_FORGED, size + 1, size + 1)


@pytest.mark.parametrize(("size", "seq"), [(100_000, 100_001), (0, 1), (-3, 0), (2**63 - 1, 2**63)])
def test_checkpoint_outside_the_log(log: Log, size: int, seq: int) -> None:
    log.run("INSERT INTO checkpoint SELECT ?, root_hash, signed_at_us, note FROM checkpoint LIMIT 1", size)
    assert log.broken() == (Damage.CHECKPOINT_FORGED, seq, seq)


# ── what the verdict is given ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("anchor", "reason"), [(b"", "not_a_checkpoint"), (b"\xff", "not_a_checkpoint")])
def test_anchor_that_is_no_checkpoint(log: Log, anchor: bytes, reason: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        log.verdict(anchor=anchor)
    assert caught.value.context["reason"] == reason


def test_anchor_of_another_log(log: Log) -> None:
    key = SigningKey("handshake.log/other", bytes(SEED_BYTES))
    with pytest.raises(InvalidRequest) as caught:
        log.verdict(anchor=sign(Checkpoint(key.name, 1, bytes(32)), key.key_id, key.sign))
    assert caught.value.context["reason"] == "another_log"


def test_anchor_with_a_false_signature(log: Log) -> None:
    exported = log.read(last_checkpoint)
    assert exported is not None
    assert log.broken(anchor=exported[:-9] + b"AAAAAAA=\n") == (Damage.RESIGNED, 1, log.size)
