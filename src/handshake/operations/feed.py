"""Feed: what a run tells its caller while it goes: pieces of text, attempts, and the end.

A feed is never a source of truth: whoever misses it reads the store. Text that is not fetched is joined, so a
feed holds no more than the answer itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

import msgspec

from handshake.kernel.errors import Draining, HandshakeError, StoreFailed
from handshake.kernel.ids import JobId
from handshake.kernel.job import JobState


class Text(msgspec.Struct, frozen=True, gc=False):
    """Text that the model added."""

    text: str


class Started(msgspec.Struct, frozen=True, gc=False):
    """An attempt of the run has its slots; text of an earlier attempt is void."""

    attempt: int


class Retrying(msgspec.Struct, frozen=True, gc=False):
    """An attempt failed for a passing reason; the next one starts after `backoff_ms` at the earliest."""

    attempt: int
    fault: str
    backoff_ms: int


class NotStored(msgspec.Struct, frozen=True, gc=False):
    """The outcome is known and cannot be stored yet; it is tried again for as long as the runtime lives."""

    reason: str


class ToolStarted(msgspec.Struct, frozen=True, gc=False):
    """The gate is asked about a call that the model wants, and carries it out if it may be."""

    tool_call_id: str
    tool_id: str


class ToolEnded(msgspec.Struct, frozen=True, gc=False):
    """What came of a call is in the thread; `error_code` is None if it has a result."""

    tool_call_id: str
    tool_id: str
    error_code: str | None


LOST = "lost"
"""Why a run waits for a person whose worker did not come back."""


class AwaitingUser(msgspec.Struct, frozen=True, gc=False):
    """A call, or the run itself, waits for a person: the desk shows it, and the run goes on when it is answered."""

    reason: str
    tool_call_id: str | None = None
    tool_id: str | None = None
    """None where the run was lost and somebody must say whether it may be run again."""


class Over(msgspec.Struct, frozen=True, gc=False):
    """The turn has ended with a run in `state`; always the last piece."""

    state: JobState


Piece = Text | Started | Retrying | NotStored | ToolStarted | ToolEnded | AwaitingUser | Over


class Feed:
    """The pieces of one run for one listener."""

    def __init__(self) -> None:
        self._pieces: deque[Piece] = deque()
        self._texts: list[str] = []
        self._arrived = asyncio.Event()
        self._over = False
        self._closed: HandshakeError | None = None

    def push(self, piece: Piece) -> None:
        """Add a piece; after `Over` nothing is added."""
        if self._over:
            return
        if isinstance(piece, Text):
            self._texts.append(piece.text)
        else:
            self._join()
            self._pieces.append(piece)
            self._over = isinstance(piece, Over)
        self._arrived.set()

    def close(self, why: HandshakeError | None = None) -> None:
        """End the feed: nothing more comes, by default because the runtime stops."""
        self._closed = why or Draining()
        self._arrived.set()

    def _join(self) -> None:
        if self._texts:
            self._pieces.append(Text("".join(self._texts)))
            self._texts = []

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """Yield pieces as they arrive, up to and with `Over`.

        Raises:
            Draining: the runtime stopped before the run was over; it goes on when the workspace is open again.
            StoreFailed: the outcome could not be stored; the run is tried again when the workspace is opened anew.
        """
        while True:
            self._join()
            while self._pieces:
                piece = self._pieces.popleft()
                yield piece
                if isinstance(piece, Over):
                    return
            self._arrived.clear()
            if not self._texts and not self._pieces:
                if self._over:  # its end was fetched before
                    return
                if self._closed is not None:
                    raise self._closed
                await self._arrived.wait()


class Feeds:
    """The feeds of all turns that someone listens to; a turn is named by any of its runs."""

    def __init__(self) -> None:
        self._by_job: dict[JobId, list[Feed]] = {}
        self._before: dict[JobId, JobId] = {}
        """The run before each run that may go on with a turn."""
        self._abandoned: set[JobId] = set()
        self._closed = False

    def listen(self, job_id: JobId) -> Feed:
        """Return a new feed of a run; `leave` it when done."""
        job_id = self._first(job_id)
        feed = Feed()
        if self._closed:
            feed.close()
        elif job_id in self._abandoned:
            feed.close(_not_stored(job_id))
        self._by_job.setdefault(job_id, []).append(feed)
        return feed

    def leave(self, job_id: JobId, feed: Feed) -> None:
        """Stop listening."""
        job_id = self._first(job_id)
        feeds = self._by_job.get(job_id, [])
        if feed in feeds:
            feeds.remove(feed)
        if not feeds:
            self._by_job.pop(job_id, None)

    def push(self, job_id: JobId, piece: Piece) -> None:
        """Tell everyone who listens to the run's turn; after `Over` nobody is remembered."""
        first = self._first(job_id)
        for feed in self._by_job.get(first, ()):
            feed.push(piece)
        if isinstance(piece, Over):
            self._by_job.pop(first, None)
            while job_id != first:
                job_id = self._before.pop(job_id)

    def may_go_on(self, job_id: JobId, next_id: JobId) -> None:
        """Let whoever listens to a run hear the one that may go on with its turn; called before that can start."""
        self._before[next_id] = job_id

    def abandon(self, job_id: JobId) -> None:
        """End the feeds of a run that this runtime can tell nothing more of; it holds its slots, so these are few."""
        self._abandoned.add(self._first(job_id))
        for feed in self._by_job.pop(self._first(job_id), ()):
            feed.close(_not_stored(job_id))

    def _first(self, job_id: JobId) -> JobId:
        while job_id in self._before:
            job_id = self._before[job_id]
        return job_id

    def close(self) -> None:
        """End every feed, and every one that is asked for from now on."""
        self._closed = True
        for feeds in self._by_job.values():
            for feed in feeds:
                feed.close()


def _not_stored(job_id: JobId) -> StoreFailed:
    return StoreFailed(
        job_id=job_id, reason="outcome_not_stored", hint="close the workspace and open it again: the run is found there"
    )
