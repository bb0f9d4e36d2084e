"""Tool door: a Tool Gate on any store, with one scripted tool behind it, for tests and benches of calls."""

from __future__ import annotations

from typing import Any

import msgspec

from handshake.gate.call_reading import CallReader
from handshake.gate.json_schema import CompiledSchema
from handshake.gate.tool_gate import Origin, Settle, ToolGate
from handshake.gate.tool_records import Begun
from handshake.kernel.capability import SHIPPED
from handshake.kernel.catalogue.tools import Transport
from handshake.kernel.htc import ToolResponse
from handshake.kernel.queue import RunQueue
from handshake.kernel.redaction import KnownValues
from handshake.kernel.tool import ToolDefinition
from handshake.kernel.tool_registry import ToolRegistry, ToolSource
from handshake.operations.keeping import Keeping
from handshake.operations.tool_hearing import CallPolicy
from handshake.operations.tool_records import StoredToolRecords
from handshake.operations.unstored import Unstored
from handshake.ports.clock import Clock
from handshake.ports.store import Store
from handshake.testing.scripted_tool import DEFINITION, ScriptedTool

LOCAL = Origin(transport=Transport.LOCAL)
TRACE = "018f0000-0000-7000-8000-0000000000aa"
_LATEST_US = 2**60


class ToolDoor:
    """A gate whose sessions may do what a policy says; ids of calls are numbered.

    Args:
        store: an open store.
        queue: the index of its queue.
        policy: what sessions may do.
        clock: time.
        epoch: of the runtime.
        known: secrets of the process.
    """

    def __init__(
        self,
        store: Store,
        queue: RunQueue,
        policy: CallPolicy,
        clock: Clock,
        epoch: int,
        known: KnownValues | None = None,
    ) -> None:
        self.tool = ScriptedTool()
        self.registry = ToolRegistry(SHIPPED, CompiledSchema)
        self.registry.register(DEFINITION, ToolSource.PROGRAM)
        self.known = known or KnownValues()
        self.has_sandbox = True
        self.keeping = Keeping(store, Unstored(), clock)
        self.records = StoredToolRecords(store, queue, policy, self.keeping, clock, epoch)
        self.gate = ToolGate(
            self.registry,
            {DEFINITION.tool_id: self.tool},
            self.records,
            self.room,
            clock,
            self.known,
            self.sandboxed,
        )
        self.reader = CallReader(self.registry, self.known)
        self.count = 0

    async def room(self, session_id: str, writes: bool) -> str:
        """Return where a session works."""
        return f"/rooms/{session_id}"

    async def sandboxed(self) -> bool:
        """Return whether commands can be confined."""
        return self.has_sandbox

    def define(self, definition: ToolDefinition) -> None:
        """Let the scripted tool be one more tool."""
        self.registry.register(definition, ToolSource.PROGRAM)
        self.gate.attach(definition.tool_id, self.tool)

    def envelope(self, session: str | None, args: Any = None, /, **changes: Any) -> bytes:
        """Return a request; its id is new unless `changes` say another. A field that is `...` is left out."""
        self.count += 1
        whole = {
            "schema_version": "htc-1.0",
            "tool_call_id": f"call-{self.count}",
            "trace_id": TRACE,
            "session_id": session,
            "actor": {"kind": "agent", "agent_id": "tester", "model_id": "tiny"},
            "tool_id": DEFINITION.tool_id,
            "tool_version": DEFINITION.tool_version,
            "args": {"path": "src/a.py"} if args is None else args,
        }
        return msgspec.json.encode({key: value for key, value in (whole | changes).items() if value is not ...})

    async def call(
        self,
        session: str | None,
        args: Any = None,
        /,
        *,
        origin: Origin = LOCAL,
        settle: Settle | None = None,
        **changes: Any,
    ) -> ToolResponse:
        """Send a request through the gate."""
        return await self.gate.call(self.envelope(session, args, **changes), origin, settle=settle)

    async def begin(self, envelope: bytes) -> Begun:
        """Read a request, decide about it and record the decision; nothing is carried out."""
        asked = self.reader.envelope(envelope, LOCAL)
        return await self.records.begin(asked, has_sandbox=True, deadline_us=_LATEST_US, settle=None)
