"""Tools: the Python face of tools: what a session could call, and calls through the gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from handshake.bootstrap import Runtime
from handshake.kernel.asked_call import Origin
from handshake.kernel.canonical import canonical_body
from handshake.kernel.catalogue.tools import Transport
from handshake.kernel.event import Actor
from handshake.kernel.htc import CallActor, ToolRequest, ToolResponse
from handshake.kernel.ids import ArtifactId, SessionId
from handshake.kernel.settings import MAX_ARTIFACT_BYTES
from handshake.kernel.strict_json import read_json
from handshake.kernel.tool_offer import offered
from handshake.kernel.tool_registry import ToolListing


class Tools:
    """The tools of a workspace."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def listings(self, session_id: str) -> Sequence[ToolListing]:
        """Return the tools of which the session could make some call, in the order of their ids.

        Raises:
            NotFound: there is no such session.
        """
        runtime, registry = self._runtime, self._runtime.tools.gate.registry
        authority = await runtime.store.read(lambda reader: runtime.approvals.authority(reader, SessionId(session_id)))
        usable = offered(registry.all(), authority)
        return registry.listings(only=[one.definition.tool_id for one in usable], deferred=True)

    async def call(
        self,
        session_id: str,
        tool_id: str,
        args: Mapping[str, Any],
        *,
        transport: Transport = Transport.LOCAL,
        agent_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> ToolResponse:
        """Call a tool for a session, if the gate allows it; every answer is a response, also a refusal.

        Args:
            session_id: whose authority counts.
            tool_id: which tool.
            args: its arguments.
            transport: the way by which the call comes, for the record.
            agent_id: who asks, as they say themselves; for the record.
            idempotency_key: a repeat with the same key returns the recorded result.
        """
        known = self._runtime.tools.gate.registry.find(tool_id)
        request = ToolRequest(
            tool_call_id=self._runtime.new_id(),
            trace_id=self._runtime.new_id(),
            session_id=session_id,
            actor=CallActor(kind=Actor.AGENT, agent_id=agent_id),
            tool_id=tool_id,
            tool_version="0.0.0" if known is None else known.definition.tool_version,
            args=dict(args),
            idempotency_key=idempotency_key,
        )
        response = await self._runtime.tools.gate.call(
            canonical_body(msgspec.to_builtins(request)), Origin(transport=transport)
        )
        return await self._whole(response)

    async def _whole(self, response: ToolResponse) -> ToolResponse:
        """Return a response with its result inline, also if it is too large for an envelope."""
        if response.result_ref is msgspec.UNSET:
            return response
        reference = ArtifactId(str(response.result_ref))
        data = await self._runtime.store.read(lambda reader: reader.artifact(reference))
        result = read_json(data or b"{}", max_bytes=MAX_ARTIFACT_BYTES)
        assert isinstance(result, dict), "a tool's result is an object"
        return msgspec.structs.replace(response, result=result)
