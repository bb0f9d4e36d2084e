"""Signing key: it survives, stays private, and what it signs verifies with nothing but the published formats."""

from __future__ import annotations

import base64
import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from handshake.kernel.checkpoint import Checkpoint, VerifierKey, format_proof, sign, verify_checkpoint
from handshake.kernel.errors import IntegrityBroken, NotFound, StateConflict, StoreFailed
from handshake.kernel.merkle import inclusion_proof, leaf_hash, root_of
from handshake.storage.files import OsFiles
from handshake.storage.signing import (
    KEY_FILE,
    PUBLIC_KEY_FILE,
    SEED_BYTES,
    SigningKey,
    load_verifier_key,
    publish,
    verify,
)
from handshake.testing.power_loss import Disk
from handshake.testing.seeded_chance import SeededChance
from tests.requirement import requirement

NAME = "handshake.example/log"
SEEDS = [SeededChance(seed).bits(8 * SEED_BYTES).to_bytes(SEED_BYTES, "big") for seed in range(6)]


def created(folder: Path, seed: int = 1) -> SigningKey:
    return SigningKey.create(folder, NAME, files=OsFiles(), chance=SeededChance(seed))


def loaded(folder: Path) -> SigningKey:
    return SigningKey.load(folder, NAME, files=OsFiles())


def broken(folder: Path) -> dict[str, object]:
    with pytest.raises(IntegrityBroken) as caught:
        loaded(folder)
    return dict(caught.value.context)


# ── signatures ─────────────────────────────────────────────────────────────────────────────────────────────


