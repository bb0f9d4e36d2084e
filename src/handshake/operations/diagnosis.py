"""Diagnosis: which event a break in the log is about, and what kind it is.

A hash that does not fit shows a break between two events; which of them was changed shows in what others say. Each
event names the hash of the one before it. Where the hashes that events *name* lead to the root that was signed,
they are the hashes that were written, and the first event with another one is the broken one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from handshake.kernel import recorded
from handshake.kernel.checkpoint import Checkpoint
from handshake.kernel.errors import InvalidEvent
from handshake.kernel.ids import is_sha256
from handshake.kernel.merkle import Frontier, extend, leaf_hash
from handshake.kernel.recorded import Recorded
from handshake.kernel.settings import LOG_PAGE_EVENTS
from handshake.operations.verdict import Break, Damage, Read


class End(msgspec.Struct, frozen=True):
    """Where the log says it ends."""

    size: int
    last_hash: str
    frontier: Frontier | None
    """None if what is stored is none."""


class Ground(msgspec.Struct, frozen=True):
    """What is certain when a break is found, and the next root that is known."""

    read: Read
    signed_size: int
    """Events that are certain: the last root that fitted."""
    frontier: Frontier
    """The tree over them."""
    target: Checkpoint | None
    """The next signed root; None if there is none before the end."""
    end: End


def gap(ground: Ground, seq: int) -> Break:
    """Return the break after event `seq`, which the next one does not follow."""
    rows = _page(ground.read, seq, ground.end.size, limit=1)
    if not rows:
        return Break(Damage.TRUNCATED, seq + 1, ground.end.size, "rows")
    return Break(Damage.MISSING, seq + 1, rows[0][0] - 1, "rows")


def of_body(ground: Ground, seq: int, digest: bytes) -> Break:
    """Return the break at event `seq`, whose bytes have the hash `digest` and not the one stored beside them."""
    elsewhere = _place_of(ground.read, digest)
    damage = Damage.ALTERED if elsewhere is None else Damage.REORDERED
    return Break(damage, seq, seq, "body")


def of_place(ground: Ground, event: Recorded, seq: int, prev_hash: str) -> Break:
    """Return the break at event `seq`, which names another number or another hash before it than `prev_hash`."""
    if event.seq != seq and event.prev_hash != prev_hash:
        after = _event_at(ground.read, seq + 1)
        moved_up = event.seq > seq and (event.seq == ground.end.size if after is None else after.seq == event.seq + 1)
        if moved_up:
            return Break(Damage.MISSING, seq, event.seq - 1, "seq")
        return Break(Damage.REORDERED, seq, seq, "seq")
    if event.seq != seq:
        return Break(Damage.ALTERED, seq, seq, "seq")
    if seq - 1 > ground.signed_size:
        known = _first_unlike(ground)
        if known is not None:
            return Break(Damage.ALTERED, known, known, "hash")
        if _vouched(ground, seq):
            return Break(Damage.ALTERED, seq - 1, seq - 1, "hash")
    elsewhere = is_sha256(event.prev_hash) and _place_of(ground.read, bytes.fromhex(event.prev_hash)) is not None
    return Break(Damage.REORDERED if elsewhere else Damage.ALTERED, seq, seq, "prev_hash")


def of_root(ground: Ground, what: str) -> Break:
    """Return the break before a root that does not fit, in a stretch whose events fit one another."""
    known = _first_unlike(ground)
    if known is not None:
        return Break(Damage.ALTERED, known, known, "hash")
    last = ground.end.size if ground.target is None else ground.target.size
    return Break(Damage.ALTERED, min(ground.signed_size + 1, last), last, what)


def _first_unlike(ground: Ground) -> int | None:
    """Return the first event after the certain ones that has another hash than was written, if that can be shown."""
    last, root = _known_root(ground)
    if root is None:
        return None
    found: int | None = None
    claims: list[bytes] = []
    tree = ground.frontier
    for seq, digest, claim in _claims(ground, last):
        if claim is None:
            return None
        if found is None and claim != digest:
            found = seq
        claims.append(claim)
        if len(claims) == LOG_PAGE_EVENTS:
            tree, claims = extend(tree, claims), []
    tree = extend(tree, claims)
    return found if tree.size == last and tree.root() == root else None


def _known_root(ground: Ground) -> tuple[int, bytes | None]:
    if ground.target is not None:
        return ground.target.size, ground.target.root
    end = ground.end
    return end.size, end.frontier.root() if end.frontier is not None and end.frontier.size == end.size else None


def _claims(ground: Ground, last: int) -> Iterator[tuple[int, bytes, bytes | None]]:
    """Yield number and hash of the events up to `last`, and the hash that the event after each one names for it."""
    waiting: tuple[int, bytes] | None = None
    for seq, body in _bodies(ground.read, ground.signed_size, min(last + 1, ground.end.size)):
        if waiting is not None:
            yield (*waiting, _named(body))
        waiting = (seq, leaf_hash(body))
    if waiting is not None and waiting[0] == last:
        yield (*waiting, _hash(ground.end.last_hash))


def _bodies(read: Read, after: int, through: int) -> Iterator[tuple[int, bytes]]:
    while after < through:
        rows = _page(read, after, through)
        for row in rows:
            yield row[0], row[6]
        after = rows[-1][0] if rows else through


def _page(read: Read, after: int, through: int, *, limit: int = LOG_PAGE_EVENTS) -> list[Any]:
    bounds = {"after": after, "through": through, "limit": limit}
    return read(lambda reader: reader.rows("event_stretch", bounds))


def _vouched(ground: Ground, seq: int) -> bool:
    """Return whether what comes after event `seq` names its hash."""
    body = next((body for _, body in _bodies(ground.read, seq - 1, seq)), None)
    if body is None:
        return False
    after = _event_at(ground.read, seq + 1)
    named = after.prev_hash if after is not None else ground.end.last_hash if seq == ground.end.size else None
    return named == leaf_hash(body).hex()


def _event_at(read: Read, seq: int) -> Recorded | None:
    row: Any = read(lambda reader: reader.row("event_by_seq", {"seq": seq}))
    try:
        return None if row is None else recorded.read(row[6])
    except InvalidEvent:
        return None


def _place_of(read: Read, digest: bytes) -> int | None:
    row: Any = read(lambda reader: reader.row("event_of_hash", {"hash": digest}))
    return None if row is None else int(row[0])


def _named(body: bytes) -> bytes | None:
    try:
        return _hash(recorded.read(body).prev_hash)
    except InvalidEvent:
        return None


def _hash(text: str) -> bytes | None:
    return bytes.fromhex(text) if is_sha256(text) else None
