"""Runs: accept a turn, start its run, and record what came of it; each function is one unit of work.

The two commits of a plain run are `accept` (with `start`, when a slot is free) and `finish`.
Units touch the queue last, so that one that fails leaves it as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from handshake.kernel.budget import FREE, Amounts, BudgetScope, Price, expect
from handshake.kernel.catalogue import SchedulerDispatch, SchedulerEnqueue, SessionMessage
from handshake.kernel.errors import (
    BudgetExceeded,
    ConsentRequired,
    Draining,
    IntegrityBroken,
    InvalidTransition,
    NotFound,
    RateLimited,
    StateConflict,
    SystemProvenance,
)
from handshake.kernel.event import Actor, Context
from handshake.kernel.ids import JobId, MessageId, SessionId, TurnId, is_uuid
from handshake.kernel.job import Backend, JobKind, JobState
from handshake.kernel.lane import Lane
from handshake.kernel.limit import SlotKey
from handshake.kernel.message import MessageRole, SourceKind, require_hash
from handshake.kernel.provenance import Provenance
from handshake.kernel.queue import RunQueue
from handshake.kernel.queued_run import QueuedRun
from handshake.kernel.retry import Backoff
from handshake.kernel.session import Ending, Facts, SessionState, derive
from handshake.kernel.session_checkpoint import EVERY_MESSAGES, Trigger
from handshake.kernel.settings import (
    ASSUMED_OUTPUT_TOKENS,
    MAX_OPEN_TURNS_PER_SESSION,
    MAX_QUEUED_RUNS,
    ModelSettings,
)
from handshake.kernel.units import US_PER_MS
from handshake.operations import checkpointing, provenance, records
from handshake.ports.store import Content, Tx

STARTED = derive(Facts(Ending.OPEN, running=1, waiting=0, blockers=0, paused=False, dispatched=True))
"""The state of a session whose run has just started; `session_started` checks the other facts."""


class Turn(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One input to a session, with the ids that its records will have."""

    session_id: SessionId
    turn_id: TurnId
    message_id: MessageId
    job_id: JobId
    trace_id: str
    content: Content
    actor: Actor
    source_kind: SourceKind
    trusted: bool
    priority: int
    lane: Lane | None
    max_retries: int
    retry_backoff: Backoff
    timeout_ms: int
    max_output_tokens: int | None
    idempotency_key: str | None
    request_sha256: str
    content_hash: str | None = None
    """What the sender says is the SHA-256 of the content."""
    source_session_id: SessionId | None = None
    """The session whose words these are, and its role."""
    source_role: str | None = None


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The job that a turn became; `repeated` if the idempotency key was known."""

    job_id: JobId
    turn_id: TurnId
    repeated: bool


KnownModels = Mapping[tuple[str, str], ModelSettings]
"""What the configuration knows of models, by provider and model."""


class _Owner(msgspec.Struct, frozen=True, gc=False):
    """The row of a session as `accept` needs it."""

    ending: str
    state: str
    next_seq: int
    next_turn_seq: int
    model_id: str
    provider_id: str
    backend: str
    lane: str
    root_session_id: str
    wp_id: str | None
    mt_id: str | None
    thread_bytes: int
    budgeted: int
    checkpoint_count: int
    checkpoint_seq: int
    last_job_seq: int | None

    @property
    def checkpoint_due(self) -> Trigger | None:
        """Why a checkpoint is due with the next message, if it is."""
        return Trigger.MESSAGES if self.next_seq - self.checkpoint_seq >= EVERY_MESSAGES else None


def accept(tx: Tx, queue: RunQueue, turn: Turn, models: KnownModels) -> Accepted:
    """Add a turn's message and queue its run.

    Raises:
        InvalidRequest: the content has another hash than its sender says.
        NotFound: no such session.
        InvalidTransition: the session has ended.
        StateConflict: the idempotency key is known with another request.
        BudgetExceeded: the session's model is a cloud model whose price nobody knows.
        ConsentRequired: it is a cloud model; consent comes with part 5 of the product.
        Draining: the runtime stops; turns that it knows already are still found by their keys.
        RateLimited: too many turns wait already.

    Source:
        message.append.is_atomic, scheduler.idempotency.same_key_same_job (01 §3–5).
    """
    require_hash(turn.content_hash, turn.content.artifact_id)
    row: Any = tx.row("session_accept_facts", {"session_id": turn.session_id}) if is_uuid(turn.session_id) else None
    if row is None:
        raise NotFound(kind="session", session_id=turn.session_id)
    owner = _Owner(*row)
    if turn.idempotency_key is not None:
        known = _repeated(tx, turn)
        if known is not None:
            return known
    model = models.get((owner.provider_id, owner.model_id))
    _require_acceptable(queue, turn, owner, model)
    group = model.group if model else None
    lane = turn.lane or Lane(owner.lane)
    context = Context(
        actor=turn.actor,
        job_id=turn.job_id,
        model_id=owner.model_id,
        model_session_id=turn.session_id,
        mt_id=owner.mt_id,
        trace_id=turn.trace_id,
        wp_id=owner.wp_id,
    )
    append_message(
        tx,
        context,
        turn.content,
        message_id=turn.message_id,
        seq=owner.next_seq,
        turn_id=turn.turn_id,
        turn_seq=owner.next_turn_seq,
        role=MessageRole.USER,
        source_kind=turn.source_kind,
        trusted=turn.trusted,
        token_count=None,
    )
    if turn.source_session_id is not None or not turn.trusted:
        _keep_source(tx, context, turn)
    max_output_tokens = turn.max_output_tokens or (model.max_output_tokens if model else None)
    expected = expect(
        owner.thread_bytes + turn.content.size_bytes,
        max_output_tokens or ASSUMED_OUTPUT_TOKENS,
        (price_of(model) if model else None) or FREE,
    )
    enqueue_seq = _insert_job(tx, turn, owner, lane, group, max_output_tokens, expected)
    event = SchedulerEnqueue(
        concurrency_group=group,
        job_id=turn.job_id,
        lane=lane,
        priority=turn.priority,
        session_id=turn.session_id,
    )
    tx.append(event, context)
    checkpointing.tell(tx, context, owner.checkpoint_count, owner.checkpoint_due)
    ledger = queue.admission.ledger
    if owner.budgeted and not ledger.knows(BudgetScope.SESSION, turn.session_id):
        ledger.load(records.session_budget(tx, turn.session_id).items())
    queue.add(_queued(tx, turn, owner, lane, group, enqueue_seq, expected))
    return Accepted(turn.job_id, turn.turn_id, False)


def _keep_source(tx: Tx, context: Context, turn: Turn) -> None:
    source = Provenance(
        role=MessageRole.USER,
        source_kind=turn.source_kind,
        trusted=turn.trusted,
        source_session_id=turn.source_session_id,
        source_role=turn.source_role,
    )
    content_hash = turn.content.artifact_id
    provenance.keep(tx, context, source, message_id=turn.message_id, turn_id=turn.turn_id, content_hash=content_hash)


def price_of(model: ModelSettings) -> Price | None:
    """Return what a model costs, or None if not both of its prices are known."""
    if model.input_usd_micro_per_million is None or model.output_usd_micro_per_million is None:
        return None
    return Price(model.input_usd_micro_per_million, model.output_usd_micro_per_million)


def _queued(
    tx: Tx, turn: Turn, owner: _Owner, lane: Lane, group: str | None, enqueue_seq: int, expected: Amounts
) -> QueuedRun:
    return QueuedRun(
        job_id=turn.job_id,
        session_id=turn.session_id,
        enqueue_seq=enqueue_seq,
        turn_seq=owner.next_turn_seq,
        lane=lane,
        priority=turn.priority,
        key=SlotKey(owner.provider_id, owner.model_id, group),
        fairness_key=owner.root_session_id,
        attempt=0,
        created_at_us=tx.now_us,
        not_before_us=0,
        trace_id=turn.trace_id,
        wp_id=owner.wp_id,
        mt_id=owner.mt_id,
        estimated_tokens=expected.tokens,
        estimated_usd_micro=expected.usd_micro,
    )


def _repeated(tx: Tx, turn: Turn) -> Accepted | None:
    known = tx.row("job_by_key", {"session_id": turn.session_id, "key": turn.idempotency_key})
    if known is None:
        return None
    if known[1] != turn.request_sha256:
        raise StateConflict(reason="idempotency_key_reused", job_id=str(known[0]))
    return Accepted(JobId(str(known[0])), TurnId(str(known[2])), True)


def _require_acceptable(queue: RunQueue, turn: Turn, owner: _Owner, model: ModelSettings | None) -> None:
    if queue.draining:
        raise Draining(session_id=turn.session_id)
    if owner.ending != Ending.OPEN:
        raise InvalidTransition(session_id=turn.session_id, from_state=owner.state)
    if owner.backend != Backend.LOCAL:
        if model is None or price_of(model) is None:
            raise BudgetExceeded(
                hint="Set its input_usd_per_million and output_usd_per_million under [providers.NAME.models.MODEL].",
                session_id=turn.session_id,
                provider_id=owner.provider_id,
                model_id=owner.model_id,
                reason="unknown_price",
            )
        raise ConsentRequired(session_id=turn.session_id, provider_id=owner.provider_id, model_id=owner.model_id)
    if len(queue) >= MAX_QUEUED_RUNS or queue.waiting_in(turn.session_id) >= MAX_OPEN_TURNS_PER_SESSION:
        raise RateLimited(session_id=turn.session_id, reason="queue_full")


def _insert_job(
    tx: Tx,
    turn: Turn,
    owner: _Owner,
    lane: Lane,
    group: str | None,
    max_output_tokens: int | None,
    expected: Amounts,
) -> int:
    """Insert the job's row and count its message and turn in the session; return its place in the order."""
    enqueue_seq = tx.insert(
        "job_insert",
        {
            "job_id": turn.job_id,
            "job_kind": JobKind.MODEL_RUN,
            "session_id": turn.session_id,
            "turn_id": turn.turn_id,
            "turn_seq": owner.next_turn_seq,
            "trace_id": turn.trace_id,
            "wp_id": owner.wp_id,
            "mt_id": owner.mt_id,
            "state": JobState.QUEUED,
            "provider_id": owner.provider_id,
            "model_id": owner.model_id,
            "backend": owner.backend,
            "lane": lane,
            "priority": turn.priority,
            "concurrency_group": group,
            "fairness_key": owner.root_session_id,
            "max_retries": turn.max_retries,
            "retry_backoff": turn.retry_backoff,
            "timeout_ms": turn.timeout_ms,
            "max_output_tokens": max_output_tokens,
            "idempotency_key": turn.idempotency_key,
            "request_sha256": turn.request_sha256,
            "created_at_us": tx.now_us,
            "estimated_tokens": expected.tokens,
            "estimated_cost_usd_micro": expected.usd_micro,
            "before_seq": owner.last_job_seq,
        },
    )
    trigger = owner.checkpoint_due
    counted = tx.run(
        "session_accepted" if trigger is None else "session_accepted_marked",
        {
            "next_seq": owner.next_seq + 1,
            "next_turn_seq": owner.next_turn_seq + 1,
            "bytes": turn.content.size_bytes,
            "now_us": tx.now_us,
            "session_id": turn.session_id,
            "enqueue_seq": enqueue_seq,
            "trigger": trigger,
        },
    )
    require_one(counted, turn.session_id)
    return enqueue_seq


