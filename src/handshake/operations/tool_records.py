"""Tool records: the store as the Tool Gate sees it (`gate.tool_records`): every step of a call as a unit of work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from handshake.gate import answering
from handshake.gate.tool_gate import Settle, Settled
from handshake.gate.tool_records import Begun, CallOutcome
from handshake.kernel.asked_call import AskedCall
from handshake.kernel.ids import ArtifactId, SessionId, is_uuid
from handshake.kernel.judgement import Verdict
from handshake.kernel.queue import RunQueue
from handshake.operations import tool_calls
from handshake.operations.keeping import Keeping
from handshake.operations.tool_hearing import CallPolicy, hear
from handshake.ports.clock import Clock
from handshake.ports.store import Reader, Store, Tx

T = TypeVar("T")


class StoredToolRecords:
    """Tool calls in a store; one object per runtime.

    Args:
        store: the store.
        queue: holds back a session that waits for what another one writes.
        policy: what other operations know of sessions.
        keeping: keeps outcomes until they are stored.
        clock: time.
        epoch: of this runtime.
    """

    def __init__(
        self, store: Store, queue: RunQueue, policy: CallPolicy, keeping: Keeping, clock: Clock, epoch: int
    ) -> None:
        self._store = store
        self._queue = queue
        self._policy = policy
        self._keeping = keeping
        self._clock = clock
        self._epoch = epoch

    async def begin(self, asked: AskedCall, *, has_sandbox: bool, deadline_us: int, settle: Settle | None) -> Begun:
        """Decide and record in one commit; see `gate.tool_records.ToolRecords`."""
        content = None if asked.shown is None else await self._store.prepare(asked.shown, tool_calls.JSON)
        ran: list[Begun] = []

        def unit(tx: Tx) -> Begun:
            begun = tool_calls.begin(
                tx,
                asked,
                content,
                self._policy,
                epoch=self._epoch,
                has_sandbox=has_sandbox,
                deadline_us=deadline_us,
                settle=settle,
            )
            ran[:] = [begun]
            if tool_calls.is_held(begun.verdict) and not asked.dry_run:
                self._queue.hold(SessionId(asked.session_id or ""))
            return begun

        try:
            return await self._store.write(unit)
        except asyncio.CancelledError:
            await self._withdraw(asked, ran, settle)
            raise

    async def end(self, asked: AskedCall, begun: Begun, outcome: CallOutcome, *, settle: Settle | None) -> Settled:
        """Record an outcome, again and again while the store fails."""
        data = answering.error_bytes(outcome.error) if outcome.error is not None else outcome.result or b"{}"
        content = await self._kept(lambda: self._store.prepare(data, tool_calls.JSON))

        def unit(tx: Tx) -> Settled:
            return tool_calls.end(tx, asked, begun, outcome, content, epoch=self._epoch, settle=settle)

        return await self._kept(lambda: self._store.write(unit, outcome=True))

    async def explain(self, asked: AskedCall, *, has_sandbox: bool) -> Verdict:
        """Decide as `begin` does, from one consistent state, and record nothing."""
        return await self._store.read(lambda reader: self._explained(reader, asked, has_sandbox=has_sandbox))

    async def arguments(self, session_id: str, sha256: str) -> bytes | None:
        """Return an artifact that a row of the session refers to, or None."""
        return await self._store.read(lambda reader: artifact_of_session(reader, session_id, sha256))

    def _explained(self, reader: Reader, asked: AskedCall, *, has_sandbox: bool) -> Verdict:
        now_us = self._clock.now_us()
        return hear(reader, asked, self._policy, epoch=self._epoch, has_sandbox=has_sandbox, now_us=now_us).verdict

    async def _withdraw(self, asked: AskedCall, ran: list[Begun], settle: Settle | None) -> None:
        """Record after a cut what the unit did that was handed in; the writer runs units in their order."""
        data = answering.error_bytes(answering.CUT)
        content = await self._store.prepare(data, tool_calls.JSON)

        def unit(tx: Tx) -> None:
            for begun in ran:
                tool_calls.withdraw(tx, asked, begun, content, epoch=self._epoch, settle=settle)

        await self._kept(lambda: self._store.write(unit, outcome=True))

    async def _kept(self, keep: Callable[[], Awaitable[T]]) -> T:
        return await self._keeping.until_kept(keep)


def artifact_of_session(reader: Reader, session_id: str, sha256: str) -> bytes | None:
    """Return an artifact that a row of the session refers to, or None.

    Source:
        capability.artifact.by_reference_only (02 §1).
    """
    named = {"session_id": session_id, "sha256": sha256}
    if not is_uuid(session_id) or reader.row("artifact_of_session", named) is None:
        return None
    return reader.artifact(ArtifactId(sha256))
