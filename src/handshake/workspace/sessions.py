"""Sessions: the Python face of sessions: made, talked to, paused, resumed and ended."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from decimal import Decimal

import msgspec

from handshake.bootstrap import Runtime
from handshake.kernel import settings as bounds
from handshake.kernel.debug_scope import DebugScope
from handshake.kernel.errors import InvalidRequest, NotFound
from handshake.kernel.event import Actor
from handshake.kernel.grant import Grant
from handshake.kernel.ids import JobId, MessageId, ModelId, ProviderId, SessionId, TurnId
from handshake.kernel.job import DEFAULT_MAX_RETRIES, DEFAULT_PRIORITY, LOWEST_PRIORITY, Backend, JobState
from handshake.kernel.lane import Lane
from handshake.kernel.message import MessageRole, encode_text
from handshake.kernel.provenance import Channel, Incoming
from handshake.kernel.retry import Backoff
from handshake.kernel.session import ExecutionMode, MemoryPolicy, ParameterClass, Session
from handshake.operations import (
    debug_scopes,
    grant_requests,
    grants,
    naming,
    provenance,
    records,
    runs,
    sessions,
    views,
)
from handshake.operations.feed import Over
from handshake.operations.grant_requests import Requested
from handshake.operations.runs import Turn
from handshake.operations.views import MessageView
from handshake.operations.workspaces import Merged
from handshake.workspace.turns import TurnHandle


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
        role: str = MessageRole.USER.value,
        from_session: str | None = None,
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
            role: who speaks; only USER is let in, and SYSTEM is refused on the record.
            from_session: the session whose words the text is. It is trusted if exactly these bytes were said there
                and nothing untrusted came before them; else it taints the turn.

        Raises:
            SystemProvenance: the text is to be a SYSTEM message.
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
        source = await provenance.door(runtime.store).admit(
            Incoming(
                channel=Channel.API if from_session is None else Channel.SESSION,
                role=role,
                content_sha256=hashlib.sha256(data).hexdigest(),
                session_id=self.session_id,
                is_operator=True,
                source_session_id=None if from_session is None else SessionId(from_session),
            )
        )
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
            source_kind=source.source_kind,
            trusted=source.trusted,
            priority=priority,
            lane=run_lane,
            max_retries=DEFAULT_MAX_RETRIES,
            retry_backoff=Backoff.EXPONENTIAL,
            timeout_ms=wait_ms,
            max_output_tokens=max_output_tokens,
            idempotency_key=idempotency_key,
            request_sha256=_request_hash(
                content.artifact_id, run_lane, priority, max_output_tokens, timeout_ms, *filter(None, [from_session])
            ),
            content_hash=content_hash,
            source_session_id=source.source_session_id,
            source_role=source.source_role,
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

    async def grants(self) -> list[Grant]:
        """Return what it holds and may pass on, and nobody took back, in order of the ids."""
        return await self._runtime.store.read(lambda reader: grants.of_session(reader, self.session_id))

    async def pause(self) -> Session:
        """Let nothing more start; what runs goes on."""
        return await self._runtime.store.write(lambda tx: sessions.pause(tx, self._runtime.queue, self.session_id))

    async def resume(self) -> Session:
        """Lift a pause."""
        return await self._runtime.store.write(lambda tx: sessions.resume(tx, self._runtime.queue, self.session_id))

    async def complete(self) -> Session:
        """End the session; refused while a turn is open."""
        return await self._runtime.store.write(lambda tx: sessions.complete(tx, self._runtime.queue, self.session_id))

    async def merge(self) -> Merged:
        """Bring what the session wrote in its own worktree back into the workspace: all of it, or nothing and a report.

        Raises:
            NotFound: it has no worktree.
            StateConflict: a run of it is at work, or a file changed meanwhile.
            StoreFailed, Unsupported: git cannot do it here.
        """
        workspaces = self._runtime.tools.workspaces
        if workspaces is None:
            raise NotFound(kind="worktree", session_id=self.session_id, hint="no session has files of its own here")
        return await workspaces.merge(self.session_id)

    async def debug(self, *, for_s: int = bounds.DEFAULT_DEBUG_SCOPE_S) -> DebugScope:
        """Ask nobody about calls of low and medium risk that the session's grants cover, for `for_s` seconds.

        Raises:
            InvalidRequest: not from one second to `MAX_DEBUG_SCOPE_S`.
            InvalidTransition: the session has ended.
            GovernanceLocked: the workspace is LOCKED.
        """
        runtime = self._runtime
        level = runtime.settings.policy.automation_level
        return await runtime.store.write(
            lambda tx: debug_scopes.relax(tx, self.session_id, for_s=for_s, by="operator", level=level)
        )

    async def end_debug(self) -> bool:
        """End a relaxation before its time; return whether there was one."""
        return await self._runtime.store.write(lambda tx: debug_scopes.restore(tx, self.session_id, by="operator"))

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
        grants: Sequence[Requested] = (),
        delegable: Sequence[Requested] | None = None,
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
            grants: what it may do, as `fs.read:src/**`, `ask:fs.write:src/**` or a `GrantRequest`; none by default.
            delegable: what it may pass on to children; None is what it holds.

        Raises:
            InvalidRequest: a value is unknown, malformed or out of range; with a suggestion.
            StateConflict: the id exists.
            UnknownCapability, CapabilityMissing: a grant names what does not exist, or something is to be passed on
                that is not held.
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
            grants=grant_requests.wanted(grants, delegable),
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


def _request_hash(*parts: object) -> str:
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def _require_key(key: str | None) -> None:
    if key is not None and not (0 < len(key) <= bounds.MAX_IDEMPOTENCY_KEY_CHARS and key.isprintable()):
        raise InvalidRequest(field="idempotency_key", reason="not_a_key", limit_chars=bounds.MAX_IDEMPOTENCY_KEY_CHARS)
