"""Tool evidence: the events of a call: each decision about its capabilities, and the call itself on every path.

Source:
    capability.decision.is_recorded, gate.event.on_every_path, gate.redaction.before_hash (02 §3, FR-EVT-007).
"""

from __future__ import annotations

import hashlib

from handshake.gate.tool_records import Touched
from handshake.kernel.asked_call import AskedCall
from handshake.kernel.capability import REGISTRY_VERSION, shown
from handshake.kernel.catalogue import CapabilityDecision, ToolCall
from handshake.kernel.catalogue.lists import MAX_REFS
from handshake.kernel.catalogue.tools import (
    ToolActor,
    ToolExecutor,
    ToolFault,
    ToolResources,
    ToolTiming,
)
from handshake.kernel.event import Context
from handshake.kernel.htc import CallError, ToolResponse
from handshake.kernel.ids import is_sha256
from handshake.kernel.judgement import Verdict
from handshake.kernel.section import MAX_NAME_CHARS
from handshake.ports.store import Tx


def tell_decision(tx: Tx, context: Context, asked: AskedCall, verdict: Verdict) -> None:
    """Tell what was decided about each capability that a call requires, or about its tool if it requires none."""
    wanted = shown([one.capability for one in asked.needed]) or (name_told(asked.tool_id) or "unknown",)
    for capability_id in wanted:
        tx.append(
            CapabilityDecision(
                actor_id=name_told(asked.actor.agent_id or asked.actor.model_id) or asked.actor.kind.value,
                capability_id=name_told(capability_id) or "unknown",
                capability_registry_version=REGISTRY_VERSION,
                decision_outcome=verdict.decision,
                missing=tuple(name_told(one) or "unknown" for one in verdict.missing),
                reason=verdict.reason,
                session_id=context.model_session_id or "",
                tool_id=name_told(asked.tool_id),
            ),
            context,
        )


def tell_call(
    tx: Tx,
    context: Context,
    asked: AskedCall,
    verdict: Verdict,
    response: ToolResponse,
    *,
    tainted: bool,
    result_sha256: str | None = None,
    touched: Touched | None = None,
) -> None:
    """Tell of a call that was executed, denied, asked about, or answered from the records."""
    error = response.error if isinstance(response.error, CallError) else None
    definition = asked.definition
    timing = response.timing
    tx.append(
        ToolCall(
            actor=ToolActor(
                agent_id=name_told(asked.actor.agent_id),
                kind=asked.actor.kind,
                model_id=name_told(asked.actor.model_id),
            ),
            approval_id=verdict.approval_id,
            args_hash=asked.args_sha256,
            args_ref=asked.args_ref,
            decision=verdict.decision,
            dry_run=asked.dry_run,
            error=None if error is None else ToolFault(code=error.code, kind=error.kind, retryable=error.retryable),
            executed_by=ToolExecutor.RUNTIME if definition is None else definition.executed_by,
            idempotency_key_sha256=_key_sha256(asked.idempotency_key),
            ok=response.ok,
            resources=None if touched is None else _resources(touched, result_sha256),
            result_hash=result_sha256,
            result_ref=response.result_ref if isinstance(response.result_ref, str) else None,
            session_id=context.model_session_id,
            side_effect=None if definition is None else definition.side_effect,
            tainted=tainted,
            timing=ToolTiming(duration_ms=timing.duration_ms, ended_at=timing.ended_at, started_at=timing.started_at),
            tool_call_id=name_told(asked.tool_call_id),
            tool_id=name_told(asked.tool_id),
            tool_version=name_told(asked.tool_version),
            trace_id=asked.trace_id,
            transport=asked.origin.transport,
        ),
        context,
    )


def _resources(touched: Touched, result_sha256: str | None) -> ToolResources:
    artifacts = [one for one in (*touched.artifacts, result_sha256 or "") if is_sha256(one)]
    return ToolResources(
        artifacts=tuple(dict.fromkeys(artifacts))[:MAX_REFS],
        files_count=len(touched.files),
        urls_count=len(touched.urls),
    )


def _key_sha256(key: str | None) -> str | None:
    return None if key is None else hashlib.sha256(key.encode()).hexdigest()


def name_told(text: str | None) -> str | None:
    """Return a name as an event may hold it: one line, cut; what a model made up may be anything."""
    if not text:
        return None
    short = text[:MAX_NAME_CHARS]
    return short if short.isprintable() else "".join(one if one.isprintable() else "?" for one in short)
