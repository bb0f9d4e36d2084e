"""Gating: a Tool Gate on a store in memory, for tests of calls."""

from __future__ import annotations

from typing import Any

import msgspec

from handshake.gate.tool_records import CallOutcome, Touched
from handshake.kernel.ids import ArtifactId
from handshake.kernel.redaction import KnownValues
from handshake.kernel.tool_call import ToolCallRecord
from handshake.operations import tool_calls
from handshake.operations.tool_hearing import CallPolicy
from handshake.testing.plain_policy import PlainPolicy
from handshake.testing.tool_door import LOCAL, TRACE, ToolDoor
from tests.running import Stage

__all__ = ["LOCAL", "SECRET", "TRACE", "Door"]

SECRET = "hunter2-hunter2-hunter2"


class Door(ToolDoor):
    """A gate with one scripted tool, whose sessions may do what a test grants them."""

    def __init__(self, stage: Stage, policy: CallPolicy | None = None) -> None:
        self.policy = PlainPolicy()
        super().__init__(
            stage.store, stage.queue, policy or self.policy, stage.clock, stage.epoch, KnownValues([SECRET])
        )
        self.stage = stage
        self.store = stage.store

    @classmethod
    async def open(cls, stage: Stage | None = None, *, policy: CallPolicy | None = None) -> Door:
        """Make a workspace and a gate."""
        return cls(stage or await Stage.open(dispatch=False), policy)

    async def session(self, *grants: str) -> str:
        """Create a session that holds `grants`."""
        session_id = await self.stage.create()
        self.policy.grant(session_id, *grants)
        return session_id

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
