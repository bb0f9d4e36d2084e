"""Event log: numbers, chains and stores sealed events, and signs checkpoints, inside the writer's transaction.

Source:
    recorder.atomic, recorder.checkpoint.signed (06 §1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import apsw
import msgspec

from handshake.kernel.catalogue import CheckpointSigned
from handshake.kernel.checkpoint import Checkpoint, sign
from handshake.kernel.errors import IntegrityBroken
from handshake.kernel.event import FIRST_PREV_HASH, Context, Sealed, seal
from handshake.kernel.merkle import Frontier, extend, leaf_hash
from handshake.kernel.settings import RecorderSettings
from handshake.kernel.units import US_PER_S
from handshake.storage.queries import load
from handshake.storage.signing import SigningKey


class LogState(msgspec.Struct, frozen=True):
    """Where the log ends: number of events, hash of the last, and the Merkle frontier."""

    size: int
    last_hash: str
    frontier: Frontier


class EventLog:
    """The end of one workspace's log; used by the writer only."""

    def __init__(self, key: SigningKey, settings: RecorderSettings, new_id: Callable[[], str]) -> None:
        self._key = key
        self._settings = settings
        self._new_id = new_id
        self._queries = load()
        self.state = LogState(0, FIRST_PREV_HASH, Frontier())
        self._signed_size = 0
        self._since_us: int | None = None
        """When the log was signed last or, in a runtime that has not signed yet, when it first asked."""
        self._tail_is_old = False
        """Whether nothing is signed yet, or a runtime before this one left events unsigned, who knows how long ago."""

    def open(self, db: apsw.Connection) -> None:
        """Read the end of the log; called when the store opens and after a commit that failed.

        Raises:
            IntegrityBroken: there is no log, or its end is damaged.
        """
        row: Any = db.execute(self._queries["log_state"]).fetchone()
        if row is None:
            raise IntegrityBroken(subject="log", reason="missing")
        self.state = LogState(row[0], row[1], Frontier.from_bytes(row[2]))
        signed: Any = db.execute(self._queries["checkpoint_last"]).fetchone()
        self._signed_size = signed[0] + 1 if signed else 0
        if self._since_us is None:
            self._tail_is_old = signed is None or self.has_unsigned(self.state)

    def extend(self, db: apsw.Connection, sealed: Sequence[Sealed], at_us: int) -> LogState:
        """Store `sealed` after the last event and return the new end, which holds once the transaction commits."""
        before = self.state
        seq, prev = before.size, before.last_hash
        rows = []
        hashes = []
        for one in sealed:
            seq += 1
            body = one.body(seq, prev)
            digest = leaf_hash(body)
            prev = digest.hex()
            hashes.append(digest)
            rows.append((seq, one.type, one.session_id, one.job_id, at_us, digest, body))
        db.executemany(self._queries["event_insert"], rows)
        after = LogState(seq, prev, extend(before.frontier, hashes))
        moved = db.execute(
            self._queries["log_state_move"],
            {"size": seq, "last_hash": prev, "frontier": after.frontier.to_bytes(), "before": before.size},
        )
        moved.close()
        if db.changes() != 1:
            raise apsw.CorruptError("the log moved under its writer")
        return after

    def has_unsigned(self, state: LogState) -> bool:
        """Return whether events stand after the last checkpoint and its own event."""
        return state.size > self._signed_size

    def checkpoint_due(self, state: LogState, monotonic_us: int) -> bool:
        """Return whether enough events or time have passed since the last checkpoint."""
        unsigned = state.size - self._signed_size
        if unsigned <= 0:
            return False
        if self._since_us is None:
            self._since_us = monotonic_us
        return (
            self._tail_is_old
            or unsigned >= self._settings.checkpoint_every_events
            or monotonic_us - self._since_us >= self._settings.checkpoint_every_s * US_PER_S
        )

    def sign(self, db: apsw.Connection, state: LogState, at_us: int, timestamp: str) -> tuple[LogState, int]:
        """Sign the log up to `state`, and append the event that tells it.

        Returns:
            The new end of the log, and the size that the checkpoint covers.
        """
        root = state.frontier.root()
        note = sign(Checkpoint(self._key.name, state.size, root), self._key.key_id, self._key.sign)
        db.execute(
            self._queries["checkpoint_insert"],
            {"tree_size": state.size, "root_hash": root.hex(), "signed_at_us": at_us, "note": note.decode()},
        ).close()
        told = CheckpointSigned(key_id=self._key.key_id.hex(), root_hash=root.hex(), tree_size=state.size)
        kept, self.state = self.state, state
        try:
            after = self.extend(db, [seal(told, Context(), event_id=self._new_id(), timestamp=timestamp)], at_us)
        finally:
            self.state = kept
        return after, state.size

    def settle(self, state: LogState, signed: tuple[int, int] | None) -> None:
        """Take the new end over after COMMIT; `signed` is (size covered, monotonic time) of a new checkpoint."""
        self.state = state
        if signed is not None:
            self._signed_size, self._since_us = signed[0] + 1, signed[1]
            self._tail_is_old = False