def test_signature_is_that_of_rfc_8032() -> None:
    key = SigningKey(NAME, bytes.fromhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7"))
    assert key.public_bytes.hex() == "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"
    signature = key.sign(b"\xaf\x82")
    assert signature.hex() == (
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
    )
    assert verify(key.public_bytes, b"\xaf\x82", signature)


def test_what_does_not_fit_does_not_verify() -> None:
    key = SigningKey(NAME, bytes(SEED_BYTES))
    other = SigningKey(NAME, bytes([1] * SEED_BYTES))
    signature = key.sign(b"message")
    assert verify(key.public_bytes, b"message", signature)
    assert not verify(key.public_bytes, b"massage", signature)
    assert not verify(other.public_bytes, b"message", signature)
    assert not verify(key.public_bytes, b"message", bytes(64))
    assert not verify(key.public_bytes, b"message", signature[:-1])
    assert not verify(key.public_bytes[:-1], b"message", signature)
    assert not verify(b"", b"message", b"")


@requirement("recorder.checkpoint.signed")
def test_checkpoint_verifies_from_the_published_formats_alone(tmp_path: Path) -> None:
    """Written from C2SP signed-note and tlog-checkpoint; of ours it uses only what leaves the workspace."""
    key = created(tmp_path)
    root = root_of([leaf_hash(b"event")])
    exported = sign(Checkpoint(NAME, 1, root), key.key_id, key.sign)
    published = key.verifier_key.text()

    name, key_id, encoded = published.split("+", 2)
    algorithm_and_key = base64.b64decode(encoded, validate=True)
    assert algorithm_and_key[:1] == b"\x01"
    assert key_id == sha256(name.encode() + b"\x0a" + algorithm_and_key).hexdigest()[:8]

    text, _, signatures = exported.rpartition(b"\n\n")
    line = re.fullmatch("— (\\S+) (\\S+)\n".encode(), signatures)
    assert line is not None
    assert line[1] == name.encode()
    id_and_signature = base64.b64decode(line[2], validate=True)
    assert id_and_signature[:4].hex() == key_id
    outside = Ed25519PublicKey.from_public_bytes(algorithm_and_key[1:])
    outside.verify(id_and_signature[4:], text + b"\n")
    with pytest.raises(InvalidSignature):
        outside.verify(id_and_signature[4:], text.replace(b"\n1\n", b"\n2\n") + b"\n")

    assert text.split(b"\n") == [name.encode(), b"1", base64.b64encode(sha256(b"\x00event").digest())]


@requirement("recorder.proof.inclusion", "recorder.checkpoint.signed")
def test_exported_proof_verifies_from_the_published_formats_alone(tmp_path: Path) -> None:
    """Written from C2SP tlog-proof and RFC 6962 §2.1.1, for the third of four leaves."""
    key = created(tmp_path)
    leaves = [leaf_hash(b"event %d" % number) for number in range(4)]
    note = sign(Checkpoint(NAME, 4, root_of(leaves)), key.key_id, key.sign)
    exported = format_proof(2, inclusion_proof(2, leaves), note)

    proof, _, checkpoint = exported.partition(b"\n\n")
    form, index, *path = proof.decode().split("\n")
    assert (form, index) == ("c2sp.org/tlog-proof@v1", "index 2")
    fourth, first_half = map(base64.b64decode, path)
    second_half = sha256(b"\x01" + sha256(b"\x00event 2").digest() + fourth).digest()
    root = sha256(b"\x01" + first_half + second_half).digest()
    body, _, signatures = checkpoint.rpartition(b"\n\n")
    assert body.split(b"\n") == [NAME.encode(), b"4", base64.b64encode(root)]
    signature = base64.b64decode(signatures.split()[-1])[4:]
    Ed25519PublicKey.from_public_bytes(key.public_bytes).verify(signature, body + b"\n")


def test_own_reader_takes_what_the_key_signed(tmp_path: Path) -> None:
    key = created(tmp_path)
    checkpoint = Checkpoint(NAME, 1, leaf_hash(b""))
    note = sign(checkpoint, key.key_id, key.sign)
    assert verify_checkpoint(note, VerifierKey.parse(key.verifier_key.text()), verify) == checkpoint


# ── the file ───────────────────────────────────────────────────────────────────────────────────────────────


def test_key_comes_back_from_its_file(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    key = created(folder)
    again = loaded(folder)
    assert (again.public_bytes, again.key_id, again.name) == (key.public_bytes, key.key_id, NAME)
    assert again.sign(b"message") == key.sign(b"message")
    assert os.listdir(folder) == [KEY_FILE]


def test_file_and_folder_are_for_the_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    created(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / KEY_FILE).stat().st_mode) == 0o600
    assert (folder / KEY_FILE).stat().st_size == SEED_BYTES


def test_seed_is_the_chance_that_was_handed_in(tmp_path: Path) -> None:
    assert created(tmp_path / "a", 1).public_bytes == created(tmp_path / "b", 1).public_bytes
    assert created(tmp_path / "c", 2).public_bytes != created(tmp_path / "d", 1).public_bytes


def test_key_is_never_replaced(tmp_path: Path) -> None:
    key = created(tmp_path, 1)
    with pytest.raises(StateConflict):
        created(tmp_path, 2)
    assert loaded(tmp_path).public_bytes == key.public_bytes


def test_what_a_crash_left_of_a_new_key_is_cleared(tmp_path: Path) -> None:
    (tmp_path / ".log.ed25519.new").write_bytes(b"half")
    key = created(tmp_path)
    assert loaded(tmp_path).public_bytes == key.public_bytes
    assert os.listdir(tmp_path) == [KEY_FILE]


def test_missing_key_is_not_made_in_silence(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(NotFound):
            loaded(folder)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o666, 0o700 | 0o010])
def test_key_that_others_can_touch_is_refused(tmp_path: Path, mode: int) -> None:
    created(tmp_path)
    (tmp_path / KEY_FILE).chmod(mode)
    assert broken(tmp_path) == {"subject": "signing_key", "reason": "permissions"}


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_folder_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "keys"
    created(folder)
    folder.chmod(mode)
    assert broken(folder) == {"subject": "signing_key", "reason": "permissions"}
    (folder / KEY_FILE).unlink()
    with pytest.raises(IntegrityBroken):
        created(folder)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("size", [0, SEED_BYTES - 1, SEED_BYTES + 1, 100_000])
