"""Turns: carry out one dispatched attempt: read the thread, call the model through the gate, record the outcome."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from handshake.gate.egress import CallLimits, Egress, Finished, ModelFault, TextPiece, ThreadMessage
from handshake.kernel.budget import BYTES_PER_TOKEN
from handshake.kernel.errors import (
    HandshakeError,
    IntegrityBroken,
    ProviderFailed,
    ProviderTimeout,
    StoreFailed,
    TooLarge,
)
from handshake.kernel.ids import ArtifactId, MessageId
from handshake.kernel.job import TERMINAL, JobState, JobStep, RunTicket
from handshake.kernel.message import MessageRole
from handshake.kernel.queue import RunQueue
from handshake.kernel.retry import Fault, Reach
from handshake.kernel.session_checkpoint import EVERY_TOKENS
from handshake.kernel.settings import (
    MAX_CALL_TOKENS,
    MAX_REQUEST_BYTES,
    OFF_LOOP_BYTES,
    Settings,
)
from handshake.kernel.units import US_PER_MS
from handshake.kernel.usage import TokenUsage
from handshake.operations import outcomes, streamed, tool_steps
from handshake.operations.attempt import Attempt
from handshake.operations.attempts import Ended
from handshake.operations.feed import Feeds, NotStored, Over, Retrying, Started, Text
from handshake.operations.keeping import Keeping
from handshake.operations.outcomes import Answer, Failure, Timing
from handshake.operations.records import NewIds
from handshake.operations.tool_turns import ToolTurns
from handshake.ports.clock import Clock
from handshake.ports.store import Content, Reader, Store, Unit

T = TypeVar("T")
_TEXT = "text/plain; charset=utf-8"
_BODY = "application/octet-stream"
_ROLES = {role.value: role for role in MessageRole}
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


class _Request(msgspec.Struct, frozen=True, gc=False):
    """What an attempt needs to know before it calls."""

    thread: list[ThreadMessage]
    timeout_ms: int
    max_output_tokens: int | None


class _Progress:
    """What an attempt has seen so far."""

    __slots__ = ("_unmarked", "first_us", "parts", "prompt_hash", "start_us", "tried")

    def __init__(self, start_us: int, parts: list[str]) -> None:
        self.start_us = start_us
        self.first_us: int | None = None
        self.parts = parts
        self.prompt_hash = EMPTY_SHA256
        self.tried = False
        """Whether the call was opened."""
        self._unmarked = 0

    def is_to_mark(self, text: str) -> bool:
        """Count a piece that came; return whether so much came that what is there must be marked."""
        self._unmarked += max(1, len(text) // BYTES_PER_TOKEN)
        if self._unmarked < EVERY_TOKENS:
            return False
        self._unmarked = 0
        return True


class Turns:
    """Carries out attempts; one object per runtime."""

    def __init__(
        self,
        store: Store,
        queue: RunQueue,
        egress: Egress,
        feeds: Feeds,
        clock: Clock,
        new_id: NewIds,
        keeping: Keeping,
        settings: Settings,
        epoch: int,
        tools: ToolTurns | None = None,
    ) -> None:
        self._store = store
        self._queue = queue
        self._egress = egress
        self._feeds = feeds
        self._clock = clock
        self._new_id = new_id
        self._keeping = keeping
        self._calls = settings.calls
        self._grace_us = settings.recovery.lease_grace_ms * US_PER_MS
        self._epoch = epoch
        self._tools = tools

    def stop(self) -> None:
        """Take note that the runtime stops: a call that is cut goes back to the queue, and no outcome waits on."""
        self._keeping.stop()

    async def perform(self, attempt: Attempt) -> None:
        """Carry out one attempt to its recorded outcome; cancelling this task while it calls cuts the call first.

        An attempt whose outcome cannot be recorded is left to the next start, and its listeners hear that.

        Source:
            scheduler.cancel.is_prompt, recorder.atomic.
        """
        try:
            await self._carry_out(attempt)
        except BaseException:
            if not attempt.given_up:
                self._feeds.abandon(attempt.ticket.job_id)
            raise

    async def _carry_out(self, attempt: Attempt) -> None:
        ticket = attempt.ticket
        seen = _Progress(self._clock.monotonic_us(), attempt.parts)
        if ticket.step is JobStep.TOOLS:
            await self._use_tools(attempt)
            return
        if attempt.cancelled:
            await self._cut(attempt, seen)
            return
        self._feeds.push(ticket.job_id, Started(ticket.attempt))
        try:
            attempt.calling = True
            try:
                finished = await self._call(attempt, seen)
            finally:
                attempt.calling = False
        except asyncio.CancelledError:
            await self._cut(attempt, seen)
            return
        except ModelFault as broken:
            ended = await self._fail(ticket, seen, _error_of(ticket, broken.fault), broken.fault, broken.body)
        except HandshakeError as refused:
            ended = await self._fail(ticket, seen, refused, None, b"")
        except Exception as bug:  # noqa: BLE001  (an adapter's bug ends its run; it must not leave it running)
            broken_adapter = IntegrityBroken(subject="provider_adapter", reason=type(bug).__name__)
            ended = await self._fail(ticket, seen, broken_adapter, None, b"")
        else:
            ended = await self._finish(ticket, seen, finished)
        if ended.state is JobState.RUNNING and ended.counted:
            await self._use_tools(attempt)
            return
        self._tell(ticket, ended)

    async def _use_tools(self, attempt: Attempt) -> None:
        """Carry out what the model asked for; cutting it cuts the tool that is at work, and the run goes on later."""
        ticket, tools = attempt.ticket, self._tools
        if tools is None:
            raise IntegrityBroken(subject="job", reason="no_tools", job_id=ticket.job_id)
        try:
            if attempt.cancelled:
                return
            try:
                ended = await tools.carry_out(attempt)
            finally:
                attempt.calling = False
        except asyncio.CancelledError:
            if attempt.given_up or (attempt.cancelled and not self._keeping.is_stopped):
                return
            ended = await self._record(
                ticket, lambda tx: tool_steps.hand_back(tx, self._queue, ticket, epoch=self._epoch)
            )
            if not ended.counted:  # what was cut was the last call, and another run goes on
                return
        except StoreFailed:
            raise
        except HandshakeError as broken:
            failure = broken
            ended = await self._record(
                ticket, lambda tx: tool_steps.fail(tx, self._queue, ticket, failure.code, epoch=self._epoch)
            )
        self._tell(ticket, ended)

    async def _call(self, attempt: Attempt, seen: _Progress) -> Finished:
        ticket = attempt.ticket
        request = await self._request(ticket)
        tools = () if self._tools is None else await self._tools.offered(ticket.session_id)
        body = self._egress.render(ticket, request.thread, max_output_tokens=request.max_output_tokens, tools=tools)
        if len(body) > MAX_REQUEST_BYTES:
            raise TooLarge(field="request", limit_bytes=MAX_REQUEST_BYTES, given_bytes=len(body))
        seen.prompt_hash = hashlib.sha256(body).hexdigest()
        calls = self._calls
        limits = CallLimits(
            first_byte_ms=min(calls.first_byte_ms, request.timeout_ms),
            idle_ms=min(calls.idle_ms, request.timeout_ms),
            total_ms=request.timeout_ms,
            max_response_bytes=calls.max_response_bytes,
        )
        attempt.lease_span_us = request.timeout_ms * US_PER_MS + self._grace_us
        attempt.lease_us = self._clock.monotonic_us() + attempt.lease_span_us
        finished: Finished | None = None
        stream = self._egress.answer(ticket, body, limits)
        seen.tried = True
        try:
            async for piece in stream:
                if isinstance(piece, TextPiece):
                    if seen.first_us is None:
                        seen.first_us = self._clock.monotonic_us()
                    seen.parts.append(piece.text)
                    self._feeds.push(ticket.job_id, Text(piece.text))
                    if seen.is_to_mark(piece.text):
                        await self._mark(ticket, seen)
                else:
                    finished = piece
        finally:
            await stream.aclose()
        if finished is None:
            raise IntegrityBroken(subject="provider_adapter", reason="no_end")
        return finished

    async def _request(self, ticket: RunTicket) -> _Request:
        small = self._store.read_now(lambda reader: load_request(reader, ticket, max_bytes=OFF_LOOP_BYTES))
        return small if small is not None else await self._store.read(lambda reader: _load_large(reader, ticket))

    async def _finish(self, ticket: RunTicket, seen: _Progress, finished: Finished) -> Ended:
        content = await self._content(ticket, seen)
        answer = Answer(
            message_id=MessageId(self._new_id()),
            content=content,
            prompt_hash=seen.prompt_hash,
            finish_reason=finished.finish_reason,
            usage=_plausible(finished.usage),
            timing=self._timing(seen),
        )
        unit: Unit[Ended] = lambda tx: outcomes.finish(tx, self._queue, ticket, answer, epoch=self._epoch)  # noqa: E731
        if finished.tool_calls and self._tools is not None:
            wanted = await self._tools.wanted(ticket, finished.tool_calls)
            unit = lambda tx: tool_steps.ask(tx, self._queue, ticket, answer, wanted, epoch=self._epoch)  # noqa: E731
        return await self._record(ticket, unit)

    async def _fail(
        self, ticket: RunTicket, seen: _Progress, error: HandshakeError, fault: Fault | None, body: bytes
    ) -> Ended:
        consumed = bool(seen.parts)
        if fault is not None and consumed:
            fault = msgspec.structs.replace(fault, consumed=True)
        failure = Failure(
            error=error,
            fault=fault,
            prompt_hash=seen.prompt_hash,
            partial=await self._content(ticket, seen) if consumed else None,
            provider_body=await self._kept(ticket, body, _BODY) if body else None,
            timing=self._timing(seen),
            tried=seen.tried,
        )
        ended = await self._record(
            ticket, lambda tx: outcomes.fail(tx, self._queue, ticket, failure, epoch=self._epoch)
        )
        if ended.retry_ms is not None and fault is not None:
            self._feeds.push(ticket.job_id, Retrying(ticket.attempt, fault.kind.value, ended.retry_ms))
        return ended

    async def _cut(self, attempt: Attempt, seen: _Progress) -> None:
        """Record that the call was cut and its connection is closed: by a cancel, or because the runtime stops.

        If the task was cancelled and nobody asked for it, the event loop is stopping without us.
        """
        ticket = attempt.ticket
        partial = await self._content(ticket, seen) if seen.parts else None
        reach = Reach.SENT if seen.tried else Reach.NOTHING
        if not attempt.given_up and (self._keeping.is_stopped or not attempt.cancelled):
            unit: Unit[Ended] = lambda tx: outcomes.hand_back(  # noqa: E731
                tx, self._queue, ticket, partial, epoch=self._epoch, reach=reach
            )
        else:
            unit = lambda tx: outcomes.release(tx, self._queue, ticket, partial, reach=reach)  # noqa: E731
        self._tell(ticket, await self._record(ticket, unit))

    async def _record(self, ticket: RunTicket, unit: Unit[Ended]) -> Ended:
        """Store an outcome, again and again while the store fails."""
        return await self._until_kept(ticket, lambda: self._store.write(unit, outcome=True))

    async def _kept(self, ticket: RunTicket, data: bytes, media_type: str) -> Content:
        """Make what an outcome refers to durable; large content is a file, for which the disk can be full too."""
        return await self._until_kept(ticket, lambda: self._store.prepare(data, media_type))

    async def _until_kept(self, ticket: RunTicket, keep: Callable[[], Awaitable[T]]) -> T:
        """Call `keep` until the store does not fail; whoever listens hears that it has to wait."""
        return await self._keeping.until_kept(
            keep,
            waiting=lambda failure: self._feeds.push(ticket.job_id, NotStored(str(failure.context.get("reason")))),
        )

    async def _content(self, ticket: RunTicket, seen: _Progress) -> Content:
        return await self._kept(ticket, "".join(seen.parts).encode(errors="replace"), _TEXT)

    async def _mark(self, ticket: RunTicket, seen: _Progress) -> None:
        """Keep what a long answer said so far; where that is refused the answer goes on, its outcome is what counts."""
        with contextlib.suppress(HandshakeError):
            so_far = await self._store.prepare("".join(seen.parts).encode(errors="replace"), _TEXT)
            await self._store.write(lambda tx: streamed.mark(tx, ticket, so_far, epoch=self._epoch))

    def _timing(self, seen: _Progress) -> Timing:
        first = None if seen.first_us is None else (seen.first_us - seen.start_us) // US_PER_MS
        return Timing((self._clock.monotonic_us() - seen.start_us) // US_PER_MS, first)

    def _tell(self, ticket: RunTicket, ended: Ended) -> None:
        if ended.state in TERMINAL and not ended.goes_on:
            self._feeds.push(ticket.job_id, Over(ended.state))


def _load_large(reader: Reader, ticket: RunTicket) -> _Request:
    """Return a request whatever the rest of its thread holds: only what the run itself would send counts.

    Raises:
        TooLarge: that is more than `MAX_REQUEST_BYTES`.
    """
    counted = reader.row("job_request_bytes", {"job_id": ticket.job_id, "session_id": ticket.session_id})
    assert counted is not None, "a sum is a row"
    given = counted[0]
    assert isinstance(given, int), "the column is a STRICT INTEGER"
    if given > MAX_REQUEST_BYTES:
        raise TooLarge(field="thread", limit_bytes=MAX_REQUEST_BYTES, given_bytes=given)
    request = load_request(reader, ticket, max_bytes=None)
    assert request is not None, "it has no limit"
    return request


def load_request(reader: Reader, ticket: RunTicket, *, max_bytes: int | None) -> _Request | None:
    """Return the thread as the run's request holds it: its own turn, and earlier turns that were answered.

    A turn that failed or was cancelled has no answer at its end; left in, it would make two user messages in a row, or
    calls without results, which many chat templates refuse. None if the session's thread holds more than `max_bytes`.

    Source:
        message.thread.rebuilds_same_bytes, scheduler.session.head_only (01 §3, §5).
    """
    job = reader.row("job_request", {"job_id": ticket.job_id})
    assert job is not None, "jobs are never deleted"
    turn_seq, timeout_ms, max_output_tokens, thread_bytes = job
    if max_bytes is not None and isinstance(thread_bytes, int) and thread_bytes > max_bytes:
        return None
    rows = reader.rows("message_thread", {"session_id": ticket.session_id, "turn_seq": turn_seq})
    last = {row[0]: row[1] for row in rows}
    answered = {seq for seq, role in last.items() if role == MessageRole.ASSISTANT}
    thread = [
        ThreadMessage(_ROLES[str(role)], _text_of(reader, str(artifact_id), data))
        for seq, role, artifact_id, data in rows
        if seq == turn_seq or seq in answered
    ]
    assert isinstance(timeout_ms, int), "the column is a STRICT INTEGER"
    return _Request(thread, timeout_ms, max_output_tokens if isinstance(max_output_tokens, int) else None)


def _text_of(reader: Reader, artifact_id: str, inline: object) -> str:
    """Return a message's text; the bytes are checked against their hash, wherever they lie."""
    if isinstance(inline, bytes) and hashlib.sha256(inline).hexdigest() == artifact_id:
        return inline.decode()
    data = reader.artifact(ArtifactId(artifact_id))
    if data is None:
        raise IntegrityBroken(subject="artifact", artifact_id=artifact_id, reason="missing")
    return data.decode()


def _error_of(ticket: RunTicket, fault: Fault) -> HandshakeError:
    kind = ProviderTimeout if fault.is_timeout else ProviderFailed
    return kind(job_id=ticket.job_id, provider_id=ticket.provider_id, fault=fault.kind.value, status=fault.status)


def _plausible(usage: TokenUsage | None) -> TokenUsage | None:
    """Return the usage with impossible figures as unknown: a provider's number is not believed blindly."""
    if usage is None:
        return None

    def figure(value: int | None) -> int | None:
        return value if value is not None and 0 <= value <= MAX_CALL_TOKENS else None

    return TokenUsage(figure(usage.prompt_tokens), figure(usage.completion_tokens), figure(usage.total_tokens))
