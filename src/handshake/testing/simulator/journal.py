"""Journal: sessions and jobs as the log alone tells them, event by event; what the rows are compared with."""

from __future__ import annotations

from typing import Any

import msgspec

from handshake.kernel.job import TERMINAL, TRANSITIONS, WAITING, JobState
from handshake.kernel.lane import Lane
from handshake.kernel.limit import SlotKey
from handshake.kernel.session import SessionState
from handshake.testing.simulator.violation import Violation, require

_CONTENT_FILTER = "content_filter"
_ASKS_A_PERSON = "tool_approval"
_HANDED_BACK = "handed_back"
_PASSING = frozenset("connect reset incomplete timeout_first_byte timeout_idle timeout_total".split())
_PASSING_STATUS = frozenset({408, 409, 429})


class ToldEvent(msgspec.Struct, frozen=True, gc=False):
    """One event of the log."""

    seq: int
    type: str
    session_id: str | None
    job_id: str | None
    payload: dict[str, Any]


class ToldJob(msgspec.Struct, gc=False):
    """A job: what is fixed comes from its row when it is accepted, what moves from events."""

    job_id: str
    session_id: str
    enqueue_seq: int
    turn_seq: int
    lane: Lane
    priority: int
    key: SlotKey
    tree: str
    max_retries: int
    timeout_ms: int
    wp_id: str | None
    estimated_tokens: int
    state: JobState = JobState.QUEUED
    attempt: int = 0
    not_before_us: int = 0
    """End of a backoff, on the monotonic clock."""
    ready_since: int = -1
    """Dispatches of its bin when it became ready; -1 while it is not."""
    holds_slot: bool = False
    failing: bool = False
    """Whether the last event told of a failure, of which the row says what came of it."""
    handed_on: bool = False
    """Whether a client saw a piece of the answer of the present attempt."""
    messages: int = 0
    retries: int = 0
    """Attempts that failed for a passing reason."""
    at_tools: bool = False
    """Whether its model has answered and asked for tools: it calls its provider no more."""

    @property
    def slots(self) -> SlotKey | None:
        """What it needs besides a place among all runs."""
        return None if self.at_tools else self.key


class ToldSession(msgspec.Struct, gc=False):
    """A session; `queued` are its jobs in their order."""

    session_id: str
    lane: Lane
    state: SessionState = SessionState.CREATED
    queued: dict[str, int] = {}
    running: str | None = None
    waiting: int = 0
    paused: bool = False
    blockers: int = 0
    ended: bool = False
    messages: int = 0

    @property
    def head(self) -> str | None:
        """The job that goes next."""
        return min(self.queued, key=self.queued.__getitem__) if self.queued else None

    @property
    def offers(self) -> bool:
        """Whether its head may start, as far as the session is concerned."""
        return not (self.ended or self.paused or self.blockers or self.waiting or self.running)


class Journal:
    """All sessions and jobs, by the log."""

    def __init__(self) -> None:
        self.sessions: dict[str, ToldSession] = {}
        self.jobs: dict[str, ToldJob] = {}
        self.open_jobs = 0
        """Jobs that have not ended."""
        self.running = 0
        """Jobs that are running."""
        self.running_primary = 0

    def created(self, session_id: str, lane: Lane) -> ToldSession:
        """Take note of a new session."""
        require(session_id not in self.sessions, "session.create.existing_id_is_refused", "created twice", session_id)
        session = self.sessions[session_id] = ToldSession(session_id, lane)
        return session

    def enqueued(self, job: ToldJob) -> None:
        """Take note of a new job."""
        require(job.job_id not in self.jobs, "scheduler.events.on_every_step", "enqueued twice", job.job_id)
        self.jobs[job.job_id] = job
        self.sessions[job.session_id].queued[job.job_id] = job.turn_seq
        self.open_jobs += 1

    def tell(self, event: ToldEvent) -> None:
        """Take note of an event that moves a job or a session which is known.

        Raises:
            Violation: the event tells of a move that there is not.
        """
        act = _MOVES.get(event.type)
        if act is not None:
            act(self, event)
        self._session_state(event)

    def move(self, job_id: str, after: JobState) -> None:
        """Move a job."""
        job = self.job(job_id)
        before = job.state
        allowed = after in TRANSITIONS[before]
        if not allowed:
            known = "session.state.terminal_is_sticky" if before in TERMINAL else "scheduler.job.transitions_closed"
            raise Violation(known, f"a job moved from {before.value} to {after.value}", job_id)
        session = self.sessions[job.session_id]
        self._leave(session, job, before)
        job.state = after
        self._arrive(session, job, after)

    def job(self, job_id: str | None) -> ToldJob:
        """Return a job that the log has told of."""
        job = self.jobs.get(job_id or "")
        if job is None:
            raise Violation("scheduler.events.on_every_step", "an event is about a job that was not enqueued", job_id)
        return job

    def running_of_turn(self, first: ToldJob) -> ToldJob:
        """Return the run of a turn that is running, or else the run that the turn began with."""
        running = self.jobs.get(self.sessions[first.session_id].running or "")
        return running if running is not None and running.turn_seq == first.turn_seq else first

    def _leave(self, session: ToldSession, job: ToldJob, before: JobState) -> None:
        if before is JobState.QUEUED:
            session.queued.pop(job.job_id, None)
            job.ready_since = -1
        elif before is JobState.RUNNING:
            session.running = None
            self.running -= 1
            self.running_primary -= job.lane is Lane.PRIMARY
        elif before in WAITING:
            session.waiting -= 1

    def _arrive(self, session: ToldSession, job: ToldJob, after: JobState) -> None:
        if after is JobState.QUEUED:
            session.queued[job.job_id] = job.turn_seq
        elif after is JobState.RUNNING:
            require(session.running is None, "session.state.active_iff_one_running", "two runs at once", job.job_id)
            session.running = job.job_id
            self.running += 1
            self.running_primary += job.lane is Lane.PRIMARY
        elif after in WAITING:
            session.waiting += 1
        elif after in TERMINAL:
            self.open_jobs -= 1

    def _session_state(self, event: ToldEvent) -> None:
        session = self.sessions.get(event.session_id or "")
        if session is None:
            return
        if event.type == "session.state_change":
            before = event.payload["from_state"]
            require(
                session.state == before, "session.state.is_derived", f"left {before}, was {session.state}", event.seq
            )
            session.state = SessionState(event.payload["to_state"])
        elif event.payload.get("session_state_after") is not None:
            session.state = SessionState(event.payload["session_state_after"])
        elif event.type == "session.completed":
            session.ended = True


