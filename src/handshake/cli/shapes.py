"""Shapes: records as programs read them: snake_case keys, times as RFC 3339, ids as strings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from handshake.kernel.moment import rfc3339
from handshake.kernel.units import dollars

if TYPE_CHECKING:
    from handshake.kernel.budget import Account, BudgetKey, BudgetType
    from handshake.kernel.debug_scope import DebugScope
    from handshake.kernel.desk import DeskItem
    from handshake.kernel.grant import Grant
    from handshake.kernel.job import Job
    from handshake.kernel.session import Session
    from handshake.operations.audit import EventView
    from handshake.operations.grants import GrantView
    from handshake.operations.views import JobArtifact, MessageView, QueueItem, QueueView, WorkspaceView
    from handshake.operations.write_scopes import Held
    from handshake.workspace import Result

Shape = dict[str, object]

_US_PER_MS = 1_000


def session(one: Session) -> Shape:
    """Return a session."""
    return {
        "session_id": one.session_id,
        "state": one.state,
        "role": one.role,
        "lane": one.lane,
        "model": f"{one.provider_id}/{one.model_id}",
        "provider_id": one.provider_id,
        "model_id": one.model_id,
        "backend": one.backend,
        "memory_policy": one.memory_policy,
        "execution_mode": one.execution_mode,
        "title": one.title,
        "wp_id": one.wp_id,
        "mt_id": one.mt_id,
        "parent_session_id": one.parent_session_id,
        "root_session_id": one.root_session_id,
        "spawn_depth": one.spawn_depth,
        "paused": one.paused,
        "messages": one.next_seq - 1,
        "turns": one.next_turn_seq - 1,
        "thread_bytes": one.thread_bytes,
        "total_tokens": one.total_tokens,
        "settled_tokens": one.settled_tokens,
        "cost_usd": dollars(one.settled_cost_usd_micro),
        "last_error": one.last_error,
        "last_checkpoint": checkpoint(one),
        "created_at": rfc3339(one.created_at_us),
        "updated_at": rfc3339(one.updated_at_us),
        "ended_at": moment(one.ended_at_us),
    }


def debug_scope(one: DebugScope) -> Shape:
    """Return a debug relaxation."""
    return {
        "session_id": one.session_id,
        "relaxation": one.relaxation,
        "expires_at": rfc3339(one.expires_at_us),
        "opened_by": one.opened_by,
    }


def write_scopes(held: Held) -> Shape:
    """Return what a session holds of the workspace and whom it waits for; nothing for one that never wrote."""
    found: Shape = {"write_scopes": list(held.scopes)} if held.scopes else {}
    return {**found, "waits_for_session_id": held.waits_for} if held.waits_for else found


def authority(grants: list[Grant]) -> Shape:
    """Return what a session holds and may pass on, and the approvals that gave it."""
    return {
        "capability_grants": sorted({str(one.capability) for one in grants if one.held}),
        "delegable_grants": sorted({str(one.capability) for one in grants if one.delegable}),
        "capability_token_ids": sorted({one.approval_id for one in grants}),
    }


def grant(one: GrantView) -> Shape:
    """Return a grant with the approval that it rests on."""
    import msgspec

    held = one.grant
    return {
        "grant_id": held.grant_id,
        "approval_id": held.approval_id,
        "session_id": held.session_id,
        "role": one.role,
        "capability": str(held.capability),
        "use": held.use,
        "held": held.held,
        "delegable": held.delegable,
        "constraints": msgspec.to_builtins(held.constraints),
        "lifetime": held.lifetime,
        "turn_id": held.turn_id,
        "wp_id": held.wp_id,
        "settles_ask": held.settles_ask,
        "uses": held.uses,
        "bytes": held.bytes,
        "amount": held.amount,
        "kind": one.kind,
        "user_id": one.user_id,
        "granted_at": rfc3339(one.granted_at_us),
        "expires_at": moment(held.constraints.expires_at_us),
        "revoked_at": moment(one.revoked_at_us),
    }


def checkpoint(one: Session) -> Shape | None:
    """Return a session's last checkpoint, or None if it has none yet."""
    from handshake.kernel.session_checkpoint import checkpoint_id

    if one.checkpoint_at_us is None:
        return None
    return {
        "checkpoint_id": checkpoint_id(one.session_id, one.checkpoint_count),
        "message_seq": one.checkpoint_seq,
        "state": one.checkpoint_state,
        "trigger": one.checkpoint_trigger,
        "at": rfc3339(one.checkpoint_at_us),
    }


