"""Checkpoint: size and root of the log as a signed note that any transparency-log tool can read and verify.

A checkpoint's body is an origin line, the number of leaves, the root hash, and rarely further lines. A note is such
a body, an empty line, and one signature line per key. Nothing here signs or verifies by itself: both are handed in.

Source:
    recorder.checkpoint.signed (06 §1); C2SP tlog-checkpoint, signed-note, tlog-proof.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from hashlib import sha256

import msgspec

from handshake.kernel.errors import IntegrityBroken, InvalidRequest, TooLarge
from handshake.kernel.merkle import HASH_BYTES
from handshake.kernel.units import MAX_SAFE_INTEGER

MAX_NOTE_BYTES = 128 * 1024
"""Largest note that is read: the 16 signatures that every reader must take, even of the longest algorithm."""
MAX_SIGNATURES = 16
"""Most signature lines of one note."""
MAX_EXTENSIONS = 16
"""Most lines of a body after the root."""
MAX_LINE_CHARS = 1_000
"""Longest origin, key name or extension line."""
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64

Verify = Callable[[bytes, bytes, bytes], bool]
"""Ed25519: whether `(public_key, message, signature)` fit together."""
Sign = Callable[[bytes], bytes]
"""Ed25519: the signature of a message."""

_ED25519 = b"\x01"
_KEY_ID_BYTES = 4
_DASH = "— "
_NAME = re.compile(r"[^\s\x00-\x1f+\ud800-\udfff]+")
_LINE = re.compile(r"[^\x00-\x1f\ud800-\udfff]+")
_CONTROL = re.compile(rb"[\x00-\x09\x0b-\x1f]")
_NUMBER = re.compile(r"0|[1-9][0-9]*")


class Checkpoint(msgspec.Struct, frozen=True, gc=False):
    """What a log vouches for: that the tree of `size` leaves has this root."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def body(self) -> bytes:
        """Return the text of the note: the bytes that are signed.

        Raises:
            InvalidRequest: a part cannot stand in a body; the context names the part.
        """
        if not _is_line(self.origin):
            raise InvalidRequest(field="origin", reason="not_one_line")
        if not 0 <= self.size <= MAX_SAFE_INTEGER:
            raise InvalidRequest(field="size", reason="out_of_range")
        if len(self.root) != HASH_BYTES:
            raise InvalidRequest(field="root", reason="length")
        if len(self.extensions) > MAX_EXTENSIONS or not all(map(_is_line, self.extensions)):
            raise InvalidRequest(field="extensions", reason="not_lines")
        lines = (self.origin, str(self.size), _base64(self.root), *self.extensions)
        return "".join(f"{line}\n" for line in lines).encode()


class VerifierKey(msgspec.Struct, frozen=True, gc=False):
    """A log's name and Ed25519 public key: all that someone else needs to verify its checkpoints."""

    name: str
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        """The first bytes of the hash of name and key; tells keys of one name apart, and proves nothing."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.public_key).digest()[:_KEY_ID_BYTES]

    def text(self) -> str:
        """Return the key as one line, `<name>+<id in hex>+<key in base64>`, as verifiers take it.

        Raises:
            InvalidRequest: the name is no key name, or the key has the wrong length.
        """
        if not _is_name(self.name):
            raise InvalidRequest(field="key_name", reason="not_a_key_name")
        if len(self.public_key) != PUBLIC_KEY_BYTES:
            raise InvalidRequest(field="public_key", reason="length")
        return f"{self.name}+{self.key_id.hex()}+{_base64(_ED25519 + self.public_key)}"

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Return the key that `text` wrote, from one line without its end.

        Raises:
            InvalidRequest: field `verifier_key`; reason `form`, `algorithm` or `key_id`.
        """
        name, _, rest = text.partition("+")
        key_id, _, encoded = rest.partition("+")
        packed = _unbase64(encoded) if len(rest) <= MAX_LINE_CHARS else None
        if not _is_name(name) or not packed:
            raise InvalidRequest(field="verifier_key", reason="form")
        if packed[:1] != _ED25519 or len(packed) != 1 + PUBLIC_KEY_BYTES:
            raise InvalidRequest(field="verifier_key", reason="algorithm")
        key = cls(name, packed[1:])
        if key_id != key.key_id.hex():
            raise InvalidRequest(field="verifier_key", reason="key_id")
        return key


