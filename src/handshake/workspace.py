"""Workspace: the Python face. `open_workspace` gives sessions to talk to; nothing here has rules of its own."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import msgspec

from handshake.bootstrap import Models, Runtime, close_runtime, configure, find_workspace, limits_of, open_runtime
from handshake.kernel import settings as bounds
from handshake.kernel.desk import DeskItem, DeskState, shown_sha256
from handshake.kernel.errors import InvalidRequest
from handshake.kernel.event import Actor
from handshake.kernel.ids import ArtifactId, JobId, MessageId, ModelId, ProviderId, SessionId, TurnId
from handshake.kernel.job import (
    DEFAULT_MAX_RETRIES,
    DEFAULT_PRIORITY,
    LOWEST_PRIORITY,
    TERMINAL,
    Backend,
    Job,
    JobState,
)
from handshake.kernel.lane import Lane
from handshake.kernel.message import SourceKind, encode_text
from handshake.kernel.retry import Backoff
from handshake.kernel.session import ExecutionMode, MemoryPolicy, ParameterClass, Session
from handshake.kernel.units import US_PER_S, Microseconds
from handshake.kernel.usage import TokenUsage
from handshake.operations import cancelling, desk, feed, naming, records, runs, sessions, views
from handshake.operations.cancelling import CancelResult
from handshake.operations.feed import Over, Piece
from handshake.operations.runs import Accepted, Turn
from handshake.operations.views import MessageView, QueueView, WorkspaceView
from handshake.ports.store import Reader

DRAIN_S = 10
"""How long runs may finish when a workspace closes, in seconds; what still runs is handed back to the queue."""


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
            self._runtime.feeds.leave(self.job_id, listening)

    async def result(self) -> Result:
        """Wait for the end of the turn and return what came of it.

        Raises:
            Draining: the workspace was closed before the turn was over.
        """
        async for _ in self:
            pass
        return await self._runtime.store.read(self._read)

    async def cancel(self, *, reason: str = "operator") -> CancelResult:
        """Cancel the turn's run."""
        return await cancel_job(self._runtime, self.job_id, reason=reason)

    def _listen(self) -> feed.Feed:
        first, self._first = self._first, None
        if first is not None:
            return first
        listening = self._runtime.feeds.listen(self.job_id)
        try:
            state = self._runtime.store.read_now(lambda reader: records.job(reader, self.job_id).state)
        except BaseException:
            self._runtime.feeds.leave(self.job_id, listening)
            raise
        if state in TERMINAL:
            listening.push(Over(state))
        return listening

    def _read(self, reader: Reader) -> Result:
        return result_of(reader, self.job_id)


