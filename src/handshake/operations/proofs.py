"""Proofs: exported evidence that an event is in a signed log, or that a log only grew, for tools of anyone.

Leaf hashes are read in pages, so that memory stays small whatever the log's length.

Source:
    recorder.proof.inclusion (06 §1).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from handshake.kernel.checkpoint import Checkpoint, format_consistency, format_proof, parse_body, parse_note
from handshake.kernel.errors import IntegrityBroken, InvalidRequest, StateConflict
from handshake.kernel.merkle import (
    EMPTY_ROOT,
    consistency_path,
    inclusion_path,
    leaf_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from handshake.kernel.settings import LOG_PAGE_EVENTS
from handshake.operations.audit import event_row
from handshake.ports.store import Reader

_SIGN = "sign the log with: handshake audit checkpoint"


def prove(reader: Reader, seq: int) -> bytes:
    """Return a `tlog-proof` that event `seq` is in the log of the last checkpoint; it carries the event's bytes.

    The bytes are the `extra` line. Their RFC 6962 leaf hash is what the proof is about, at index `seq` − 1.

    Raises:
        NotFound: the log has no such event.
        StateConflict: no checkpoint covers it yet.
        IntegrityBroken: the event is not what the checkpoint signed, or events around it are missing.
    """
    row: Any = event_row(reader, seq)
    body: bytes = row[6]
    note, signed = _last(reader)
    if signed.size < seq:
        raise StateConflict(hint=_SIGN, subject="event", reason="not_signed", seq=seq, signed_size=signed.size)
    path = inclusion_path(seq - 1, signed.size)
    proof = tuple(root_of(_leaves(reader, part)) for part in path)
    if not verify_inclusion(seq - 1, signed.size, leaf_hash(body), proof, signed.root):
        raise IntegrityBroken(subject="event", reason="not_what_was_signed", seq=seq, signed_size=signed.size)
    return format_proof(seq - 1, proof, note, extra=body)


def consistency(reader: Reader, old_note: bytes) -> bytes:
    """Return a proof that the log of the last checkpoint continues the one of `old_note`, an earlier export.

    The signature of `old_note` is not looked at: whoever holds it knows where it is from.

    Raises:
        InvalidRequest: `old_note` is no checkpoint, or of another log.
        TooLarge: it is over its limit.
        StateConflict: nothing is signed here.
        IntegrityBroken: the log does not continue it: cut off or written anew since.
    """
    try:
        old = parse_body(parse_note(old_note).body)
    except IntegrityBroken as broken:
        raise InvalidRequest(field="checkpoint", reason="not_a_checkpoint") from broken
    note, signed = _last(reader)
    if signed.size == 0:
        raise StateConflict(hint=_SIGN, subject="log", reason="not_signed")
    if old.origin != signed.origin:
        raise InvalidRequest(field="checkpoint", reason="another_log")
    if old.size > signed.size:
        raise IntegrityBroken(subject="log", reason="truncated", size=signed.size, signed_before=old.size)
    path = consistency_path(old.size, signed.size) if old.size else ()
    proof = tuple(root_of(_leaves(reader, part)) for part in path)
    if not (
        old.root == EMPTY_ROOT if old.size == 0
        else verify_consistency(old.size, signed.size, old.root, signed.root, proof)
    ):  # fmt: skip
        raise IntegrityBroken(subject="log", reason="not_continued", size=signed.size, signed_before=old.size)
    return format_consistency(old.size, proof, note)


def _last(reader: Reader) -> tuple[bytes, Checkpoint]:
    """Return the last checkpoint's note and content; before the first one, that of the empty log."""
    row: Any = reader.row("checkpoint_last")
    if row is None:
        return b"", Checkpoint("", 0, EMPTY_ROOT)
    note = str(row[3]).encode()
    return note, parse_body(parse_note(note).body)


def _leaves(reader: Reader, part: range) -> Iterator[bytes]:
    """Yield the leaf hashes of a stretch of leaves (from 0)."""
    after = part.start
    while after < part.stop:
        rows: list[Any] = reader.rows("event_hashes", {"after": after, "through": part.stop, "limit": LOG_PAGE_EVENTS})
        for seq, digest in rows:
            after += 1
            if seq != after:
                raise IntegrityBroken(subject="event", reason="missing", seq=after)
            yield digest
        if not rows:
            raise IntegrityBroken(subject="event", reason="missing", seq=after + 1)