class NoteSignature(msgspec.Struct, frozen=True, gc=False):
    """One signature line of a note, of whatever algorithm."""

    name: str
    key_id: bytes
    signature: bytes


class Note(msgspec.Struct, frozen=True, gc=False):
    """A signed text, not yet verified."""

    body: bytes
    signatures: tuple[NoteSignature, ...]

    def to_bytes(self) -> bytes:
        """Return the note as it is stored, exported and sent."""
        lines = (f"{_DASH}{one.name} {_base64(one.key_id + one.signature)}\n" for one in self.signatures)
        return self.body + b"\n" + "".join(lines).encode()


def sign(checkpoint: Checkpoint, key_id: bytes, make: Sign) -> bytes:
    """Return the note of a checkpoint, signed in the name of its origin.

    Args:
        checkpoint: what is signed; its origin is also the key's name.
        key_id: id of the key, as `VerifierKey.key_id` gives it.
        make: makes the signature of the body.

    Raises:
        InvalidRequest: a part of the checkpoint cannot be written, or its origin is no key name.
    """
    if not _is_name(checkpoint.origin):
        raise InvalidRequest(field="origin", reason="not_a_key_name")
    body = checkpoint.body()
    return Note(body, (NoteSignature(checkpoint.origin, key_id, make(body)),)).to_bytes()


def parse_note(data: bytes) -> Note:
    """Return the parts of a note; the text means nothing before `verify_note`.

    Raises:
        TooLarge: more than `MAX_NOTE_BYTES`.
        IntegrityBroken: `subject` is `note`; `reason` is `utf8`, `control_character`, `form` or `signatures` (none, or
            more than `MAX_SIGNATURES`).
    """
    if len(data) > MAX_NOTE_BYTES:
        raise TooLarge(field="note", size_bytes=len(data), limit_bytes=MAX_NOTE_BYTES)
    text = _decoded(data, "note")
    body, separator, signed = text.rpartition("\n\n")
    if not separator or not signed.endswith("\n"):
        raise _broken("note", "form")
    lines = signed[:-1].split("\n", MAX_SIGNATURES)
    if len(lines) > MAX_SIGNATURES:
        raise _broken("note", "signatures")
    return Note(f"{body}\n".encode(), tuple(map(_signature, lines)))


def parse_body(body: bytes) -> Checkpoint:
    """Return the checkpoint that a note's text states.

    Raises:
        TooLarge: more than `MAX_NOTE_BYTES`.
        IntegrityBroken: `subject` is `checkpoint`; `reason` is `utf8`, `control_character`, `form`, `size` or `root`.
    """
    if len(body) > MAX_NOTE_BYTES:
        raise TooLarge(field="checkpoint", size_bytes=len(body), limit_bytes=MAX_NOTE_BYTES)
    lines = _decoded(body, "checkpoint").split("\n")
    if len(lines) < 4 or lines.pop() or len(lines) > 3 + MAX_EXTENSIONS or not all(map(_is_line, lines)):
        raise _broken("checkpoint", "form")
    origin, number, encoded, *extensions = lines
    if len(number) > len(str(MAX_SAFE_INTEGER)) or not _NUMBER.fullmatch(number) or int(number) > MAX_SAFE_INTEGER:
        raise _broken("checkpoint", "size")
    root = _unbase64(encoded)
    if root is None or len(root) != HASH_BYTES:
        raise _broken("checkpoint", "root")
    return Checkpoint(origin, int(number), root, tuple(extensions))


