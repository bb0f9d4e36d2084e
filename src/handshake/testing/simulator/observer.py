"""Observer: looks at every commit: the new events, the rows that it touched, and the runs that it started.

What it does after a commit costs what the commit changed, not what the workspace holds; `check_all` reads everything.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from handshake.kernel.checkpoint import VerifierKey
from handshake.kernel.errors import InvalidEvent
from handshake.kernel.event import FIRST_PREV_HASH
from handshake.kernel.job import TERMINAL, Job, JobState
from handshake.kernel.lane import Lane
from handshake.kernel.limit import SlotKey
from handshake.kernel.merkle import Frontier, extend, leaf_hash
from handshake.kernel.recorded import require_sealed
from handshake.kernel.session import Ending, Facts, Session, SessionState, derive
from handshake.operations.order import wall_gates
from handshake.ports.store import Reader
from handshake.testing import invariants
from handshake.testing.simulator.journal import Journal, ToldEvent, ToldJob, ToldSession
from handshake.testing.simulator.order_check import OrderCheck
from handshake.testing.simulator.violation import Violation, require
from handshake.testing.virtual_clock import VirtualClock

MARK = "qzx"
"""Stands in every text that is sent or answered, and may stand in no event and no row but that of an artifact."""
LAST_EVENTS = 12
"""Events that a failure shows."""
_PAGE = 1_000
_J = {name: place for place, name in enumerate(Job.__struct_fields__)}
_S = {name: place for place, name in enumerate(Session.__struct_fields__)}
_FACTS = tuple(_S[name] for name in ("ending", "running", "waiting", "blockers", "paused", "dispatched"))


class Observer:
    """What is known of one workspace through all its lives.

    Args:
        order: judges dispatches; its journal is the observer's.
        journal: sessions and jobs as the log tells them.
        clock: the time.
    """

    def __init__(self, journal: Journal, order: OrderCheck, clock: VirtualClock) -> None:
        self._journal = journal
        self._order = order
        self._clock = clock
        self._frontier = Frontier()
        self._prev = FIRST_PREV_HASH
        self._failing: set[str] = set()
        self.last: deque[ToldEvent] = deque(maxlen=LAST_EVENTS)
        self.commits = 0
        self.heard: list[Callable[[ToldEvent], None]] = []
        """Who else hears of every event that was committed."""

    @property
    def size(self) -> int:
        """How many events were seen."""
        return self._frontier.size

    @property
    def log_hash(self) -> str:
        """The hash of the last event, which chains all before it."""
        return self._prev

    def committed(self, reader: Reader, named: set[str]) -> None:
        """Look at what one commit did.

        Raises:
            Violation: something does not hold.
        """
        self.commits += 1
        now_us = self._clock.monotonic_us()
        self._order.before_batch(now_us)
        events = self._new_events(reader)
        dispatches = [one for one in events if one.type == "session_scheduler.dispatch"]
        for event in events:
            self._take(reader, event)
        named = named | {one.job_id or "" for one in events} | {one.session_id or "" for one in events}
        started = {one.job_id for one in dispatches}
        jobs = [self._journal.jobs[one] for one in sorted(named) if one in self._journal.jobs]
        rows: dict[str, Any] = {job.job_id: reader.row("job_get", {"job_id": job.job_id}) for job in jobs}
        for job in jobs:
            self._settle(job, rows[job.job_id], began=job.job_id in started)
        lost: Any = reader.rows("connections_open")
        self._order.lost([SlotKey(*row) for row in lost])
        names = sorted({one for one in named if one in self._journal.sessions} | {job.session_id for job in jobs})
        sessions = [self._journal.sessions[one] for one in names]
        session_rows: dict[str, Any] = {one: reader.row("session_get", {"session_id": one}) for one in names}
        for session in sessions:
            self._flags(session, session_rows[session.session_id])
            self._order.look(session, now_us)
        for event in dispatches:
            self._dispatch(event, now_us)
        for job in jobs:
            self._compare_job(job, rows[job.job_id])
        for session in sessions:
            self._compare_session(session, session_rows[session.session_id])
        self._order.after_batch(now_us)

    def reopened(self, reader: Reader) -> None:
        """Look at a workspace that is open again: nothing that was committed is missing.

        Raises:
            Violation: something is.
        """
        end: Any = reader.row("log_state")
        require(end[0] >= self.size, "recovery.power_loss.loses_nothing", "events are missing", self.size - end[0])
        if self.size:
            row: Any = reader.row("event_by_seq", {"seq": self.size})
            same = row is not None and row[5].hex() == self._prev
            require(same, "recovery.power_loss.loses_nothing", "the log is another one", self.size)
        self._order.restart(self._clock.monotonic_us())
        self.committed(reader, set())  # what was committed when the process died, and nobody was told
        for job in self._journal.jobs.values():
            self._order.holds(job, False)
            if job.state is JobState.QUEUED and job.not_before_us:
                stored: Any = reader.row("job_get", {"job_id": job.job_id})
                left_us = max(0, stored[_J["not_before_us"]] - self._clock.now_us())
                job.not_before_us = self._clock.monotonic_us() + left_us
        for provider_id, gate in wall_gates(reader).items():  # while the wall is behind, stored times take longer
            left_us = max(0, gate.closed_until_us - self._clock.now_us())
            self._order.close(provider_id, self._clock.monotonic_us() + left_us)

    def closing(self) -> None:
        """Expect that the runtime starts nothing more."""
        self._order.stop()

    def excuse(self) -> None:
        """Take no account of what waited until now: nothing could start."""
        self._order.excuse(self._clock.monotonic_us())

    def check_all(self, reader: Reader, key: VerifierKey) -> invariants.Contents:
        """Read and check everything.

        Raises:
            Violation: something does not hold.
        """
        found = _checked(reader, key)
        rows = {job.job_id: job.state for job in found.jobs}
        told = {job.job_id: job.state for job in self._journal.jobs.values()}
        require(rows == told, "recorder.atomic", "jobs differ from what the log tells")
        states = {str(one.session_id): one.state for one in found.sessions}
        told_states = {one.session_id: one.state for one in self._journal.sessions.values()}
        require(states == told_states, "recorder.atomic", "sessions differ from what the log tells")
        return found

    def _new_events(self, reader: Reader) -> list[ToldEvent]:
        events = []
        while rows := reader.rows(
            "event_page", {"after": self._frontier.size, "limit": _PAGE, "type": None, "since_us": 0}
        ):
            hashes = []
            for row in rows:
                columns: Any = row
                seq, name, session_id, job_id, _, digest, body = columns
                told: dict[str, Any] = msgspec.json.decode(body)
                chained = told["seq"] == seq and told["prev_hash"] == self._prev and leaf_hash(body) == digest
                require(chained, "recorder.log.verifies", "an event does not chain to the one before it", seq)
                _require_sealed(body, seq)
                leaks = MARK.encode() in body
                require(not leaks, "message.content.only_in_artifacts", "an event holds content", seq)
                self._prev = digest.hex()
                hashes.append(digest)
                events.append(ToldEvent(seq, name, session_id, job_id, told["payload"]))
            dense = [one.seq for one in events[-len(rows) :]] == list(
                range(self._frontier.size + 1, self._frontier.size + 1 + len(rows))
            )
            require(dense, "recorder.log.verifies", "numbers of events are not dense", events[-1].seq)
            self._frontier = extend(self._frontier, hashes)
        end: Any = reader.row("log_state")
        same = (end[0], end[1]) == (self.size, self._prev)
        require(same, "recorder.log.verifies", "the stored end of the log is another", end[0])
        self.last.extend(events)
        return events

    def _take(self, reader: Reader, event: ToldEvent) -> None:
        if event.type == "session.created":
            row: Any = reader.row("session_get", {"session_id": event.payload["session_id"]})
            require(row is not None, "recorder.atomic", "a session was told that is not stored", event.seq)
            self._journal.created(row[_S["session_id"]], Lane(row[_S["lane"]]))
        elif event.type == "session_scheduler.enqueue":
            self._enqueue(reader, event)
        elif event.type != "session_scheduler.dispatch":
            self._journal.tell(event)
            if event.type == "session.message":
                self._require_message(reader, event)
            elif event.type == "session_scheduler.retry":
                job = self._journal.job(event.job_id)
                job.not_before_us = self._clock.monotonic_us() + event.payload["backoff_ms"] * 1_000
            elif event.type == "workflow_recovery":
                self._journal.job(event.job_id).not_before_us = 0
            elif event.type == "session_scheduler.rate_limited":
                until_us = self._clock.monotonic_us() + event.payload["backoff_ms"] * 1_000
                self._order.close(event.payload["provider"], until_us)
        for hear in self.heard:
            hear(event)

    def _enqueue(self, reader: Reader, event: ToldEvent) -> None:
        row: Any = reader.row("job_get", {"job_id": event.payload["job_id"]})
        require(row is not None, "recorder.atomic", "a job was told that is not stored", event.seq)
        group = row[_J["concurrency_group"]]
        job = ToldJob(
            row[_J["job_id"]], row[_J["session_id"]], row[_J["enqueue_seq"]], row[_J["turn_seq"]],
            Lane(row[_J["lane"]]), row[_J["priority"]], SlotKey(row[_J["provider_id"]], row[_J["model_id"]], group),
            row[_J["fairness_key"]], row[_J["max_retries"]], row[_J["timeout_ms"]], row[_J["wp_id"]],
            row[_J["estimated_tokens"]],
        )  # fmt: skip
        self._journal.enqueued(job)

    def _require_message(self, reader: Reader, event: ToldEvent) -> None:
        session = self._journal.sessions[event.payload["session_id"]]
        rows: Any = reader.rows(
            "message_page", {"session_id": session.session_id, "after": session.messages - 1, "limit": 1}
        )
        stored = bool(rows) and rows[0][2] == event.payload["message_id"]
        require(stored, "message.append.is_atomic", "a message was told that is not stored in its place", event.seq)
        found = reader.row("artifact_get", {"sha256": event.payload["content_artifact_id"]})
        require(found is not None, "message.append.is_atomic", "a message has no content", event.seq)

    def _settle(self, job: ToldJob, row: Any, *, began: bool) -> None:
        """Take over what the row says and no event does: the end of a failing attempt, and slots that were freed."""
        if job.failing and row[_J["state"]] == JobState.FAILED:
            job.failing = False
            self._journal.move(job.job_id, JobState.FAILED)
        self._order.holds(job, not began and bool(row[_J["holds_slot"]]))

    def _flags(self, session: ToldSession, row: Any) -> None:
        session.paused = bool(row[_S["paused"]])
        session.blockers = row[_S["blockers"]]

    def _dispatch(self, event: ToldEvent, now_us: int) -> None:
        job = self._journal.job(event.job_id)
        require(job.state is JobState.QUEUED, "scheduler.job.transitions_closed", "not queued, and started", job.job_id)
        self._order.dispatched(job)
        self._journal.tell(event)
        job.handed_on = False
        self._order.holds(job, not job.at_tools)
        self._order.look(self._journal.sessions[job.session_id], now_us)

    def _compare_job(self, job: ToldJob, row: Any) -> None:
        state, attempt = row[_J["state"]], row[_J["attempt"]]
        if state != job.state:
            late = job.state in TERMINAL
            known = "session.state.terminal_is_sticky" if late else "recorder.atomic"
            raise Violation(known, f"the row says {state}, the log {job.state.value}", job.job_id)
        require(attempt == job.attempt, "recorder.atomic", f"attempt {attempt}, told {job.attempt}", job.job_id)
        holds = bool(row[_J["holds_slot"]])
        known = "scheduler.limit.is_never_exceeded"
        require(holds or job.at_tools or state != JobState.RUNNING, known, "a run runs without its slots", job.job_id)
        kept = not holds or state in (JobState.RUNNING, JobState.CANCELLED, JobState.STALLED)
        require(kept and not (holds and job.at_tools), known, f"a job that is {state} keeps slots", job.job_id)
        ended = row[_J["ended_at_us"]] is not None
        require(ended == (job.state in TERMINAL), "scheduler.jobs.history_visible", "ended_at is wrong", job.job_id)
        words = [one for one in row if isinstance(one, str) and MARK in one]
        require(not words, "message.content.only_in_artifacts", "a job's row holds content", job.job_id)

    def _compare_session(self, session: ToldSession, row: Any) -> None:
        facts = Facts(Ending(row[_FACTS[0]]), *(row[place] for place in _FACTS[1:]))
        state = SessionState(row[_S["state"]])
        known = "session.state.is_derived"
        require(state is derive(facts), known, f"{state.value} does not follow from its facts", session.session_id)
        told = session.state is state
        require(
            told, "recorder.atomic", f"the row says {state.value}, the log {session.state.value}", session.session_id
        )
        one = facts.running == (session.running is not None)
        require(one, "session.state.active_iff_one_running", "its count of runs is wrong", session.session_id)
        require(facts.waiting == session.waiting, known, "its count of waiting runs is wrong", session.session_id)
        dense = row[_S["next_seq"]] == session.messages + 1
        require(dense, "message.append.is_atomic", "messages and their count differ", session.session_id)


def _require_sealed(body: bytes, seq: int) -> None:
    try:
        require_sealed(body)
    except InvalidEvent as broken:
        raise Violation("recorder.schema.enforced", f"an event is not as its type is: {broken}", seq) from broken


_PARTS: tuple[tuple[str, Callable[[Reader, invariants.Contents], None]], ...] = (
    ("message.append.is_atomic", invariants.check_messages),
    ("session.state.is_derived", lambda reader, found: invariants.check_sessions(found)),
    ("scheduler.queue.never_drops", lambda reader, found: invariants.check_jobs(found)),
    ("gate.result.correlated", invariants.check_tool_calls),
    ("scheduler.budget.reserved_before_dispatch", invariants.check_budgets),
    ("recorder.atomic", lambda reader, found: invariants.check_evidence(found)),
)


def _checked(reader: Reader, key: VerifierKey) -> invariants.Contents:
    """Do what `invariants.check_workspace` does, part by part, each under the name of its promise."""
    found = invariants.Contents([], [], [], [], [])
    try:
        found = invariants.read_workspace(reader, key)
    except AssertionError as failed:
        raise Violation("recorder.log.verifies", str(failed)) from failed
    for requirement, check in _PARTS:
        try:
            check(reader, found)
        except AssertionError as failed:
            raise Violation(requirement, str(failed)) from failed
    return found
