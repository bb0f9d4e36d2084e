"""Verification: walks the whole log, recomputes every hash, and names the first event that does not fit.

Memory is bounded by a page, and each page is read in a transaction of its own: a writer may go on meanwhile. What
it adds after the start is not looked at.

Source:
    recorder.log.verifies, recorder.read.while_writing (06 §1).
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import msgspec

from handshake.kernel import recorded
from handshake.kernel.checkpoint import Checkpoint, VerifierKey, Verify, parse_body, parse_note, verify_checkpoint
from handshake.kernel.errors import IntegrityBroken, InvalidEvent, InvalidRequest, TooLarge
from handshake.kernel.event import FIRST_PREV_HASH
from handshake.kernel.merkle import Frontier, extend
from handshake.kernel.moment import rfc3339
from handshake.kernel.recorded import Recorded
from handshake.kernel.settings import LOG_PAGE_EVENTS
from handshake.operations import contents, diagnosis
from handshake.operations.diagnosis import End, Ground
from handshake.operations.verdict import Break, Damage, Progress, Read, Verdict
from handshake.ports.store import Reader

_TELLER = "meta.checkpoint_signed"
_BEFORE_ALL = -(2**63)


def verify(
    read: Read,
    key: VerifierKey,
    check: Verify,
    *,
    progress: Progress | None = None,
    anchor: bytes | None = None,
    deep: bool = False,
) -> Verdict:
    """Return what a walk over the log as it is now finds; never raises for what it finds.

    Args:
        read: runs a query; `read_now` of a store.
        key: whose signatures count. Taken from the workspace it proves less than one that was kept elsewhere.
        check: the check of an Ed25519 signature.
        progress: told how far the walk is.
        anchor: an exported checkpoint that the log must continue.
        deep: also hold every event to its schema, messages to their events, and artifacts to their hashes.

    Raises:
        InvalidRequest, TooLarge: the anchor is no checkpoint, or one of another log.
        IntegrityBroken: the file is no sound database.
        StoreFailed: the store cannot be read.
    """
    exported = None if anchor is None else _parsed(anchor, key)
    walk = _Walk(read, key, check, exported, deep=deep)
    broken = walk.unsigned_anchor(anchor) if anchor is not None else None
    if broken is None:
        broken = walk.run(progress)
    if broken is None and deep:
        broken = contents.broken(read)
    anchored = exported.size if exported is not None and broken is None else None
    return Verdict(walk.size, walk.seq, walk.signed_size, walk.checkpoints, anchored, deep, broken)


class _Teller(msgspec.Struct, frozen=True, gc=False):
    """What the event after a checkpoint must say."""

    key_id: str
    root_hash: str
    tree_size: int


class _Told(msgspec.Struct, frozen=True):
    payload: _Teller


_told = msgspec.json.Decoder(_Told).decode


class _Walk:
    """One walk: how far it is, and the end that it must reach."""

    def __init__(self, read: Read, key: VerifierKey, check: Verify, exported: Checkpoint | None, *, deep: bool) -> None:
        self._read = read
        self._key = key
        self._check = check
        self._exported = exported
        self._deep = deep
        self._end, self._last_seq, self._last_checkpoint = read(_end)
        self.size = self._end.size
        self.seq = 0
        self.signed_size = 0
        self.checkpoints = 0
        self._prev = FIRST_PREV_HASH
        self._frontier = self._signed_frontier = Frontier()
        self._expected: tuple[_Teller, int] | None = None
        self._moment = (-1, "")
        self._next = self._checkpoint_after(_BEFORE_ALL)

    def unsigned_anchor(self, anchor: bytes) -> Break | None:
        """Return the break that an exported checkpoint shows by its signature alone."""
        try:
            exported = verify_checkpoint(anchor, self._key, self._check)
        except IntegrityBroken:
            return Break(Damage.RESIGNED, 1, self.size, "key")
        return None if exported == self._exported else Break(Damage.RESIGNED, 1, self.size, "key")

    def run(self, progress: Progress | None) -> Break | None:
        """Walk to the end, or to the first break."""
        broken = self._stop()
        while broken is None and self.seq < self.size:
            marks = (self._next[0] if self._next else 0, self._exported.size if self._exported else 0)
            through = min(self.seq + LOG_PAGE_EVENTS, self.size, *(mark for mark in marks if mark > self.seq))
            broken = self._stretch(through) or self._stop()
            if progress is not None:
                progress(self.seq, self.size)
        return broken or self._after()

    # -- events ---------------------------------------------------------------------------------------------

    def _stretch(self, through: int) -> Break | None:
        after = self.seq
        bounds = {"after": after, "through": through, "limit": through - after}
        rows: list[Any] = self._read(lambda reader: reader.rows("event_stretch", bounds))
        digests = [sha256(b"\x00" + row[6]).digest() for row in rows]
        for row, digest in zip(rows, digests, strict=True):
            broken = self._event(row, digest)
            if broken is not None:
                return broken
            self.seq += 1
            self._prev = digest.hex()
        self._frontier = extend(self._frontier, digests)
        if self.seq < through:
            return diagnosis.gap(self._ground(), self.seq)
        return None

    def _event(self, row: Any, digest: bytes) -> Break | None:
        seq, name, session_id, job_id, at_us, stored, body = row
        if seq != self.seq + 1:
            return diagnosis.gap(self._ground(), self.seq)
        if digest != stored:
            return diagnosis.of_body(self._ground(), seq, digest)
        try:
            event = recorded.read(body)
            if self._deep:
                recorded.require_sealed(body)
        except InvalidEvent as broken:
            return Break(Damage.ALTERED, seq, seq, str(broken.context["reason"]))
        if event.seq != seq or event.prev_hash != self._prev:
            return diagnosis.of_place(self._ground(), event, seq, self._prev)
        if event.type != name or event.model_session_id != session_id or event.job_id != job_id:
            return Break(Damage.ALTERED, seq, seq, "columns")
        if at_us != self._moment[0]:
            self._moment = (at_us, _written(at_us))
        if event.timestamp != self._moment[1]:
            return Break(Damage.ALTERED, seq, seq, "columns")
        if self._expected is not None or name == _TELLER:
            return self._teller(event, body, at_us)
        return None

    def _teller(self, event: Recorded, body: bytes, at_us: int) -> Break | None:
        """Hold the event after a checkpoint to the checkpoint, and each event that tells of one to its place."""
        expected, self._expected = self._expected, None
        if event.type != _TELLER:
            return Break(Damage.CHECKPOINT_FORGED, event.seq, event.seq, "untold")
        try:
            told = _told(body).payload
        except msgspec.MsgspecError:
            return Break(Damage.ALTERED, event.seq, event.seq, "schema")
        if expected is None:
            here = told.tree_size == event.seq - 1
            damage = Damage.CHECKPOINT_MISSING if here else Damage.ALTERED
            return Break(damage, event.seq, event.seq, "checkpoint")
        if told != expected[0]:
            return Break(Damage.ALTERED, event.seq, event.seq, "checkpoint")
        if at_us != expected[1]:
            return Break(Damage.CHECKPOINT_FORGED, event.seq, event.seq, "columns")
        return None

    # -- signed sizes ---------------------------------------------------------------------------------------

    def _stop(self) -> Break | None:
        """Hold the root to what was signed for this size, here and in the exported checkpoint."""
        while self._next is not None and self._next[0] <= self.seq:
            broken = self._checkpoint(self._next)
            if broken is not None:
                return broken
            self._next = self._checkpoint_after(self._next[0])
        exported = self._exported
        if exported is not None and exported.size == self.seq and exported.root != self._frontier.root():
            return Break(Damage.RESIGNED, 1, self.seq, "anchor")
        return None

    def _checkpoint(self, row: Any) -> Break | None:
        signed = self._signed(row)
        if isinstance(signed, Break):
            return signed
        if signed.root != self._frontier.root():
            return diagnosis.of_root(self._ground(), "root")
        self.checkpoints += 1
        self.signed_size, self._signed_frontier = signed.size, self._frontier
        self._expected = (_Teller(self._key.key_id.hex(), row[1], signed.size), row[2])
        return None

    def _signed(self, row: Any) -> Checkpoint | Break:
        tree_size, root_hash, _, note = row
        try:
            signed = verify_checkpoint(note.encode(), self._key, self._check)
        except (IntegrityBroken, TooLarge) as broken:
            return _forged(tree_size, str(broken.context.get("reason", "size")))
        if (signed.size, signed.root.hex()) != (tree_size, root_hash) or signed.size < 1:
            return _forged(tree_size, "columns")
        return signed

    def _checkpoint_after(self, size: int) -> Any:
        if size >= self._last_checkpoint:
            return None
        return self._read(lambda reader: reader.row("checkpoint_page", {"after": size, "limit": 1}))

    # -- the end --------------------------------------------------------------------------------------------

    def _after(self) -> Break | None:
        """Look at what must come after the last event."""
        size, end = self.size, self._end
        if self._last_seq > size:
            return Break(Damage.ADDED, size + 1, self._last_seq, "log_state")
        if self._next is not None:
            signed = self._signed(self._next)
            return signed if isinstance(signed, Break) else Break(Damage.TRUNCATED, size + 1, signed.size, "checkpoint")
        if self._expected is not None:
            return Break(Damage.TRUNCATED, size + 1, size + 1, "checkpoint")
        if self._exported is not None and self._exported.size > size:
            return Break(Damage.TRUNCATED, size + 1, self._exported.size, "anchor")
        if end.frontier != self._frontier:
            return diagnosis.of_root(self._ground(), "log_state")
        if end.last_hash != self._prev:
            return Break(Damage.ALTERED, size, size, "log_state")
        return None

    def _ground(self) -> Ground:
        """Return what is certain so far: the log up to the last checkpoint whose root fits."""
        target = None
        if self._next is not None and self._next[0] <= self.size:
            signed = self._signed(self._next)
            target = signed if isinstance(signed, Checkpoint) else None
        return Ground(self._read, self.signed_size, self._signed_frontier, target, self._end)


def _end(reader: Reader) -> tuple[End, int, int]:
    """Return the end that the log states, the number of its last event, and the size of its last checkpoint."""
    state: Any = reader.row("log_state")
    last: Any = reader.row("event_last")
    checkpoint: Any = reader.row("checkpoint_last")
    size, last_hash, packed = state or (0, FIRST_PREV_HASH, b"")
    try:
        frontier = Frontier.from_bytes(packed)
    except IntegrityBroken:
        frontier = None
    return End(size, last_hash, frontier), last[0] if last else 0, checkpoint[0] if checkpoint else _BEFORE_ALL


def _forged(tree_size: int, what: str) -> Break:
    seq = max(0, tree_size + 1)
    return Break(Damage.CHECKPOINT_FORGED, seq, seq, what)


def _parsed(anchor: bytes, key: VerifierKey) -> Checkpoint:
    try:
        exported = parse_body(parse_note(anchor).body)
    except IntegrityBroken as broken:
        raise InvalidRequest(field="anchor", reason="not_a_checkpoint") from broken
    if exported.origin != key.name:
        raise InvalidRequest(field="anchor", reason="another_log")
    return exported


def _written(at_us: int) -> str:
    try:
        return rfc3339(at_us)
    except (ValueError, OverflowError, OSError):
        return ""
