"""Verdict: what a verification of the log found, and the first break by number and kind."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol, TypeVar

import msgspec

from handshake.ports.store import Reader

T = TypeVar("T")

Progress = Callable[[int, int], None]
"""Told `(verified, size)` in events as a verification goes."""


class Read(Protocol):
    """Runs a query over one consistent state: `read_now` of a store.

    The log only grows, so a verification asks page by page, and never holds one state for long.
    """

    def __call__(self, query: Callable[[Reader], T], /) -> T:
        """Return what `query` returns."""
        ...


class Damage(StrEnum):
    """What kind of break it is."""

    ALTERED = "altered"
    """An event is not what was written."""
    MISSING = "missing"
    """Events are gone from the middle."""
    REORDERED = "reordered"
    """An event stands where another one was."""
    TRUNCATED = "truncated"
    """Events are gone from the end."""
    ADDED = "added"
    """Events stand after the end that the log states."""
    RESIGNED = "resigned"
    """The log was written anew and signed again: it does not continue the exported checkpoint."""
    CHECKPOINT_FORGED = "checkpoint_forged"
    """A checkpoint was not signed by the log's key, or is not the one that was signed."""
    CHECKPOINT_MISSING = "checkpoint_missing"
    """An event tells of a checkpoint that is not there."""
    STATE_ALTERED = "state_altered"
    """A message is not the one that its event tells of, or one of the two is not there."""
    ARTIFACT_BROKEN = "artifact_broken"
    """An artifact's bytes are gone or do not have its hash."""


class Break(msgspec.Struct, frozen=True):
    """The first break of a log.

    Where `last_seq` is above `seq` the broken event is one of these, or all of them are: a whole chain that was
    computed anew shows only that its end is not what was signed. 0 is no event.
    """

    damage: Damage
    seq: int
    last_seq: int
    what: str
    """What does not fit, as a token: `body`, `prev_hash`, `signature`, `log_state`, ..."""
    artifact_id: str | None = None


class Verdict(msgspec.Struct, frozen=True):
    """What a verification found. Sound means: nothing broken, up to `size` events.

    Only the first `signed_size` events are vouched for by a signature. The `unsigned_tail` after them fits together,
    but whoever can write the file could have written it anew; signing a checkpoint ends that. That nothing was cut
    off before the last checkpoint was signed shows only against an exported one (`anchored_size`).
    """

    size: int
    verified: int
    """Events before the break, or all."""
    signed_size: int
    """Events that the last verified checkpoint covers."""
    checkpoints: int
    """Verified checkpoints."""
    anchored_size: int | None
    """Events of the exported checkpoint that this log was shown to continue."""
    deep: bool
    """Whether schemas, messages and artifacts were looked at too."""
    broken: Break | None

    @property
    def sound(self) -> bool:
        """Whether nothing is broken."""
        return self.broken is None

    @property
    def unsigned_tail(self) -> int:
        """Events that no verified checkpoint covers; at least 1 in a closed log: that of the checkpoint itself."""
        return max(0, self.size - self.signed_size)
