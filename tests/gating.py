"""Gating: a Tool Gate on a store in memory, for tests of calls."""

from __future__ import annotations

from typing import Any

import msgspec

from handshake.gate.json_schema import CompiledSchema
from handshake.gate.tool_gate import Origin, Settle, ToolGate
from handshake.gate.tool_records import CallOutcome, Touched
from handshake.kernel.catalogue.tools import Transport
from handshake.kernel.htc import ToolResponse
from handshake.kernel.ids import ArtifactId
from handshake.kernel.redaction import KnownValues
from handshake.kernel.tool import ToolDefinition
from handshake.kernel.tool_call import ToolCallRecord
from handshake.kernel.tool_registry import ToolRegistry, ToolSource
from handshake.operations import tool_calls
from handshake.operations.keeping import Keeping
from handshake.operations.tool_records import StoredToolRecords
from handshake.operations.unstored import Unstored
from handshake.testing.plain_policy import PlainPolicy
from handshake.testing.scripted_tool import DEFINITION, ScriptedTool
from tests.running import Stage

SECRET = "hunter2-hunter2-hunter2"
LOCAL = Origin(transport=Transport.LOCAL)
TRACE = "018f0000-0000-7000-8000-0000000000aa"


class Door:
    """A gate with one scripted tool, whose sessions may do what a test grants them."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.store = stage.store
        self.policy = PlainPolicy()
        self.tool = ScriptedTool()
        self.registry = ToolRegistry(self.policy.registry, CompiledSchema)
        self.registry.register(DEFINITION, ToolSource.PROGRAM)
        self.known = KnownValues([SECRET])
        self.has_sandbox = True
        self.keeping = Keeping(stage.store, Unstored(), stage.clock)
        self.records = StoredToolRecords(stage.store, stage.queue, self.policy, self.keeping, stage.clock, stage.epoch)
        self.gate = ToolGate(
            self.registry,
            {DEFINITION.tool_id: self.tool},
            self.records,
            self.room,
            stage.clock,
            self.known,
            self._can_confine,
        )
        self.count = 0

    @classmethod
    async def open(cls, stage: Stage | None = None) -> Door:
        """Make a workspace and a gate."""
        return cls(stage or await Stage.open(dispatch=False))

    async def room(self, session_id: str, writes: bool) -> str:
        """Return where a session works."""
        return f"/rooms/{session_id}"

    async def _can_confine(self) -> bool:
        return self.has_sandbox

    def define(self, definition: ToolDefinition) -> None:
        """Let the scripted tool be one more tool."""
        self.registry.register(definition, ToolSource.PROGRAM)
        self.gate.attach(definition.tool_id, self.tool)

    async def session(self, *grants: str) -> str:
        """Create a session that holds `grants`."""
        session_id = await self.stage.create()
        self.policy.grant(session_id, *grants)
        return session_id

    def envelope(self, session: str | None, args: Any = None, /, **changes: Any) -> bytes:
        """Return a request; its id is new unless a test says another."""
        self.count += 1
        whole = {
            "schema_version": "htc-1.0",
            "tool_call_id": f"call-{self.count}",
            "trace_id": TRACE,
            "session_id": session,
            "actor": {"kind": "agent", "agent_id": "tester", "model_id": "tiny"},
            "tool_id": DEFINITION.tool_id,
            "tool_version": "1.0.0",
            "args": {"path": "src/a.py"} if args is None else args,
        }
        kept = {key: value for key, value in (whole | changes).items() if value is not ...}
        return msgspec.json.encode(kept)

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

    def gate_outcome(self) -> CallOutcome:
        """Return what a call gives that the scripted tool answers."""
        return CallOutcome(result=b'{"said":"a"}', error=None, touched=Touched(), is_trusted=False, duration_ms=1)

    def told(self, event_type: str) -> list[dict[str, Any]]:
        """Return the payloads of the events of a type, in their order, after all that must hold was checked."""
        return [msgspec.to_builtins(one.payload) for one in self.stage.check().of(event_type)]

    def rows(self, session_id: str) -> list[ToolCallRecord]:
        """Return the calls of a session as they are stored."""
        return self.store.read_now(lambda reader: tool_calls.calls(reader, session_id))

    def artifact(self, sha256: str | None) -> bytes | None:
        """Return a stored artifact."""
        return self.store.read_now(lambda reader: reader.artifact(ArtifactId(sha256 or "")))