def test_key_of_another_size_is_refused(tmp_path: Path, size: int) -> None:
    created(tmp_path)
    (tmp_path / KEY_FILE).write_bytes(bytes(size))
    assert broken(tmp_path) == {"subject": "signing_key", "reason": "size"}


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    created(elsewhere)
    makers: list[Callable[[Path], None]] = [
        lambda path: path.symlink_to(elsewhere / KEY_FILE),
        lambda path: path.mkdir(),
        lambda path: os.mkfifo(path, 0o600),
    ]
    for number, make in enumerate(makers):
        folder = tmp_path / str(number)
        folder.mkdir(0o700)
        make(folder / KEY_FILE)
        assert broken(folder) == {"subject": "signing_key", "reason": "not_a_file"}
        with pytest.raises(StateConflict):
            created(folder)


def test_failing_disk_is_a_failure_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(b"a file in the folder's place")
    with pytest.raises(StoreFailed):
        created(tmp_path / "keys")
    with pytest.raises(StoreFailed):
        loaded(tmp_path / "keys")


@pytest.mark.parametrize("operation", range(1, 9))
@pytest.mark.parametrize("seed", range(6))
def test_power_loss_leaves_no_key_or_the_whole_one(tmp_path: Path, operation: int, seed: int) -> None:
    disk = Disk(tmp_path / "before", seed=seed)
    disk.cut_at(operation)
    returned = None
    with suppress(StoreFailed):
        returned = SigningKey.create(disk.root / "keys", NAME, files=disk.files, chance=SeededChance(seed))
    assert (returned is None) is disk.is_dead
    disk.power_loss(tmp_path / "after")
    path = tmp_path / "after" / "keys" / KEY_FILE
    if path.exists():
        path.chmod(0o600)  # the simulated disk keeps bytes and names, not modes
        assert loaded(path.parent).public_bytes == SigningKey(NAME, SEEDS[seed]).public_bytes
    else:
        assert returned is None
        again = created(path.parent)
        assert loaded(path.parent).public_bytes == again.public_bytes


def test_key_does_not_show_its_seed(tmp_path: Path) -> None:
    key = created(tmp_path)
    seed = (tmp_path / KEY_FILE).read_bytes()
    assert seed.hex() not in repr(key) + repr(key.verifier_key) + key.verifier_key.text()
    assert repr(seed) not in repr(key)


# ── the public key beside it ───────────────────────────────────────────────────────────────────────────────


def test_public_key_is_read_without_the_private_one(tmp_path: Path) -> None:
    key = created(tmp_path)
    publish(key, tmp_path, files=OsFiles())
    (tmp_path / KEY_FILE).unlink()
    assert load_verifier_key(tmp_path, NAME, files=OsFiles()) == key.verifier_key
    assert (tmp_path / PUBLIC_KEY_FILE).read_text() == f"{key.verifier_key.text()}\n"


def test_public_key_that_is_none_of_this_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        load_verifier_key(tmp_path, NAME, files=OsFiles())
    publish(created(tmp_path), tmp_path, files=OsFiles())
    with pytest.raises(StoreFailed):
        publish(SigningKey(NAME, SEEDS[0]), tmp_path, files=OsFiles())
    with pytest.raises(IntegrityBroken) as caught:
        load_verifier_key(tmp_path, "handshake.example/other", files=OsFiles())
    assert caught.value.context["reason"] == "name"
    for text in (b"", b"name", b"\xff", SigningKey(NAME, SEEDS[0]).verifier_key.text().encode()[:-1]):
        (tmp_path / PUBLIC_KEY_FILE).write_bytes(text)
        with pytest.raises(IntegrityBroken) as caught:
            load_verifier_key(tmp_path, NAME, files=OsFiles())
        assert caught.value.context["reason"] == "form"
    (tmp_path / PUBLIC_KEY_FILE).write_bytes(bytes(5_000))
    with pytest.raises(StoreFailed):
        load_verifier_key(tmp_path, NAME, files=OsFiles())