def append_message(
    tx: Tx,
    context: Context,
    content: Content,
    *,
    message_id: str,
    seq: int,
    turn_id: str,
    turn_seq: int,
    role: MessageRole,
    source_kind: SourceKind,
    trusted: bool,
    token_count: int | None,
) -> None:
    """Add a message, its artifact and its event: all of them or none.

    Raises:
        SystemProvenance: it speaks as SYSTEM and is not the runtime's; the door for such messages is `gate.inbound`.

    Source:
        message.append.is_atomic, message.content.only_in_artifacts (01 §3).
    """
    if role is MessageRole.SYSTEM and source_kind is not SourceKind.RUNTIME:
        raise SystemProvenance(source_kind=source_kind.value, content_hash=content.artifact_id)
    tx.put(content)
    tx.add(
        "message_insert",
        {
            "session_id": context.model_session_id,
            "seq": seq,
            "message_id": message_id,
            "turn_id": turn_id,
            "turn_seq": turn_seq,
            "job_id": context.job_id,
            "role": role,
            "content_hash": content.artifact_id,
            "content_artifact_id": content.artifact_id,
            "content_bytes": content.size_bytes,
            "timestamp_us": tx.now_us,
            "token_count": token_count,
            "redacted": 0,
            "source_kind": source_kind,
            "trusted": trusted,
        },
    )
    tx.append(
        SessionMessage(
            content_artifact_id=content.artifact_id,
            content_hash=content.artifact_id,
            message_id=message_id,
            role=role,
            session_id=context.model_session_id or "",
            source_kind=source_kind.value,
            token_count=token_count,
            trusted=trusted,
        ),
        context,
    )


