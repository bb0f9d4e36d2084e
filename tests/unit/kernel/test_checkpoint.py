"""Checkpoints: published notes verify, ours have the published form, and nothing looser is taken."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from handshake.kernel.checkpoint import (
    MAX_EXTENSIONS,
    MAX_LINE_CHARS,
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    Checkpoint,
    Note,
    NoteSignature,
    VerifierKey,
    format_consistency,
    format_proof,
    parse_body,
    parse_note,
    sign,
    verify_checkpoint,
    verify_note,
)
from handshake.kernel.errors import IntegrityBroken, InvalidRequest, TooLarge
from handshake.kernel.merkle import EMPTY_ROOT, leaf_hash
from handshake.kernel.units import MAX_SAFE_INTEGER
from tests.requirement import requirement

# The example of Go's note package, with the private key that it publishes.
PUBLISHED_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PUBLISHED_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
PUBLISHED_TEXT = (
    b"If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
)
PUBLISHED_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)

# A checkpoint of Go's checksum database, and the key that its tools have built in.
DATABASE_KEY = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
DATABASE_NOTE = (
    "go.sum database tree\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— sum.golang.org Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
).encode()

PRIVATE = Ed25519PrivateKey.from_private_bytes(PUBLISHED_SEED)
KEY = VerifierKey("example.org/log", PRIVATE.public_key().public_bytes_raw())
ROOT = leaf_hash(b"")
CHECKPOINT = Checkpoint("example.org/log", 1, ROOT)


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def signed(checkpoint: Checkpoint = CHECKPOINT, key: VerifierKey = KEY) -> bytes:
    return sign(checkpoint, key.key_id, PRIVATE.sign)


def broken(data: bytes) -> tuple[object, object]:
    with pytest.raises(IntegrityBroken) as caught:
        verify_checkpoint(data, KEY, verify)
    assert set(caught.value.context) == {"subject", "reason"}
    return caught.value.context["subject"], caught.value.context["reason"]


# ── published notes ────────────────────────────────────────────────────────────────────────────────────────


def test_published_note_verifies() -> None:
    note = PUBLISHED_TEXT + b"\n" + PUBLISHED_LINE.encode()
    assert verify_note(note, VerifierKey.parse(PUBLISHED_KEY), verify) == PUBLISHED_TEXT


def test_published_note_is_what_we_write() -> None:
    key = VerifierKey("PeterNeumann", PRIVATE.public_key().public_bytes_raw())
    assert key.text() == PUBLISHED_KEY
    line = NoteSignature(key.name, key.key_id, PRIVATE.sign(PUBLISHED_TEXT))
    assert Note(PUBLISHED_TEXT, (line,)).to_bytes() == PUBLISHED_TEXT + b"\n" + PUBLISHED_LINE.encode()


@requirement("recorder.checkpoint.signed")
def test_published_checkpoint_verifies_and_has_our_form() -> None:
    key = VerifierKey.parse(DATABASE_KEY)
    checkpoint = verify_checkpoint(DATABASE_NOTE, key, verify, origin="go.sum database tree")
    assert (checkpoint.size, checkpoint.root.hex()[:8], checkpoint.extensions) == (20852163, "0ac5186a", ())
    assert checkpoint.body() + b"\n" == DATABASE_NOTE[: DATABASE_NOTE.index("—".encode())]
    assert parse_note(DATABASE_NOTE).to_bytes() == DATABASE_NOTE


# ── our own ────────────────────────────────────────────────────────────────────────────────────────────────


def test_checkpoint_comes_back_from_its_note() -> None:
    for checkpoint in (CHECKPOINT, Checkpoint("example.org/log", 0, EMPTY_ROOT, ("é one", "two"))):
        assert verify_checkpoint(signed(checkpoint), KEY, verify) == checkpoint


def test_body_has_a_line_for_each_part() -> None:
    body = Checkpoint("o", MAX_SAFE_INTEGER, ROOT, ("x y",)).body()
    assert body == b"o\n9007199254740991\nbjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0=\nx y\n"


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"origin": ""}, "origin"),
        ({"origin": "a\nb"}, "origin"),
        ({"origin": "a\ud800"}, "origin"),
        ({"origin": "a" * (MAX_LINE_CHARS + 1)}, "origin"),
        ({"size": -1}, "size"),
        ({"size": MAX_SAFE_INTEGER + 1}, "size"),
        ({"root": b""}, "root"),
        ({"root": bytes(31)}, "root"),
        ({"extensions": ("",)}, "extensions"),
        ({"extensions": ("a\r",)}, "extensions"),
        ({"extensions": ("a",) * (MAX_EXTENSIONS + 1)}, "extensions"),
    ],
)
def test_checkpoint_that_cannot_be_written_is_refused(changed: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        msgspec.structs.replace(CHECKPOINT, **changed).body()
    assert refused.value.context["field"] == field


@pytest.mark.parametrize("origin", ["", "two words", "a+b", "no\u00a0break"])
def test_origin_that_is_no_key_name_is_not_signed(origin: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        signed(Checkpoint(origin, 1, ROOT))
    assert refused.value.context == {"field": "origin", "reason": "not_a_key_name"}


# ── verification ───────────────────────────────────────────────────────────────────────────────────────────


def test_every_changed_byte_is_noticed() -> None:
    note = signed()
    for at in range(len(note)):
        with pytest.raises(IntegrityBroken):
            verify_checkpoint(note[:at] + bytes([note[at] ^ 1]) + note[at + 1 :], KEY, verify)


def test_note_without_the_keys_signature_is_refused() -> None:
    other = VerifierKey("example.org/log", bytes(32))
    assert broken(signed(key=other)) == ("note", "not_signed")
    renamed = signed().replace("— example.org/log".encode(), "— example.org/other".encode())
    assert broken(renamed) == ("note", "not_signed")


def test_other_signatures_are_passed_over() -> None:
    note = parse_note(signed())
    others = (NoteSignature("witness.example", KEY.key_id, b"?"), NoteSignature(KEY.name, b"none", bytes(5000)))
    assert verify_checkpoint(Note(note.body, (*others, *note.signatures)).to_bytes(), KEY, verify) == CHECKPOINT


def test_second_signature_of_the_key_must_fit_too() -> None:
    note = parse_note(signed())
    false = NoteSignature(KEY.name, KEY.key_id, bytes(64))
    assert broken(Note(note.body, (*note.signatures, false)).to_bytes()) == ("note", "signature")
    short = NoteSignature(KEY.name, KEY.key_id, note.signatures[0].signature[:-1])
    assert broken(Note(note.body, (short,)).to_bytes()) == ("note", "signature")


def test_checkpoint_of_another_log_is_refused() -> None:
    body = Checkpoint("example.org/other", 1, ROOT).body()
    note = Note(body, (NoteSignature(KEY.name, KEY.key_id, PRIVATE.sign(body)),)).to_bytes()
    assert broken(note) == ("checkpoint", "origin")
    assert verify_checkpoint(note, KEY, verify, origin="example.org/other").size == 1


# ── form ───────────────────────────────────────────────────────────────────────────────────────────────────

LINE = "— name " + base64.b64encode(bytes(68)).decode() + "\n"


@pytest.mark.parametrize(
    ("note", "reason"),
    [
        ("", "form"),
        ("text\n", "form"),
        ("text\n\n", "form"),
        ("text\n" + LINE, "form"),
        ("text\n\n" + LINE[:-1], "form"),
        ("text\n\n" + LINE + "text\n", "form"),
        ("text\n\n" + LINE.replace("—", "-"), "form"),
        ("text\n\n" + LINE.replace("— ", "—"), "form"),
        ("text\n\n" + LINE.replace("name", "na me"), "form"),
        ("text\n\n" + LINE.replace("name", "na+me"), "form"),
        ("text\n\n" + LINE.replace("name", ""), "form"),
        ("text\n\n" + LINE.replace("name", "x" * (MAX_LINE_CHARS + 1)), "form"),
        ("text\n\n" + LINE.replace("=", ""), "form"),
        ("text\n\n— name AAAA\n", "form"),
        ("text\n\n— name AAAAAA==\n", "form"),
        ("text\n\n— name AAAAAB==\n", "form"),
        ("text\n\n— name A AAAAAAA=\n", "form"),
        ("text\n\n" + LINE * (MAX_SIGNATURES + 1), "signatures"),
        ("te\txt\n\n" + LINE, "control_character"),
        ("text\r\n\n" + LINE, "control_character"),
    ],
)
def test_note_of_another_form_is_refused(note: str, reason: str) -> None:
    with pytest.raises(IntegrityBroken) as caught:
        parse_note(note.encode())
    assert caught.value.context == {"subject": "note", "reason": reason}


def test_note_may_have_empty_lines_and_as_many_signatures_as_the_form_demands() -> None:
    note = parse_note(("a\n\nb\n\n" + LINE * MAX_SIGNATURES).encode())
    assert note.body == b"a\n\nb\n"
    assert note.signatures == (NoteSignature("name", bytes(4), bytes(64)),) * MAX_SIGNATURES


def test_note_that_is_not_text_or_too_large_is_refused() -> None:
    with pytest.raises(IntegrityBroken) as caught:
        parse_note(b"\xff\n\n" + LINE.encode())
    assert caught.value.context == {"subject": "note", "reason": "utf8"}
    for read in (parse_note, parse_body):
        with pytest.raises(TooLarge) as large:
            read(b"x" * (MAX_NOTE_BYTES + 1))
        assert large.value.context["limit_bytes"] == MAX_NOTE_BYTES


ENCODED = base64.b64encode(ROOT).decode()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "form"),
        ("o\n1\n", "form"),
        (f"o\n1\n{ENCODED}", "form"),
        (f"\n1\n{ENCODED}\n", "form"),
        (f"o\n1\n{ENCODED}\n\n", "form"),
        (f"o\n1\n{ENCODED}\n\nx\n", "form"),
        (f"o\n1\n{ENCODED}\n" + "x\n" * (MAX_EXTENSIONS + 1), "form"),
        (f"o\n1\n{ENCODED}\n" + "x" * (MAX_LINE_CHARS + 1) + "\n", "form"),
        (f"o\r\n1\n{ENCODED}\n", "control_character"),
        (f"o\n01\n{ENCODED}\n", "size"),
        (f"o\n-1\n{ENCODED}\n", "size"),
        (f"o\n+1\n{ENCODED}\n", "size"),
        (f"o\n1.0\n{ENCODED}\n", "size"),
        (f"o\n ١\n{ENCODED}\n", "size"),
        (f"o\n١\n{ENCODED}\n", "size"),
        (f"o\n9007199254740992\n{ENCODED}\n", "size"),
        (f"o\n{'9' * 900}\n{ENCODED}\n", "size"),
        (f"o\n1\n{ENCODED[:-1]}\n", "root"),
        (f"o\n1\n{ENCODED[:-2]}1=\n", "root"),
        (f"o\n1\n {ENCODED}\n", "root"),
        (f"o\n1\n{ROOT.hex()}\n", "root"),
        (f"o\n1\n{ENCODED.replace('+', '-')}\n", "root"),
        ("o\n1\n=\n", "root"),
        (f"o\n1\n{'é' * 44}\n", "root"),
    ],
)
def test_body_of_another_form_is_refused(body: str, reason: str) -> None:
    with pytest.raises(IntegrityBroken) as caught:
        parse_body(body.encode())
    assert caught.value.context == {"subject": "checkpoint", "reason": reason}


# ── keys ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_key_comes_back_from_its_text() -> None:
    assert VerifierKey.parse(KEY.text()) == KEY


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "form"),
        ("name", "form"),
        (PUBLISHED_KEY.replace("PeterNeumann", ""), "form"),
        (PUBLISHED_KEY.replace("PeterNeumann", "Peter Neumann"), "form"),
        (PUBLISHED_KEY + "\n", "form"),
        (PUBLISHED_KEY[:-1], "form"),
        ("\ud800" + PUBLISHED_KEY, "form"),
        (PUBLISHED_KEY + "A" * 10_000, "form"),
        (PUBLISHED_KEY.replace("+ARpc", "+AhpC"), "algorithm"),
        (PUBLISHED_KEY + "AAAA", "algorithm"),
        (PUBLISHED_KEY.replace("c74f20a3", "c74f20a4"), "key_id"),
        (PUBLISHED_KEY.replace("c74f20a3", "C74F20A3"), "key_id"),
        (PUBLISHED_KEY.replace("PeterNeumann", "PeterNewmann"), "key_id"),
    ],
)
def test_key_text_of_another_form_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        VerifierKey.parse(text)
    assert caught.value.context == {"field": "verifier_key", "reason": reason}


@pytest.mark.parametrize("key", [VerifierKey("a b", bytes(32)), VerifierKey("", bytes(32)), VerifierKey("a", b"")])
def test_key_that_cannot_be_written_is_refused(key: VerifierKey) -> None:
    with pytest.raises(InvalidRequest):
        key.text()


# ── proofs ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_proof_file_has_the_published_form() -> None:
    note = signed()
    assert format_proof(0, [ROOT], note) == f"c2sp.org/tlog-proof@v1\nindex 0\n{ENCODED}\n\n".encode() + note
    assert format_proof(12, [], note) == b"c2sp.org/tlog-proof@v1\nindex 12\n\n" + note
    extra = base64.b64encode(b"the event").decode()
    carrying = f"c2sp.org/tlog-proof@v1\nextra {extra}\nindex 0\n{ENCODED}\n\n".encode() + note
    assert format_proof(0, [ROOT], note, extra=b"the event") == carrying


def test_consistency_file_has_the_form_that_witnesses_take() -> None:
    note = signed()
    assert format_consistency(8, [ROOT, ROOT], note) == f"old 8\n{ENCODED}\n{ENCODED}\n\n".encode() + note
    assert format_consistency(0, [], note) == b"old 0\n\n" + note