def _dispatched(journal: Journal, event: ToldEvent) -> None:
    job = journal.job(event.job_id)
    attempt = int(event.payload["attempt"])
    require(attempt == job.attempt + 1, "scheduler.events.on_every_step", "an attempt is missing", job.job_id)
    journal.move(job.job_id, JobState.RUNNING)
    job.attempt = attempt


def _inferred(journal: Journal, event: ToldEvent) -> None:
    job = journal.job(event.job_id)
    require(
        event.payload["attempt"] == job.attempt,
        "recovery.lease.late_result_is_fenced",
        "of another attempt",
        job.job_id,
    )
    if event.payload.get("error_code"):
        job.failing = True
        return
    if event.payload.get("session_state_after") == SessionState.ACTIVE:  # it goes on at its tools
        job.at_tools = True
        return
    filtered = event.payload.get("finish_reason") == _CONTENT_FILTER
    journal.move(job.job_id, JobState.COMPLETED_WITH_ISSUES if filtered else JobState.COMPLETED)


def _retried(journal: Journal, event: ToldEvent) -> None:
    job = journal.job(event.job_id)
    fault, status = event.payload["fault"], event.payload.get("status") or 0
    if fault != "stopped":
        job.retries += 1
        known = "scheduler.retry.transient_only"
        passing = fault in _PASSING or (fault == "status" and (status in _PASSING_STATUS or status // 100 == 5))
        require(passing, known, f"tried again after {fault} {status}", job.job_id)
        require(job.retries <= job.max_retries, known, f"tried again {job.retries} times", job.job_id)
        handed_on = job.handed_on
        require(not handed_on, "scheduler.retry.not_after_bytes", "tried again after text was handed on", job.job_id)
    job.failing = job.handed_on = False
    journal.move(job.job_id, JobState.QUEUED)


def _cancelled(journal: Journal, event: ToldEvent) -> None:
    journal.move(journal.job(event.job_id).job_id, JobState.CANCELLED)


def _recovered(journal: Journal, event: ToldEvent) -> None:
    job = journal.job(event.job_id)
    before = event.payload["from_state"]
    require(job.state == before, "recovery.start.stalls_orphans", f"left {before}, was {job.state}", job.job_id)
    journal.move(job.job_id, JobState(event.payload["to_state"]))


def _ended(journal: Journal, event: ToldEvent) -> None:
    job, after = journal.job(event.job_id), JobState(event.payload["state"])
    if job.state is not after:  # a recovery tells the move, and then the end
        journal.move(job.job_id, after)


def _session_moved(journal: Journal, event: ToldEvent) -> None:
    """Move a run that no event of its own tells of: it waits for a person, was answered, or was handed back."""
    job = journal.jobs.get(event.job_id or "")
    if job is None or not job.at_tools:
        return
    reason = event.payload["reason"]
    if job.state is JobState.RUNNING and reason == _ASKS_A_PERSON:
        journal.move(job.job_id, JobState.AWAITING_USER)
    elif job.state is JobState.AWAITING_USER or (job.state is JobState.RUNNING and reason == _HANDED_BACK):
        journal.move(job.job_id, JobState.QUEUED)


def _said(journal: Journal, event: ToldEvent) -> None:
    journal.sessions[event.payload["session_id"]].messages += 1
    if event.job_id is not None and event.job_id in journal.jobs:
        journal.jobs[event.job_id].messages += 1


_MOVES = {
    "session_scheduler.dispatch": _dispatched,
    "session_scheduler.retry": _retried,
    "session_scheduler.cancelled": _cancelled,
    "session_scheduler.ended": _ended,
    "llm_inference": _inferred,
    "workflow_recovery": _recovered,
    "session.message": _said,
    "session.state_change": _session_moved,
}