class SessionHandle:
    """One session by its id."""

    def __init__(self, runtime: Runtime, session_id: SessionId) -> None:
        self._runtime = runtime
        self.session_id = session_id

    async def send(
        self,
        text: str,
        *,
        lane: str | None = None,
        priority: int = DEFAULT_PRIORITY,
        max_output_tokens: int | None = None,
        timeout_ms: int | None = None,
        idempotency_key: str | None = None,
        content_hash: str | None = None,
    ) -> TurnHandle:
        """Queue a turn; it is durable when this returns, and runs when a slot is free.

        Args:
            text: what the user says.
            lane: the run's lane; None for the session's.
            priority: 0 goes first, `LOWEST_PRIORITY` last.
            max_output_tokens: longest answer; None for the model's own.
            timeout_ms: longest call; None for the configured one.
            idempotency_key: with a key that the session knows, the earlier turn is returned and nothing is queued.
            content_hash: SHA-256 of the text in UTF-8, in lower-case hex; another text than that is refused.

        Raises:
            InvalidRequest, TooLarge: the text or an option is not usable; nothing is stored.
            NotFound, InvalidTransition: no such session, or it has ended.
            BudgetExceeded: the session's model is a cloud model whose price nobody knows.
            ConsentRequired: it is a cloud model.
            StateConflict: the idempotency key is known with another request.
        """
        runtime = self._runtime
        data = encode_text(text)
        run_lane = None if lane is None else naming.choice(Lane, "lane", lane)
        if not 0 <= priority <= LOWEST_PRIORITY:
            raise InvalidRequest(field="priority", reason="out_of_range", low=0, high=LOWEST_PRIORITY)
        if max_output_tokens is not None and not 1 <= max_output_tokens <= bounds.MAX_OUTPUT_TOKENS:
            raise InvalidRequest(field="max_output_tokens", reason="out_of_range", low=1, high=bounds.MAX_OUTPUT_TOKENS)
        wait_ms = runtime.settings.calls.local_timeout_ms if timeout_ms is None else timeout_ms
        if not 1 <= wait_ms <= bounds.MAX_CALL_MS:
            raise InvalidRequest(field="timeout_ms", reason="out_of_range", low=1, high=bounds.MAX_CALL_MS)
        _require_key(idempotency_key)
        content = await runtime.store.prepare(data, "text/plain; charset=utf-8")
        ids = runtime.new_id.several()
        turn = Turn(
            session_id=self.session_id,
            turn_id=TurnId(next(ids)),
            message_id=MessageId(next(ids)),
            job_id=JobId(next(ids)),
            trace_id=next(ids),
            content=content,
            actor=Actor.HUMAN,
            source_kind=SourceKind.OPERATOR,
            trusted=True,
            priority=priority,
            lane=run_lane,
            max_retries=DEFAULT_MAX_RETRIES,
            retry_backoff=Backoff.EXPONENTIAL,
            timeout_ms=wait_ms,
            max_output_tokens=max_output_tokens,
            idempotency_key=idempotency_key,
            request_sha256=_request_hash(content.artifact_id, run_lane, priority, max_output_tokens, timeout_ms),
            content_hash=content_hash,
        )
        listening = runtime.feeds.listen(turn.job_id)
        try:
            accepted = await runtime.store.write(lambda tx: runs.accept(tx, runtime.queue, turn, runtime.known_models))
        except BaseException:
            runtime.feeds.leave(turn.job_id, listening)
            raise
        if accepted.repeated:
            runtime.feeds.leave(turn.job_id, listening)
        return TurnHandle(runtime, accepted, self.session_id, None if accepted.repeated else listening)

    async def show(self) -> Session:
        """Return the session as it is now."""
        return await self._runtime.store.read(lambda reader: records.session(reader, self.session_id))

    async def messages(self, *, after: int = 0, limit: int | None = None) -> list[MessageView]:
        """Return the thread with its texts, after message number `after`."""
        return await self._runtime.store.read(
            lambda reader: views.messages(reader, self.session_id, after=after, limit=limit)
        )

    async def pause(self) -> Session:
        """Let nothing more start; what runs goes on."""
        return await self._runtime.store.write(lambda tx: sessions.pause(tx, self._runtime.queue, self.session_id))

    async def resume(self) -> Session:
        """Lift a pause."""
        return await self._runtime.store.write(lambda tx: sessions.resume(tx, self._runtime.queue, self.session_id))

    async def complete(self) -> Session:
        """End the session; refused while a turn is open."""
        return await self._runtime.store.write(lambda tx: sessions.complete(tx, self._runtime.queue, self.session_id))

    async def cancel(self, *, reason: str = "operator") -> sessions.Cancelled:
        """End the session and all its runs; attempts that run are cut, and their connections closed."""
        runtime = self._runtime
        reason = naming.token("reason", reason)

        def tell(ended: sessions.Cancelled) -> None:
            for job_id, attempt in ended.open_attempts:
                runtime.dispatcher.cut(job_id, attempt)
            for job_id in ended.job_ids:
                runtime.feeds.push(job_id, Over(JobState.CANCELLED))

        return await runtime.store.write(
            lambda tx: sessions.cancel(
                tx, runtime.queue, self.session_id, reason=reason, by="operator", actor=Actor.HUMAN
            ),
            then=tell,
        )


