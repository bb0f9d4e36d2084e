"""Independent verifier: written from RFC 6962 and the C2SP formats; of ours it sees only what leaves a workspace."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from handshake.bootstrap import verifier_key
from handshake.operations.audit import last_checkpoint
from handshake.operations.proofs import consistency, prove
from tests.requirement import requirement
from tests.written_log import Log, write_log

# ── the verifier ───────────────────────────────────────────────────────────────────────────────────────────


class Rejected(Exception):
    pass


def demand(holds: object) -> None:
    if not holds:
        raise Rejected


def decoded(text: str) -> bytes:
    """Base64 in its canonical spelling, RFC 4648 §4."""
    data = base64.b64decode(text, validate=True)
    demand(base64.b64encode(data).decode() == text)
    return data


def opened(note: str, vkey: str) -> tuple[int, bytes]:
    """Return size and root of a checkpoint (C2SP signed-note, tlog-checkpoint) that the owner of `vkey` signed."""
    name, _, rest = vkey.partition("+")
    key_id, _, packed = rest.partition("+")
    key = decoded(packed)
    demand(key[0] == 1 and key_id == sha256(name.encode() + b"\n" + key).hexdigest()[:8])
    text, separator, lines = note.rpartition("\n\n")
    demand(separator and lines.endswith("\n"))
    text += "\n"
    signed = False
    for line in lines[:-1].split("\n"):
        found = re.fullmatch(r"— ([^ +]+) (\S+)", line)
        demand(found)
        assert found is not None
        signature = decoded(found[2])
        if (found[1], signature[:4].hex()) == (name, key_id):
            Ed25519PublicKey.from_public_bytes(key[1:]).verify(signature[4:], text.encode())
            signed = True
    demand(signed)
    origin, size, root, *_ = text.split("\n")
    demand(origin == name and str(int(size)) == size)
    demand(len(decoded(root)) == 32)
    return int(size), decoded(root)


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def split(size: int) -> int:
    """The largest power of two smaller than `size`, at least 2."""
    return 1 << (size - 1).bit_length() - 1


def root_by_path(index: int, size: int, leaf: bytes, path: list[bytes]) -> bytes:
    """Undo PATH(m, D[n]) of RFC 6962 §2.1.1; consumes `path`."""
    if size == 1:
        return leaf
    demand(path)
    sibling, half = path.pop(), split(size)
    if index < half:
        return node(root_by_path(index, half, leaf, path), sibling)
    return node(sibling, root_by_path(index - half, size - half, leaf, path))


def roots_by_proof(first: int, size: int, proof: list[bytes], known: bytes | None) -> tuple[bytes, bytes]:
    """Undo SUBPROOF(m, D[n], b) of RFC 6962 §2.1.2: the roots of both trees; consumes `proof`.

    `known` is the older root where the verifier has it (b is true), None where the proof must state it.
    """
    if first == size:
        demand(known or proof)
        same = known or proof.pop()
        return same, same
    demand(proof)
    other, half = proof.pop(), split(size)
    if first <= half:
        older, newer = roots_by_proof(first, half, proof, known)
        return older, node(newer, other)
    older, newer = roots_by_proof(first - half, size - half, proof, None)
    return node(other, older), node(other, newer)


def proved(exported: bytes, vkey: str) -> bytes:
    """Return the event that a `tlog-proof` proves to be in the log of `vkey`."""
    head, separator, note = exported.decode().partition("\n\n")
    demand(separator)
    form, extra, index, *hashes = head.split("\n")
    demand(form == "c2sp.org/tlog-proof@v1" and extra.startswith("extra ") and index.startswith("index "))
    size, root = opened(note, vkey)
    at = int(index.removeprefix("index "))
    demand(0 <= at < size)
    event = decoded(extra.removeprefix("extra "))
    path = [decoded(one) for one in hashes]
    demand(root_by_path(at, size, sha256(b"\x00" + event).digest(), path) == root and not path)
    demand(json.loads(event)["seq"] == at + 1)
    return event


def continued(exported: bytes, older_note: bytes, vkey: str) -> int:
    """Return the size of the checkpoint in `exported`, once it is shown to continue the older one."""
    head, _, note = exported.decode().partition("\n\n")
    old, *hashes = head.split("\n")
    first, older = opened(older_note.decode(), vkey)
    size, newer = opened(note, vkey)
    demand(old == f"old {first}")
    proof = [decoded(one) for one in hashes]
    demand(roots_by_proof(first, size, proof, older) == (older, newer) and not proof)
    return size


def rejects(check: Callable[..., object], *given: object) -> bool:
    try:
        check(*given)
    except (Rejected, InvalidSignature, ValueError, KeyError, TypeError):
        return True
    return False


# ── what it says ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    return Log(asyncio.run(write_log(tmp_path_factory.mktemp("log"))))


@pytest.fixture(scope="module")
def vkey(log: Log) -> str:
    return verifier_key(log.place).text()


@requirement("recorder.checkpoint.signed")
def test_every_checkpoint_is_signed_by_the_published_key(log: Log, vkey: str) -> None:
    for note, size, root in log.rows("SELECT note, tree_size, root_hash FROM checkpoint"):
        assert opened(note, vkey) == (size, bytes.fromhex(root))
        assert rejects(opened, note.replace(f"\n{size}\n", f"\n{size + 1}\n"), vkey)


@requirement("recorder.proof.inclusion")
def test_every_signed_event_is_proved(log: Log, vkey: str) -> None:
    for seq in range(1, log.signed_sizes[-1] + 1):
        assert proved(log.read(partial(prove, seq=seq)), vkey) == log.body(seq)


@requirement("recorder.proof.inclusion")
def test_every_earlier_checkpoint_is_continued(log: Log, vkey: str) -> None:
    for (note,) in log.rows("SELECT note FROM checkpoint"):
        exported = log.read(partial(consistency, old_note=note.encode()))
        assert continued(exported, note.encode(), vkey) == log.signed_sizes[-1]


@requirement("recorder.proof.inclusion")
def test_proof_with_any_character_changed_is_rejected(log: Log, vkey: str) -> None:
    exported = log.read(partial(prove, seq=log.signed_sizes[1] + 3)).decode()
    for at, character in enumerate(exported):
        other = "B" if character == "A" else "A"
        changed = exported[:at] + other + exported[at + 1 :]
        assert rejects(proved, changed.encode(), vkey), (at, character)


@requirement("recorder.proof.inclusion")
def test_proof_for_another_event_log_or_key_is_rejected(log: Log, vkey: str, tmp_path: Path) -> None:
    seq = log.signed_sizes[1] + 3
    one, two = (log.read(partial(prove, seq=at)).split(b"\n") for at in (seq, seq + 1))
    assert proved(b"\n".join(one), vkey) == log.body(seq)
    assert rejects(proved, b"\n".join([one[0], two[1], *one[2:]]), vkey)
    assert rejects(proved, b"\n".join([*one[:2], two[2], *one[3:]]), vkey)
    assert rejects(proved, b"\n".join([*one[:3], *one[4:]]), vkey)
    other = Log(asyncio.run(write_log(tmp_path)))
    foreign, foreign_key = other.read(last_checkpoint), verifier_key(other.place).text()
    assert foreign is not None
    assert rejects(proved, b"\n".join(one), foreign_key)
    assert rejects(proved, b"\n".join(one).partition(b"\n\n")[0] + b"\n\n" + foreign, foreign_key)


@requirement("recorder.proof.inclusion")
def test_consistency_with_another_history_is_rejected(log: Log, vkey: str) -> None:
    notes = [note.encode() for (note,) in log.rows("SELECT note FROM checkpoint")]
    exported = log.read(partial(consistency, old_note=notes[2]))
    assert continued(exported, notes[2], vkey) == log.signed_sizes[-1]
    assert rejects(continued, exported, notes[3], vkey)
    lines = exported.split(b"\n")
    assert rejects(continued, b"\n".join([lines[0], lines[2], lines[1], *lines[3:]]), notes[2], vkey)
    assert rejects(continued, b"\n".join([lines[0], *lines[2:]]), notes[2], vkey)