def message(one: MessageView) -> Shape:
    """Return a message with its text."""
    record = one.message
    source: Shape = {"source_session_id": one.source.session_id, "source_role": one.source.role} if one.source else {}
    return {
        "seq": record.seq,
        "message_id": record.message_id,
        "session_id": record.session_id,
        "turn_id": record.turn_id,
        "job_id": record.job_id,
        "role": record.role,
        "text": one.text,
        "content_hash": record.content_hash,
        "content_artifact_id": record.content_artifact_id,
        "content_bytes": record.content_bytes,
        "token_count": record.token_count,
        "source_kind": record.source_kind,
        "trusted": record.trusted,
        **source,
        "redacted": record.redacted,
        "timestamp": rfc3339(record.timestamp_us),
    }


def job(one: Job) -> Shape:
    """Return a job."""
    return {
        "job_id": one.job_id,
        "enqueue_seq": one.enqueue_seq,
        "job_kind": one.job_kind,
        "session_id": one.session_id,
        "turn_id": one.turn_id,
        "trace_id": one.trace_id,
        "wp_id": one.wp_id,
        "mt_id": one.mt_id,
        "state": one.state,
        "reason": one.reason,
        "error_code": one.error_code,
        "error_summary": one.error_summary,
        "model": f"{one.provider_id}/{one.model_id}",
        "backend": one.backend,
        "lane": one.lane,
        "priority": one.priority,
        "concurrency_group": one.concurrency_group,
        "attempt": one.attempt,
        "failures": one.failures,
        "recoveries": one.recoveries,
        "max_retries": one.max_retries,
        "retry_backoff": one.retry_backoff,
        "timeout_ms": one.timeout_ms,
        "max_output_tokens": one.max_output_tokens,
        "idempotency_key": one.idempotency_key,
        "prompt_hash": one.prompt_hash,
        "answer_message_id": one.answer_message_id,
        "usage": usage(one.prompt_tokens, one.completion_tokens, one.total_tokens),
        "estimated_tokens": one.estimated_tokens,
        "estimated_cost_usd": dollars(one.estimated_cost_usd_micro),
        "reserved_cost_usd": dollars(one.reserved_cost_usd_micro),
        "settled_tokens": one.settled_tokens,
        "cost_usd": dollars(one.settled_cost_usd_micro),
        "settled_is_estimate": one.settled_is_estimate,
        "created_at": rfc3339(one.created_at_us),
        "not_before": moment(one.not_before_us or None),
        "started_at": moment(one.started_at_us),
        "ended_at": moment(one.ended_at_us),
    }


def artifact(one: JobArtifact) -> Shape:
    """Return an artifact that an attempt left."""
    return {"attempt": one.attempt, "kind": one.kind, "artifact_id": one.artifact_id}


def result(one: Result) -> Shape:
    """Return how a turn ended."""
    counted = one.usage
    return {
        "job_id": one.job_id,
        "session_id": one.session_id,
        "state": one.state,
        "text": one.text,
        "usage": None
        if counted is None
        else usage(counted.prompt_tokens, counted.completion_tokens, counted.total_tokens),
        "settled_tokens": one.settled_tokens,
        "cost_usd": dollars(one.cost_usd_micro),
        "settled_is_estimate": one.is_estimate,
        "attempts": one.attempts,
        "error_code": one.error_code,
        "reason": one.reason,
    }


