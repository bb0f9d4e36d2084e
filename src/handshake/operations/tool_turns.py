"""Tool turns: carries out the calls that a run's model asked for, one after another, through the Tool Gate.

Source:
    gate.tools.single_door, gate.result.correlated, gate.approval.resumes_work (01 §4, 02 §3).
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

import msgspec

from handshake.gate.answering import error_bytes
from handshake.gate.egress import ToolSchema
from handshake.gate.tool_gate import ModelCall, Origin, Settle, Settled, ToolGate
from handshake.kernel.asked_call import AskedCall
from handshake.kernel.canonical import canonical_body
from handshake.kernel.catalogue.tools import Transport
from handshake.kernel.htc import CallError
from handshake.kernel.ids import JobId, MessageId, SessionId
from handshake.kernel.job import JobState, RunTicket
from handshake.kernel.queue import RunQueue
from handshake.kernel.section import MAX_NAME_CHARS
from handshake.kernel.settings import MAX_INLINE_PAYLOAD_BYTES
from handshake.kernel.tool_call import ToolCallRecord, ToolCallState
from handshake.kernel.tool_message import CalledTool, ToolAnswer, answer_content, call_content
from handshake.kernel.tool_name import tool_ids_of, wire_name
from handshake.kernel.tool_offer import offered
from handshake.kernel.tool_registry import RegisteredTool
from handshake.kernel.units import US_PER_MS
from handshake.operations import records, tool_calls, tool_steps
from handshake.operations.approvals import Approvals
from handshake.operations.attempt import Attempt
from handshake.operations.attempts import Ended
from handshake.operations.continuing import Following
from handshake.operations.feed import AwaitingUser, Feeds, ToolEnded, ToolStarted
from handshake.operations.tool_steps import Told, WantedCall, content_of
from handshake.ports.clock import Clock
from handshake.ports.store import Reader, Store, Tx


async def _nothing() -> None:
    """Nobody is told."""


class _Open(msgspec.Struct, frozen=True, gc=False):
    """The next call of a run: its row, and what the model wrote."""

    row: ToolCallRecord
    wanted: CalledTool


class ToolTurns:
    """Carries out the tools of runs; one object per runtime."""

    def __init__(
        self,
        store: Store,
        queue: RunQueue,
        gate: ToolGate,
        approvals: Approvals,
        feeds: Feeds,
        clock: Clock,
        new_id: Callable[[], str],
        epoch: int,
        *,
        read: Callable[[ModelCall], AskedCall],
        grace_us: int,
        asked: Callable[[], Awaitable[None]] = _nothing,
    ) -> None:
        """Carry out tools with these.

        Args:
            store: where runs and calls are read.
            queue: the index of the queue.
            gate: the only door to tools.
            approvals: what sessions may do.
            feeds: whoever listens.
            clock: time of leases.
            new_id: makes ids.
            epoch: of this runtime.
            read: reads a call as the gate does.
            grace_us: how much longer than its limit a call may take before its run is given up.
            asked: called when a call was put before a person.
        """
        self._approvals = approvals
        self._clock = clock
        self._asked = asked
        self._read = read
        self._grace_us = grace_us
        self._store = store
        self._queue = queue
        self._gate = gate
        self._feeds = feeds
        self._new_id = new_id
        self._epoch = epoch

    async def offered(self, session_id: SessionId) -> tuple[ToolSchema, ...]:
        """Return the tools that a session's model is told of: those that it could make some call of."""
        return self._store.read_now(lambda reader: self._offered(reader, session_id))

    def _offered(self, reader: Reader, session_id: SessionId) -> tuple[ToolSchema, ...]:
        tools = self.usable(reader, session_id)
        if not any(tool.templates for tool in tools):  # nothing was granted: tools about tools are of no use
            return ()
        listings = self._gate.registry.listings(only=[tool.definition.tool_id for tool in tools])
        return tuple(ToolSchema(wire_name(one.tool_id), one.description, one.input_schema) for one in listings)

    def usable(self, reader: Reader, session_id: SessionId) -> tuple[RegisteredTool, ...]:
        """Return the tools that a session could make some call of, also those that a model must look for."""
        return offered(self._gate.registry.all(), self._approvals.authority(reader, session_id))

    async def wanted(self, ticket: RunTicket, calls: tuple[CalledTool, ...]) -> list[WantedCall]:
        """Return the calls of an answer with the ids and contents that their rows will have.

        A provider's ids are unique in one answer only, so a call is known by the id of its message.
        """
        job = self._store.read_now(lambda reader: records.job(reader, ticket.job_id))
        turn_id, trace_id = job.turn_id, job.trace_id
        named = tool_ids_of(one.definition.tool_id for one in self._gate.registry.all())
        found = []
        for place, call in enumerate(calls, start=1):
            message_id = MessageId(self._new_id())
            asked = self._read(
                ModelCall(
                    origin=Origin(
                        transport=Transport.LOCAL,
                        job_id=ticket.job_id,
                        turn_id=turn_id,
                        attempt=ticket.attempt,
                        place=place,
                    ),
                    session_id=ticket.session_id,
                    trace_id=trace_id,
                    tool_call_id=message_id,
                    tool_id=named.get(call.name, call.name)[:MAX_NAME_CHARS],
                    arguments=call.arguments,
                    model_id=ticket.model_id,
                )
            )
            shown = None if asked.shown is None else await self._store.prepare(asked.shown, tool_calls.JSON)
            found.append(
                WantedCall(message_id=message_id, content=content_of(call_content(call)), asked=asked, shown=shown)
            )
        return found

    async def carry_out(self, attempt: Attempt) -> Ended:
        """Carry out the open calls of a run that is running, until none is left or one waits for a person.

        Cancelling this cuts the call that is being carried out and records that.

        Raises:
            StoreFailed: an outcome cannot be stored; the next start finds the run.
            IntegrityBroken: the thread does not hold what the call's row says.
        """
        ticket = attempt.ticket
        following = Following(JobId(self._new_id()))
        self._feeds.may_go_on(ticket.job_id, following.job_id)
        ended = Ended(JobState.RUNNING, True)
        while ended.state is JobState.RUNNING and ended.counted:
            one = await self._store.read(lambda reader: _next_call(reader, ticket))
            if one is None:
                return await self._store.write(
                    lambda tx: tool_steps.go_on(tx, self._queue, ticket, epoch=self._epoch, following=following),
                    outcome=True,
                )
            ended = await self._call(attempt, one, following)
        return ended

    async def _call(self, attempt: Attempt, one: _Open, following: Following) -> Ended:
        ticket, row = attempt.ticket, one.row
        self._feeds.push(ticket.job_id, ToolStarted(row.tool_call_id, row.tool_id))
        origin = Origin(
            transport=Transport.LOCAL,
            job_id=ticket.job_id,
            turn_id=row.turn_id,
            attempt=ticket.attempt,
            place=row.place,
        )
        call = ModelCall(
            origin=origin,
            session_id=ticket.session_id,
            trace_id=row.trace_id,
            tool_call_id=row.tool_call_id,
            tool_id=row.tool_id,
            arguments=one.wanted.arguments,
            model_id=ticket.model_id,
        )
        ended: list[Ended] = []
        definition = self._gate.registry.find(row.tool_id)
        limit_ms = 0 if definition is None else definition.definition.timeout_ms
        attempt.lease_span_us = limit_ms * US_PER_MS + self._grace_us
        attempt.lease_us = self._clock.monotonic_us() + attempt.lease_span_us
        attempt.calling = True
        settled = await self._gate.call_of_model(call, settle=self._settling(ticket, one, following, ended))
        attempt.calling = False
        if settled.state is ToolCallState.AWAITING_USER:
            await self._asked()
            self._feeds.push(ticket.job_id, AwaitingUser(settled.verdict.reason, row.tool_call_id, row.tool_id))
        else:
            error = settled.response.error
            self._feeds.push(
                ticket.job_id,
                ToolEnded(row.tool_call_id, row.tool_id, error.code if isinstance(error, CallError) else None),
            )
        return ended[0]

    def _settling(self, ticket: RunTicket, one: _Open, following: Following, ended: list[Ended]) -> Settle:
        """Return what joins the commit that settles a call; it notes where the run stands then."""
        message_id = MessageId(self._new_id())

        def settle(tx: Tx, settled: Settled) -> None:
            if settled.state is ToolCallState.AWAITING_USER:
                ended[:] = [tool_steps.wait_for_person(tx, self._queue, ticket, epoch=self._epoch)]
                return
            error = settled.response.error
            content = error_bytes(error) if isinstance(error, CallError) else settled.content or b"{}"
            told = Told(
                message_id=message_id,
                content=content_of(
                    answer_content(ToolAnswer(one.wanted.call_id, text_for_model(content), not settled.response.ok))
                ),
                is_trusted=settled.is_trusted,
            )
            ended[:] = [tool_steps.tell(tx, self._queue, ticket, told, epoch=self._epoch, following=following)]

        return settle


def text_for_model(content: bytes) -> str:
    """Return what the model is told of a result: all of it, or where it can be read if it is long."""
    if len(content) <= MAX_INLINE_PAYLOAD_BYTES:
        return content.decode()
    reference = {
        "bytes": len(content),
        "hint": "The result is long: read it in parts with artifact.get.",
        "result_ref": hashlib.sha256(content).hexdigest(),
    }
    return canonical_body(reference).decode()


def _next_call(reader: Reader, ticket: RunTicket) -> _Open | None:
    """Return the first call of a run that has not ended, with the exact text that its model wrote."""
    calls = tool_calls.open_calls(reader, ticket.session_id, ticket.job_id)
    if not calls:
        return None
    return _Open(calls[0], tool_steps.written(reader, calls[0]))
