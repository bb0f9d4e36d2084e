"""Tool gate: the only door to tools; it opens for one decided and recorded call at a time, and for no other.

Source:
    gate.tools.single_door, gate.event.on_every_path, gate.failure.denies (02 §3).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from handshake.gate.answering import canceled, failed, late, redacted, undecided
from handshake.gate.call_reading import CallReader, ModelCall
from handshake.gate.json_schema import envelope_schemas
from handshake.gate.tool_records import Begun, CallOutcome, Settle, Settled, ToolRecords
from handshake.kernel.asked_call import AskedCall, Origin
from handshake.kernel.errors import HandshakeError, IntegrityBroken
from handshake.kernel.htc import ToolResponse
from handshake.kernel.ids import JobId, SessionId
from handshake.kernel.judgement import Reason, Refusal, Verdict
from handshake.kernel.redaction import KnownValues
from handshake.kernel.settings import GATE_DECISION_MS, MAX_TOOL_PAYLOAD_BYTES
from handshake.kernel.tool import ToolExecutor
from handshake.kernel.tool_registry import ToolRegistry
from handshake.kernel.units import US_PER_MS, Microseconds
from handshake.ports.clock import Clock
from handshake.ports.tool import Tool, ToolContext, ToolFailed, ToolResult, claim_tool_mint

__all__ = ["ModelCall", "Origin", "Settle", "Settled", "ToolGate", "ToolRecords"]

_mint = claim_tool_mint()

_MS_PER_S = 1_000

Rooms = Callable[[str, bool], Awaitable[str]]
"""Gives the folder that a session's paths are relative to, by the session's id and whether the call changes it."""


class ToolGate:
    """Decides about calls of tools and carries out those that may be; one object per runtime.

    Args:
        registry: the tools.
        adapters: what carries them out, by tool id.
        records: the store.
        room: where a session works.
        clock: time.
        known: secrets of this process, which are never stored and never returned.
        has_sandbox: whether a command can be confined; whatever it answers but `True`, and whatever it raises, is a no.
    """

    def __init__(
        self,
        registry: ToolRegistry,
        adapters: Mapping[str, Tool],
        records: ToolRecords,
        room: Rooms,
        clock: Clock,
        known: KnownValues,
        has_sandbox: Callable[[], Awaitable[bool]],
    ) -> None:
        self.registry = registry
        self._adapters = dict(adapters)
        self._records = records
        self._room = room
        self._clock = clock
        self._known = known
        self._has_sandbox = has_sandbox
        self._reader = CallReader(registry, known)

    def attach(self, tool_id: str, adapter: Tool) -> None:
        """Let `adapter` carry out a tool from now on; the registry decides what the tool is."""
        self._adapters[tool_id] = adapter

    async def call(self, envelope: bytes, origin: Origin, *, settle: Settle | None = None) -> ToolResponse:
        """Return the answer to an HTC-1.0 request, whatever it is; both are held to the schema.

        Args:
            envelope: the request as it came.
            origin: the way by which it came.
            settle: joins the commit that records where the call stands.

        Raises:
            StoreFailed: an outcome could not be recorded and the runtime stops.
        """
        asked = await self._with_reference(self._reader.envelope(envelope, origin))
        begin_us = self._clock.monotonic_us()
        try:
            begun = await self._begin(asked, settle)
        except Exception as broken:  # noqa: BLE001  (a gate that raises denies)
            return self._checked(undecided(asked, broken, self._clock.now_us()))
        return self._checked((await self._finish(asked, begun, begin_us, settle)).response)

    async def call_of_model(self, call: ModelCall, *, settle: Settle | None = None) -> Settled:
        """Return where a call stands that a model asked for.

        Cancelling this cuts the tool first and records that the call was cancelled.

        Raises:
            StoreFailed: nothing is recorded and nothing ran; or as `call`.
        """
        asked = self._reader.model_call(call)
        begin_us = self._clock.monotonic_us()
        settled = await self._finish(asked, await self._begin(asked, settle), begin_us, settle)
        self._checked(settled.response)
        return settled

    async def explain(self, envelope: bytes, origin: Origin) -> tuple[AskedCall, Verdict]:
        """Return what the gate would decide about a request now; nothing is recorded and nothing runs.

        Source:
            capability.explain.equals_gate (02 §3).
        """
        asked = await self._with_reference(self._reader.envelope(envelope, origin))
        return asked, await self._records.explain(asked, has_sandbox=await self._sandboxed(asked))

    async def close(self) -> None:
        """Close every adapter once."""
        for adapter in {id(one): one for one in self._adapters.values()}.values():
            await adapter.close()

    async def _begin(self, asked: AskedCall, settle: Settle | None) -> Begun:
        deadline_us = self._clock.now_us() + GATE_DECISION_MS * US_PER_MS
        return await self._records.begin(
            asked, has_sandbox=await self._sandboxed(asked), deadline_us=deadline_us, settle=settle
        )

    async def _finish(self, asked: AskedCall, begun: Begun, begin_us: Microseconds, settle: Settle | None) -> Settled:
        if begun.settled is not None:
            return begun.settled
        outcome = await self._outcome(asked, begun, begin_us, settle)
        return await self._records.end(asked, begun, outcome, settle=settle)

    async def _outcome(
        self, asked: AskedCall, begun: Begun, begin_us: Microseconds, settle: Settle | None
    ) -> CallOutcome:
        """Carry out a call that was begun; every end of it is an outcome, and a cut is recorded before it goes on."""
        start_us = self._clock.monotonic_us()
        if start_us - begin_us > GATE_DECISION_MS * US_PER_MS:
            return late()
        try:
            tried = await self._run(asked, begun)
        except asyncio.CancelledError:
            await self._records.end(asked, begun, canceled(self._spent_ms(start_us)), settle=settle)
            raise
        spent_ms = self._spent_ms(start_us)
        assert asked.tool is not None, "a call of an unknown tool is not begun"
        if isinstance(tried, ToolResult):
            return redacted(asked.tool, tried, self._known, spent_ms)
        return failed(tried, spent_ms)

    async def _run(self, asked: AskedCall, begun: Begun) -> ToolResult | ToolFailed:
        """Return what the adapter gave before its time was over; its bugs are failures of the call."""
        definition = asked.definition
        assert definition is not None, "a call of an unknown tool is not begun"
        adapter = self._adapters.get(definition.tool_id)
        if adapter is None or definition.executed_by is not ToolExecutor.RUNTIME:
            return ToolFailed("no_adapter", "Nothing here carries out this tool.")
        limit = asyncio.timeout(definition.timeout_ms / _MS_PER_S)
        tried: ToolResult | ToolFailed | None = None
        with contextlib.suppress(TimeoutError):
            async with limit:
                tried = await self._tried(adapter, asked, begun)
        if tried is None or limit.expired():  # what comes late all the same is not believed
            return ToolFailed("timeout", "The tool did not end in time.", retryable=True, timeout=True)
        return tried

    async def _tried(self, adapter: Tool, asked: AskedCall, begun: Begun) -> ToolResult | ToolFailed:
        definition, session_id, call_id = asked.definition, asked.session_id, asked.tool_call_id
        assert definition is not None, "a call of an unknown tool is not begun"
        assert session_id is not None, "a call without a session is not begun"
        assert call_id is not None, "a call without an id is not begun"
        try:
            root = await self._room(session_id, bool(begun.reach.write))
            context = ToolContext(
                session_id=SessionId(session_id),
                job_id=None if asked.origin.job_id is None else JobId(asked.origin.job_id),
                tool_call_id=call_id,
                trace_id=asked.trace_id or "",
                root=root,
                reach=begun.reach,
                timeout_ms=definition.timeout_ms,
                max_result_bytes=MAX_TOOL_PAYLOAD_BYTES,
                idempotency_key=asked.idempotency_key,
            )
            one = _mint(SessionId(session_id), call_id, definition.tool_id)
            return await adapter.run(one, definition.tool_id, asked.args, context)
        except ToolFailed as broken:
            return broken
        except HandshakeError as refused:
            return ToolFailed(refused.code, refused.sentence)
        except Exception as bug:  # noqa: BLE001  (an adapter's bug ends its call; it must not leave it begun)
            return ToolFailed("adapter_failed", f"The tool broke: {type(bug).__name__}.")

    async def _with_reference(self, asked: AskedCall) -> AskedCall:
        """Return the call with the arguments that `args_ref` names, if it names any."""
        if asked.args_ref is None or asked.refusal is not None:
            return asked
        try:
            data = await self._records.arguments(asked.session_id or "", asked.args_ref)
        except HandshakeError:
            data = None
        if data is None:
            return msgspec.structs.replace(asked, refusal=Refusal(reason=Reason.ARGUMENTS_UNKNOWN))
        return self._reader.with_text(asked, data)

    async def _sandboxed(self, asked: AskedCall) -> bool:
        definition = asked.definition
        if definition is None or not definition.needs_sandbox:
            return True
        try:
            return await self._has_sandbox() is True
        except Exception:  # noqa: BLE001  (what cannot be told is a no)
            return False

    def _checked(self, response: ToolResponse) -> ToolResponse:
        """Return the response if it fits HTC-1.0, as every response must."""
        misfit = envelope_schemas()[1].misfit(msgspec.to_builtins(response))
        if misfit is not None:
            raise IntegrityBroken(subject="tool_response", reason=misfit.rule)
        return response

    def _spent_ms(self, since_us: Microseconds) -> int:
        return (self._clock.monotonic_us() - since_us) // US_PER_MS
