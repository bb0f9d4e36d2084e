"""Views: what people and programs read of a workspace; each function is one query over one consistent state."""

from __future__ import annotations

from typing import Any

import msgspec

from handshake.kernel.admission import Admission
from handshake.kernel.budget import Account, BudgetKey, BudgetScope
from handshake.kernel.errors import InvalidRequest
from handshake.kernel.ids import ArtifactId, JobId, SessionId
from handshake.kernel.job import Job, JobState
from handshake.kernel.lane import Lane
from handshake.kernel.limit import Limits, SlotKey, Usage
from handshake.kernel.message import Message, SourceKind
from handshake.kernel.session import Ending, Facts, Session, SessionState
from handshake.kernel.settings import DEFAULT_PAGE_ITEMS, MAX_PAGE_ITEMS
from handshake.kernel.waiting import SENTENCES, WaitFacts, WaitReason, why
from handshake.operations import order, records
from handshake.operations.provenance import Source, source_of
from handshake.ports.store import Reader

MAX_NUMBER = 2**63
"""Numbers of records are below it: they are 64-bit integers of the store."""


class MessageView(msgspec.Struct, frozen=True):
    """A message with its text, which is read from its artifact and checked against its hash."""

    message: Message
    text: str
    source: Source | None = None
    """The session that it came from."""


class QueueItem(msgspec.Struct, frozen=True):
    """A waiting run and why it waits; times in microseconds. Pages continue after `enqueue_seq`."""

    enqueue_seq: int
    job_id: str
    session_id: str
    lane: Lane
    priority: int
    provider_id: str
    model_id: str
    attempt: int
    waited_us: int
    wait_reason: WaitReason
    sentence: str
    until_us: int | None
    """When the reason is over at the earliest, in microseconds since 1970; None if nobody knows."""


class QueueView(msgspec.Struct, frozen=True):
    """The queue at one moment: how many wait and run, and the first of those that wait in order of acceptance."""

    queued: int
    running: int
    items: list[QueueItem]
    desk: int
    """How many lost runs wait for a person."""


class WorkspaceView(msgspec.Struct, frozen=True):
    """A workspace in numbers."""

    workspace_id: str
    created_at_us: int
    runtime_epoch: int
    sessions: dict[str, int]
    jobs: dict[str, int]
    events: int
    desk: int
    """How many items wait for a person."""
    budgets: dict[BudgetKey, Account]
    """Of the workspace and its work packets."""


class JobArtifact(msgspec.Struct, frozen=True):
    """An artifact that an attempt left."""

    attempt: int
    kind: str
    artifact_id: ArtifactId


def page_limit(limit: int | None) -> int:
    """Return how many items a page holds.

    Raises:
        InvalidRequest: not between 1 and `MAX_PAGE_ITEMS`.
    """
    if limit is None:
        return DEFAULT_PAGE_ITEMS
    if not 1 <= limit <= MAX_PAGE_ITEMS:
        raise InvalidRequest(field="limit", reason="out_of_range", low=1, high=MAX_PAGE_ITEMS)
    return limit


def page_start(after: int) -> int:
    """Return the number after which a page begins.

    Raises:
        InvalidRequest: no record can have this number.
    """
    if not 0 <= after < MAX_NUMBER:
        raise InvalidRequest(field="after", reason="out_of_range", low=0, high=MAX_NUMBER - 1)
    return after


def sessions(
    reader: Reader,
    *,
    after: str = "",
    limit: int | None = None,
    state: SessionState | None = None,
    role: str | None = None,
    wp_id: str | None = None,
) -> list[Session]:
    """Return sessions in order of creation, after the session id `after`; an empty one begins at the first.

    Raises:
        InvalidRequest: `after` cannot be an id, or the limit is out of range.
    """
    if not after.isascii():
        raise InvalidRequest(field="after", reason="not_an_id")
    rows = reader.rows(
        "session_page", {"after": after, "limit": page_limit(limit), "state": state, "role": role, "wp_id": wp_id}
    )
    return [records.record(Session, row) for row in rows]


def messages(reader: Reader, session_id: SessionId, *, after: int = 0, limit: int | None = None) -> list[MessageView]:
    """Return a session's thread with texts, after the number `after`.

    Raises:
        NotFound: no such session.
        IntegrityBroken: a stored text does not have its hash.
    """
    records.session(reader, session_id)
    rows = reader.rows(
        "message_page", {"session_id": session_id, "after": page_start(after), "limit": page_limit(limit)}
    )
    found = [records.record(Message, row) for row in rows]
    return [
        MessageView(
            one,
            text_of(reader, one.content_artifact_id),
            source_of(reader, one.message_id) if one.source_kind is SourceKind.SESSION else None,
        )
        for one in found
    ]


def text_of(reader: Reader, artifact_id: ArtifactId) -> str:
    """Return an artifact as text; bytes that are none are shown as replacement characters."""
    data = reader.artifact(artifact_id)
    return "" if data is None else data.decode("utf-8", errors="replace")


