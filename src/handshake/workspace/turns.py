"""Turns: the Python face of one turn: its pieces as they come, its result, and how to cancel it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from handshake.bootstrap import Runtime
from handshake.kernel.ids import ArtifactId, JobId, SessionId
from handshake.kernel.job import TERMINAL, JobState
from handshake.kernel.usage import TokenUsage
from handshake.operations import cancelling, feed, naming, records, views
from handshake.operations.cancelling import CancelResult
from handshake.operations.feed import Over, Piece
from handshake.operations.runs import Accepted
from handshake.ports.store import Reader


class Result(msgspec.Struct, frozen=True):
    """How a turn ended. `text` is None unless the run was answered; `error_code` tells why not."""

    job_id: JobId
    session_id: SessionId
    state: JobState
    text: str | None
    usage: TokenUsage | None
    error_code: str | None
    reason: str | None
    attempts: int
    settled_tokens: int = 0
    """What all attempts took."""
    cost_usd_micro: int = 0
    """What that cost by the model's price."""
    is_estimate: bool = False
    """Whether what they took is only what was expected, because a provider did not report it."""


class TurnHandle:
    """One turn of a session: iterate over it for pieces as they come, or await `result()`."""

    def __init__(
        self, runtime: Runtime, accepted: Accepted, session_id: SessionId, listening: feed.Feed | None
    ) -> None:
        self._runtime = runtime
        self._first = listening
        """What listens since before the run was accepted; whoever asks first gets it."""
        self.job_id = accepted.job_id
        """The first run of the turn."""
        self._heard = accepted.job_id
        """The run by which it is listened to."""
        self.turn_id = accepted.turn_id
        self.session_id = session_id
        self.repeated = accepted.repeated
        """Whether the idempotency key was known, so that this is an earlier turn."""

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """Yield text, attempts and the end (`Over`): all of it the first time, later what comes from then on.

        Raises:
            Draining: the workspace was closed before the turn was over.
        """
        listening = self._listen()
        try:
            async for piece in listening:
                yield piece
        finally:
            self._runtime.feeds.leave(self._heard, listening)

    async def result(self) -> Result:
        """Wait for the end of the turn and return what came of it.

        Raises:
            Draining: the workspace was closed before the turn was over.
        """
        async for _ in self:
            pass
        return await self._runtime.store.read(self._read)

    async def so_far(self) -> Result:
        """Return how the turn stands now, whether or not it has ended."""
        return await self._runtime.store.read(self._read)

    async def cancel(self, *, reason: str = "operator") -> CancelResult:
        """Cancel the turn: the run of it that is under way."""
        job_id = await self._runtime.store.read(self._last)
        return await cancel_job(self._runtime, job_id, reason=reason)

    def _listen(self) -> feed.Feed:
        first, self._first = self._first, None
        if first is not None:
            return first
        self._heard = self._runtime.store.read_now(self._last)
        listening = self._runtime.feeds.listen(self._heard)
        try:
            now = self._runtime.store.read_now(self._last)
            while now != self._heard:  # the turn went on meanwhile, and nobody would hear of it
                self._runtime.feeds.leave(self._heard, listening)
                self._heard = now
                listening = self._runtime.feeds.listen(self._heard)
                now = self._runtime.store.read_now(self._last)
            state = self._runtime.store.read_now(lambda reader: records.job(reader, now).state)
        except BaseException:
            self._runtime.feeds.leave(self._heard, listening)
            raise
        if state in TERMINAL:
            listening.push(Over(state))
        return listening

    def _read(self, reader: Reader) -> Result:
        return result_of(reader, self._last(reader))

    def _last(self, reader: Reader) -> JobId:
        return last_run(reader, self.session_id, self.turn_id)


async def cancel_job(runtime: Runtime, job_id: JobId, *, reason: str) -> CancelResult:
    """Cancel a run: first the durable flag, then the call, which is told even if the caller goes away meanwhile.

    Raises:
        NotFound: no such job.
        InvalidTransition: it has ended otherwise.
    """
    reason = naming.token("reason", reason)

    def tell(result: CancelResult) -> None:
        if result.open_attempt is not None:
            runtime.dispatcher.cut(job_id, result.open_attempt)
        runtime.feeds.push(job_id, Over(JobState.CANCELLED))

    return await runtime.store.write(
        lambda tx: cancelling.cancel_run(tx, runtime.queue, records.job(tx, job_id), reason=reason, by="operator"),
        then=tell,
    )


def last_run(reader: Reader, session_id: SessionId, turn_id: str) -> JobId:
    """Return the last run of a turn so far: the one that is under way, or that ended it."""
    row = reader.row("job_last_of_turn", {"session_id": session_id, "turn_id": turn_id})
    assert row is not None, "a turn has a run"
    return JobId(str(row[0]))


def result_of(reader: Reader, job_id: JobId) -> Result:
    """Return how a job stands, with its answer's text."""
    job = records.job(reader, job_id)
    row = reader.row("job_answer", {"job_id": job_id})
    usage = TokenUsage(job.prompt_tokens, job.completion_tokens, job.total_tokens)
    return Result(
        job_id=job_id,
        session_id=job.session_id,
        state=job.state,
        text=views.text_of(reader, ArtifactId(str(row[0]))) if row else None,
        usage=None if usage == TokenUsage() else usage,
        error_code=job.error_code,
        reason=job.reason,
        attempts=job.attempt,
        settled_tokens=job.settled_tokens,
        cost_usd_micro=job.settled_cost_usd_micro,
        is_estimate=job.settled_is_estimate,
    )