class Sessions:
    """The sessions of a workspace."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def create(
        self,
        *,
        role: str,
        model: str,
        memory_policy: str,
        lane: str = Lane.PRIMARY.value,
        wp: str | None = None,
        mt: str | None = None,
        execution_mode: str = ExecutionMode.MULTI_MODEL_PARALLEL.value,
        title: str | None = None,
        session_id: str | None = None,
        budget_tokens: int | None = None,
        budget_usd: Decimal | str | None = None,
        budget_calls: int | None = None,
    ) -> SessionHandle:
        """Create a session.

        Args:
            role: a reserved role or `rolepack:PACK/ROLE`.
            model: `PROVIDER/MODEL` or an alias.
            memory_policy: EPHEMERAL, SESSION_SCOPED or WORKSPACE_SCOPED; it never changes.
            lane: the lane of its runs.
            wp: the work packet it belongs to, for good.
            mt: the micro-task it belongs to, for good.
            execution_mode: how models share the work.
            title: what people call it.
            session_id: a UUID to use; one that exists is an error.
            budget_tokens: tokens that its calls may take, sent and answered; None for no limit of its own.
            budget_usd: what they may cost in USD, a decimal with at most six places.
            budget_calls: how many they may be.

        Raises:
            InvalidRequest: a value is unknown, malformed or out of range; with a suggestion.
            StateConflict: the id exists.
            EndpointBlocked, ProviderFailed: where the model would run cannot be decided.
        """
        runtime = self._runtime
        provider_id, model_id = naming.model(model, runtime.settings, runtime.configuration.left_out)
        new = sessions.NewSession(
            session_id=SessionId(runtime.new_id() if session_id is None else naming.session_id(session_id)),
            model_id=model_id,
            provider_id=provider_id,
            role=naming.role(role),
            memory_policy=naming.choice(MemoryPolicy, "memory_policy", memory_policy),
            lane=naming.choice(Lane, "lane", lane),
            wp_id=naming.require_name("wp", wp),
            mt_id=naming.require_name("mt", mt),
            execution_mode=naming.choice(ExecutionMode, "execution_mode", execution_mode),
            parameter_class=ParameterClass.UNKNOWN,
            title=naming.require_name("title", title),
            budget=naming.budget(budget_tokens, budget_usd, budget_calls),
            backend=await self._backend(provider_id, model_id),
        )
        max_open = runtime.settings.scheduler.max_open_sessions
        session = await runtime.store.write(lambda tx: sessions.create(tx, new, max_open=max_open))
        return SessionHandle(runtime, session.session_id)

    def get(self, session_id: str) -> SessionHandle:
        """Return a handle; whether the session exists shows when it is used."""
        return SessionHandle(self._runtime, SessionId(session_id))

    async def list(self, *, after: str = "", limit: int | None = None) -> list[Session]:
        """Return sessions in order of creation."""
        return await self._runtime.store.read(lambda reader: views.sessions(reader, after=after, limit=limit))

    async def _backend(self, provider_id: ProviderId, model_id: ModelId) -> Backend:
        return await self._runtime.egress.backend(provider_id, model_id)


class DeskQuestion:
    """One thing that waits for a person, as it stood when it was asked for."""

    def __init__(self, runtime: Runtime, item: DeskItem) -> None:
        self._runtime = runtime
        self.item = item
        self.sha256 = shown_sha256(item)
        """The hash of what `item` shows; an approval names it."""

    async def approve(self, *, shown: str) -> DeskItem:
        """Approve it: a lost run is queued again.

        Raises:
            StateConflict: `shown` is the hash of something else.
            InvalidTransition: it was answered before, or has expired.
        """
        runtime = self._runtime
        level = runtime.settings.policy.automation_level
        return await runtime.store.write(
            lambda tx: desk.approve(tx, runtime.queue, self.item.item_id, shown=shown, by="operator", level=level)
        )

    async def deny(self) -> DeskItem:
        """Deny it: a lost run fails, and its session goes on.

        Raises:
            InvalidTransition: it was answered before, or has expired.
        """
        runtime = self._runtime
        level = runtime.settings.policy.automation_level
        return await runtime.store.write(
            lambda tx: desk.deny(tx, runtime.queue, self.item.item_id, by="operator", level=level),
            then=lambda item: runtime.feeds.push(JobId(item.job_id), Over(JobState.FAILED)),
        )


class Desk:
    """What waits for a person."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def waiting(self, *, after: int = 0, limit: int | None = None) -> list[DeskQuestion]:
        """Return what waits, in the order in which it came, after the item number `after`."""
        found = await self._runtime.store.read(
            lambda reader: desk.items(reader, state=DeskState.WAITING, after=after, limit=limit)
        )
        return [DeskQuestion(self._runtime, item) for item in found]

    async def show(self, item_id: str) -> DeskQuestion:
        """Return one item, answered or not.

        Raises:
            NotFound: there is none of this id.
        """
        return DeskQuestion(self._runtime, await self._runtime.store.read(lambda reader: desk.item(reader, item_id)))