def jobs(
    reader: Reader,
    *,
    after: int = 0,
    limit: int | None = None,
    session_id: SessionId | None = None,
    state: JobState | None = None,
) -> list[Job]:
    """Return jobs, ended ones too, in order of acceptance, after the acceptance number `after`.

    Source:
        scheduler.jobs.history_visible.
    """
    rows = reader.rows(
        "job_page", {"after": page_start(after), "limit": page_limit(limit), "session_id": session_id, "state": state}
    )
    return [records.record(Job, row) for row in rows]


def job_artifacts(reader: Reader, job_id: JobId) -> list[JobArtifact]:
    """Return what the attempts of a job left besides its answer.

    Raises:
        NotFound: no such job.
    """
    records.job(reader, job_id)
    rows: list[Any] = reader.rows("job_artifact_page", {"job_id": job_id, "limit": MAX_PAGE_ITEMS})
    return [JobArtifact(attempt, kind, ArtifactId(artifact_id)) for attempt, kind, artifact_id, _ in rows]


def queue(
    reader: Reader,
    limits: Limits,
    *,
    dispatching: bool,
    now_us: int,
    has_room: bool = True,
    after: int = 0,
    limit: int | None = None,
) -> QueueView:
    """Return the queue with the reason why each run waits.

    Source:
        scheduler.queue.shows_reason.
    """
    usage, admission = _usage(reader), _admission(reader, limits)
    rows = reader.rows("job_queue_page", {"after": page_start(after), "limit": page_limit(limit)})
    items = []
    for row in rows:
        run = records.queued_run(row)
        facts = WaitFacts(
            _facts(reader, run.session_id),
            _head(reader, run.session_id) == run.job_id,
            run.not_before_us,
            run.lane,
            run.slots,
            run.bill,
        )
        wait = why(
            facts,
            usage=usage,
            limits=limits,
            admission=admission,
            dispatching=dispatching,
            now_us=now_us,
            has_room=has_room,
        )
        items.append(
            QueueItem(
                run.enqueue_seq,
                run.job_id,
                run.session_id,
                run.lane,
                run.priority,
                run.key.provider_id,
                run.key.model_id,
                run.attempt,
                max(0, now_us - run.created_at_us),
                wait.reason,
                SENTENCES[wait.reason],
                wait.until_us,
            )
        )
    count = reader.row("job_queued_count")
    desk: Any = reader.row("desk_waiting_count")
    return QueueView(int(count[0] or 0) if count else 0, usage.total, items, desk[0])


def budgets_of(reader: Reader, one: Session) -> dict[BudgetKey, Account]:
    """Return the limits that bind a session, its own first, with what is spent and reserved under them."""
    configured = records.accounts(reader.rows("budgets_configured"))
    binding = {(BudgetScope.WORK_PACKET, one.wp_id), (BudgetScope.WORKSPACE, "")}
    shared = {key: account for key, account in configured.items() if key[:2] in binding}
    return {**records.session_budget(reader, one.session_id), **shared}


def workspace(reader: Reader) -> WorkspaceView:
    """Return a workspace in numbers."""
    row: Any = reader.row("workspace_get")
    log: Any = reader.row("log_state")
    by_session: list[Any] = reader.rows("session_by_state_count")
    by_job: list[Any] = reader.rows("job_by_state_count")
    desk: Any = reader.row("desk_waiting_count")
    budgets = records.accounts(reader.rows("budgets_configured"))
    return WorkspaceView(row[0], row[1], row[2], dict(by_session), dict(by_job), log[0], desk[0], budgets)


def _usage(reader: Reader) -> Usage:
    usage = Usage()
    for _, _, lane, provider_id, model_id, group, _, state, holds in reader.rows("job_in_progress"):
        key = records.slot_key(provider_id, model_id, group)
        if state == JobState.RUNNING:
            usage.take_run(records.lane(lane))
        if holds:
            usage.take_connection(SlotKey(*key))
    for row in reader.rows("connections_open"):
        usage.take_connection(records.slot_key(*row))
    return usage


def _admission(reader: Reader, limits: Limits) -> Admission:
    """Return rates and budgets as the rows have them; their times are those of the wall."""
    admission = Admission(limits.rates)
    for provider_id, gate in order.wall_gates(reader).items():
        admission.rates.restore(provider_id, gate)
    for name in ("budgets_configured", "budgets_of_open_work"):
        admission.ledger.load(records.accounts(reader.rows(name)).items())
    return admission


def _facts(reader: Reader, session_id: SessionId) -> Facts:
    row: Any = reader.row("session_facts", {"session_id": session_id})
    ending, running, waiting, blockers, paused, dispatched, _, _ = row
    return Facts(Ending(ending), running, waiting, blockers, bool(paused), bool(dispatched))


def _head(reader: Reader, session_id: SessionId) -> str | None:
    row = reader.row("job_head_of_session", {"session_id": session_id})
    return None if row is None else str(row[0])