def start(tx: Tx, chosen: Sequence[QueuedRun], *, epoch: int) -> None:
    """Reserve what the order chose: each run is running in its next attempt, and its session ACTIVE.

    Raises:
        IntegrityBroken: the rows say otherwise than the index; the batch fails and the index is read again.

    Source:
        session.state.active_iff_one_running, scheduler.events.on_every_step (01 §4–5).
    """
    now_us = tx.now_us
    started = tx.run_all(
        "job_started",
        [{"job_id": run.job_id, "attempt": run.attempt + 1, "now_us": now_us, "epoch": epoch} for run in chosen],
    )
    active = tx.run_all(
        "session_started",
        [{"session_id": run.session_id, "state": SessionState.ACTIVE, "now_us": now_us} for run in chosen],
    )
    if started != len(chosen) or active != len(chosen):
        raise IntegrityBroken(subject="queue", reason="index_differs")
    for run in chosen:
        _tell_start(tx, run)


def _tell_start(tx: Tx, run: QueuedRun) -> None:
    waited_us = max(0, tx.now_us - max(run.created_at_us, run.not_before_us))
    tx.append(
        SchedulerDispatch(
            attempt=run.attempt + 1,
            job_id=run.job_id,
            lane=run.lane,
            queue_wait_ms=waited_us // US_PER_MS,
            session_id=run.session_id,
            session_state_after=STARTED,
        ),
        Context(
            job_id=run.job_id,
            model_id=run.key.model_id,
            model_session_id=run.session_id,
            mt_id=run.mt_id,
            trace_id=run.trace_id,
            wp_id=run.wp_id,
        ),
    )


def require_one(changed: int, session_id: str) -> None:
    """Fail the unit if a conditional update found another prior state.

    Raises:
        StateConflict: the row was not as it was read.
    """
    if changed != 1:
        raise StateConflict(session_id=session_id, reason="state_moved")


def require_id(kind: str, text: str) -> str:
    """Return `text` if it is an id.

    Raises:
        NotFound: it cannot be the id of anything.
    """
    if not is_uuid(text):
        raise NotFound(kind=kind, id=text)
    return text