class Workspace:
    """An open workspace; made by `open_workspace`."""

    def __init__(self, runtime: Runtime, drain_s: int = DRAIN_S) -> None:
        self.runtime = runtime
        self.drain_s = drain_s
        """Seconds that runs may take to finish when it closes."""
        self.sessions = Sessions(runtime)
        self.desk = Desk(runtime)

    def drain(self) -> None:
        """Take no new turns (HSK-503-DRAINING) and start nothing more; what runs goes on, also while it closes."""
        self.runtime.dispatcher.drain()

    async def job(self, job_id: str) -> Job:
        """Return a job."""
        return await self.runtime.store.read(lambda reader: records.job(reader, JobId(job_id)))

    async def cancel_job(self, job_id: str, *, reason: str = "operator") -> CancelResult:
        """Cancel a run, whatever it is doing."""
        return await cancel_job(self.runtime, JobId(job_id), reason=reason)

    async def queue(self, *, after: int = 0, limit: int | None = None) -> QueueView:
        """Return the queue with the reason why each run waits, after the acceptance number `after`."""
        runtime = self.runtime
        limits = limits_of(runtime.settings)
        now_us = runtime.clock.now_us()
        dispatching, has_room = runtime.dispatcher.is_dispatching, not runtime.dispatcher.is_held_back
        return await runtime.store.read(
            lambda reader: views.queue(
                reader, limits, dispatching=dispatching, has_room=has_room, now_us=now_us, after=after, limit=limit
            )
        )

    async def status(self) -> WorkspaceView:
        """Return the workspace in numbers."""
        return await self.runtime.store.read(views.workspace)


@asynccontextmanager
async def open_workspace(
    path: str | Path = ".",
    *,
    flags: Mapping[str, str] | None = None,
    models: Models | None = None,
    dispatch: bool = True,
    drain_s: int = DRAIN_S,
) -> AsyncIterator[Workspace]:
    """Open the workspace of `path` or the nearest folder above it, and close it at the end.

    Args:
        path: a folder; `handshake init` makes a workspace of it.
        flags: settings of the flag layer, by dotted key.
        models: adapters in place of the configured ones, for tests and cassettes.
        dispatch: whether queued runs start.
        drain_s: seconds that runs may take to finish when it closes; what still runs is handed back to the queue.

    Raises:
        NotFound: there is no workspace.
        StateConflict: another runtime holds it; the error names it.
        InvalidConfig: the configuration is wrong.
        IntegrityBroken, StoreFailed: the store cannot be opened.
    """
    place = find_workspace(Path(path))
    runtime = await open_runtime(place, configure(place.root, flags), models=models, dispatch=dispatch)
    workspace = Workspace(runtime, drain_s)
    try:
        yield workspace
    finally:
        await close_runtime(runtime, drain_us=Microseconds(workspace.drain_s * US_PER_S))


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


def _request_hash(*parts: object) -> str:
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def _require_key(key: str | None) -> None:
    if key is not None and not (0 < len(key) <= bounds.MAX_IDEMPOTENCY_KEY_CHARS and key.isprintable()):
        raise InvalidRequest(field="idempotency_key", reason="not_a_key", limit_chars=bounds.MAX_IDEMPOTENCY_KEY_CHARS)