def usage(prompt_tokens: int | None, completion_tokens: int | None, total_tokens: int | None) -> Shape:
    """Return token figures; one that the provider did not report is null."""
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total_tokens}


def queue_item(one: QueueItem) -> Shape:
    """Return a waiting run and why it waits."""
    return {
        "enqueue_seq": one.enqueue_seq,
        "job_id": one.job_id,
        "session_id": one.session_id,
        "lane": one.lane,
        "priority": one.priority,
        "model": f"{one.provider_id}/{one.model_id}",
        "attempt": one.attempt,
        "waited_ms": one.waited_us // _US_PER_MS,
        "wait_reason": one.wait_reason,
        "sentence": one.sentence,
        "until": moment(one.until_us),
    }


def queue(one: QueueView) -> Shape:
    """Return the queue."""
    return {
        "queued": one.queued,
        "running": one.running,
        "desk": one.desk,
        "items": [queue_item(item) for item in one.items],
    }


def desk_item(one: DeskItem) -> Shape:
    """Return what waits for a person, with the hash to which an approval is bound."""
    from handshake.kernel.desk import SENTENCES, shown_sha256

    return {
        "item_seq": one.item_seq,
        "item_id": one.item_id,
        "kind": one.kind,
        "state": one.state,
        "sentence": SENTENCES[one.kind],
        "reason": one.reason,
        "session_id": one.session_id,
        "job_id": one.job_id,
        "attempts": one.attempts,
        "model": None if one.model_id is None else f"{one.provider_id}/{one.model_id}",
        "backend": one.backend,
        "request_sha256": one.request_sha256,
        "tool": None if one.tool_id is None else f"{one.tool_id} {one.tool_version}",
        "call_sha256": one.call_sha256,
        "args_sha256": one.args_sha256,
        "unvouched": None if one.findings is None else json.loads(one.findings),
        "tainted_by": None if one.tainted_by is None else json.loads(one.tainted_by),
        "created_at": rfc3339(one.created_at_us),
        "expires_at": rfc3339(one.expires_at_us),
        "decided_at": moment(one.decided_at_us),
        "decided_by": one.decided_by,
        "sha256": shown_sha256(one),
    }


def event(one: EventView) -> Shape:
    """Return an event as it stands in the log, with its leaf hash."""
    return {**one.event, "hash": one.hash}


def workspace(one: WorkspaceView) -> Shape:
    """Return a workspace in numbers."""
    return {
        "workspace_id": one.workspace_id,
        "created_at": rfc3339(one.created_at_us),
        "runtime_epoch": one.runtime_epoch,
        "sessions": {state.lower(): count for state, count in one.sessions.items()},
        "jobs": one.jobs,
        "events": one.events,
        "desk": one.desk,
        "budgets": budgets(one.budgets),
    }


def budgets(accounts: Mapping[BudgetKey, Account]) -> list[Shape]:
    """Return budgets with what is spent and reserved under them; USD are decimal text."""
    return [
        {
            "scope": key.scope,
            "name": key.name or None,
            "type": key.kind.removesuffix("_micro"),
            "limit": _amount(key.kind, account.limit),
            "spent": _amount(key.kind, account.spent),
            "reserved": _amount(key.kind, account.reserved),
        }
        for key, account in accounts.items()
    ]


def with_budget_lines(shape: Shape) -> Shape:
    """Return a record for people, with a line for each of its budgets."""
    found: Any = shape["budgets"]
    lines = {
        f"budget of {one['name'] or one['scope']}, {one['type']}": (
            f"{one['spent']} spent and {one['reserved']} reserved of {one['limit']}"
        )
        for one in found
    }
    return {**{name: value for name, value in shape.items() if name != "budgets"}, **lines}


def _amount(kind: BudgetType, amount: int) -> object:
    return dollars(amount) if kind == "usd_micro" else amount


def moment(moment_us: int | None) -> str | None:
    """Return a moment as RFC 3339, or None if there was none."""
    return None if moment_us is None else rfc3339(moment_us)