def verify_note(data: bytes, key: VerifierKey, verify: Verify) -> bytes:
    """Return the text of a note once `key` is shown to have signed it; other keys' signatures are passed over.

    Raises:
        TooLarge: more than `MAX_NOTE_BYTES`.
        IntegrityBroken: `subject` is `note`; `reason` is one of `parse_note`, `not_signed` by the key, or `signature`:
            a signature in its name does not fit.
    """
    note = parse_note(data)
    own = [one.signature for one in note.signatures if (one.name, one.key_id) == (key.name, key.key_id)]
    if not own:
        raise _broken("note", "not_signed")
    if not all(len(one) == SIGNATURE_BYTES and verify(key.public_key, note.body, one) for one in own):
        raise _broken("note", "signature")
    return note.body


def verify_checkpoint(data: bytes, key: VerifierKey, verify: Verify, *, origin: str | None = None) -> Checkpoint:
    """Return the checkpoint of a note that `key` signed.

    Args:
        data: the note.
        key: who must have signed.
        verify: the check of a signature.
        origin: the log that must be meant; by default the one named like the key.

    Raises:
        TooLarge: more than `MAX_NOTE_BYTES`.
        IntegrityBroken: as `verify_note` and `parse_body`, or reason `origin`: the checkpoint is of another log.
    """
    checkpoint = parse_body(verify_note(data, key, verify))
    if checkpoint.origin != (key.name if origin is None else origin):
        raise _broken("checkpoint", "origin")
    return checkpoint


def format_proof(index: int, proof: Sequence[bytes], note: bytes, *, extra: bytes = b"") -> bytes:
    """Return an inclusion proof and the note of the checkpoint it leads to, as one `tlog-proof` file.

    Args:
        index: place of the leaf, from 0.
        proof: hashes as `merkle.inclusion_proof` gives them.
        note: the signed checkpoint of the tree that the proof was made in.
        extra: what else the file carries, by itself not proved; the leaf's content, so that its hash can be made.
    """
    carried = (f"extra {_base64(extra)}",) if extra else ()
    lines = ("c2sp.org/tlog-proof@v1", *carried, f"index {index}", *map(_base64, proof), "")
    return "".join(f"{line}\n" for line in lines).encode() + note


def format_consistency(old_size: int, proof: Sequence[bytes], note: bytes) -> bytes:
    """Return a consistency proof and the newer checkpoint's note, in the form in which witnesses take both.

    Args:
        old_size: leaves of the older checkpoint.
        proof: hashes as `merkle.consistency_proof` gives them.
        note: the newer signed checkpoint.

    Source:
        C2SP tlog-witness, `add-checkpoint`.
    """
    return "".join(f"{line}\n" for line in (f"old {old_size}", *map(_base64, proof), "")).encode() + note


def _signature(line: str) -> NoteSignature:
    parts = line.removeprefix(_DASH).split(" ")
    packed = _unbase64(parts[-1])
    if not line.startswith(_DASH) or len(parts) != 2 or not _is_name(parts[0]):
        raise _broken("note", "form")
    if packed is None or len(packed) <= _KEY_ID_BYTES:
        raise _broken("note", "form")
    return NoteSignature(parts[0], packed[:_KEY_ID_BYTES], packed[_KEY_ID_BYTES:])


def _decoded(data: bytes, subject: str) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise _broken(subject, "utf8") from None
    if _CONTROL.search(data):
        raise _broken(subject, "control_character")
    return text


def _is_name(text: str) -> bool:
    return len(text) <= MAX_LINE_CHARS and _NAME.fullmatch(text) is not None


def _is_line(text: str) -> bool:
    return len(text) <= MAX_LINE_CHARS and _LINE.fullmatch(text) is not None


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unbase64(text: str) -> bytes | None:
    """Return the bytes of a base64 text in its one canonical spelling, or None."""
    try:
        data = base64.b64decode(text.encode(), validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if _base64(data) == text else None


def _broken(subject: str, reason: str) -> IntegrityBroken:
    return IntegrityBroken(subject=subject, reason=reason)
