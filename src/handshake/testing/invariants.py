"""Invariants: what is true of a stored workspace at every moment, whatever happened to it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import msgspec

from handshake.kernel.budget import Account, Amounts, BudgetKey, BudgetScope, BudgetType
from handshake.kernel.checkpoint import VerifierKey, verify_checkpoint
from handshake.kernel.desk import DeskItem, DeskKind, DeskState
from handshake.kernel.errors import BudgetExceeded
from handshake.kernel.event import FIRST_PREV_HASH
from handshake.kernel.ids import ArtifactId, JobId
from handshake.kernel.job import TERMINAL, WAITING, Job, JobState, JobStep
from handshake.kernel.merkle import Frontier, leaf_hash
from handshake.kernel.message import Message, MessageRole
from handshake.kernel.session import Ending, Facts, Session, SessionState, derive
from handshake.kernel.session_checkpoint import EVERY_MESSAGES, EVERY_TOKENS, checkpoint_id
from handshake.kernel.write_scope import any_overlap
from handshake.operations import desk, records, write_scopes
from handshake.ports.store import Reader
from handshake.storage.signing import verify
from handshake.testing.call_invariants import check_calls
from handshake.testing.grant_invariants import check_grants

_PAGE = 500
_BY_PERSON = frozenset({DeskState.APPROVED, DeskState.DENIED})
_RECOVERY = "workflow_recovery"
_ENDED_WITH_ANSWER = frozenset({JobState.COMPLETED, JobState.COMPLETED_WITH_ISSUES})


class Event(msgspec.Struct, frozen=True):
    """An event as its stored bytes tell it."""

    seq: int
    type: str
    session_id: str | None
    job_id: str | None
    payload: dict[str, Any]
    hash: str


class Contents(msgspec.Struct, frozen=True):
    """All sessions, jobs and messages of a workspace, and its log."""

    sessions: list[Session]
    jobs: list[Job]
    messages: list[Message]
    events: list[Event]
    desk: list[DeskItem]

    def of(self, event_type: str) -> list[Event]:
        """Return the events of one type."""
        return [one for one in self.events if one.type == event_type]


def check_workspace(reader: Reader, key: VerifierKey) -> Contents:
    """Check everything below and return what was found; raise AssertionError for whatever does not hold.

    Source:
        recorder.atomic, recorder.log.verifies, session.state.is_derived, message.append.is_atomic.
    """
    found = read_workspace(reader, key)
    check_messages(reader, found)
    check_sessions(found)
    check_jobs(found)
    check_budgets(reader, found)
    check_desk(found)
    check_tool_calls(reader, found)
    check_checkpoints(found)
    check_write_scopes(reader, found)
    check_evidence(found)
    given, revoked = ([one.payload for one in found.of(f"capability.{name}")] for name in ("granted", "revoked"))
    check_grants(reader, found.sessions, given, revoked)
    return found


def read_workspace(reader: Reader, key: VerifierKey) -> Contents:
    """Return what is stored; only the log is checked."""
    return Contents(_sessions(reader), _jobs(reader), _messages(reader), check_log(reader, key), _desk(reader))


def check_log(reader: Reader, key: VerifierKey) -> list[Event]:
    """Check numbers, chain, hashes and columns of the log, its stored end and every checkpoint; return the events."""
    frontier, prev = Frontier(), FIRST_PREV_HASH
    roots = {0: frontier.root()}
    events = []
    for row in _event_rows(reader):
        seq, name, session_id, job_id, _, digest, body = row
        told: dict[str, Any] = msgspec.json.decode(body)
        assert seq == frontier.size + 1 == told["seq"], f"event {seq} does not follow {frontier.size}"
        assert told["prev_hash"] == prev, f"event {seq} does not chain to the one before it"
        assert leaf_hash(body) == digest, f"event {seq} does not have its hash"
        columns = (told["type"], told.get("model_session_id"), told.get("job_id"))
        assert columns == (name, session_id, job_id), f"event {seq} has columns of another"
        frontier, prev = frontier.append(digest), digest.hex()
        roots[seq] = frontier.root()
        events.append(Event(seq, name, session_id, job_id, told["payload"], prev))
    end: Any = reader.row("log_state")
    assert tuple(end) == (frontier.size, prev, frontier.to_bytes()), "the stored end of the log is another"
    _check_checkpoints(reader, key, roots, events)
    return events


def check_messages(reader: Reader, found: Contents) -> None:
    """Check that every message has its content, its job's session and its number, and that its session counts it."""
    by_session = defaultdict(list)
    sessions_of = {job.job_id: job.session_id for job in found.jobs}
    for message in found.messages:
        by_session[message.session_id].append(message)
        owner = sessions_of.get(message.job_id) if message.job_id else message.session_id
        assert owner == message.session_id, f"message {message.message_id} is of a job of another session"
        data = reader.artifact(ArtifactId(message.content_artifact_id))
        assert data is not None, f"message {message.message_id} has no artifact"
        assert len(data) == message.content_bytes, f"message {message.message_id} has another size"
        assert message.content_hash == message.content_artifact_id, f"message {message.message_id} has two hashes"
    for session in found.sessions:
        thread = by_session.pop(session.session_id, [])
        assert [one.seq for one in thread] == list(range(1, session.next_seq)), f"{session.session_id}: numbers"
        assert sum(one.content_bytes for one in thread) == session.thread_bytes, f"{session.session_id}: thread_bytes"
    assert not by_session, "messages without a session"


def check_sessions(found: Contents) -> None:
    """Check that every session's state and sums are those that its jobs give."""
    by_session = defaultdict(list)
    for job in found.jobs:
        by_session[job.session_id].append(job)
    for session in found.sessions:
        jobs = by_session.pop(session.session_id, [])
        states = Counter(job.state for job in jobs)
        facts = Facts(
            session.ending,
            states[JobState.RUNNING],
            sum(states[one] for one in WAITING),
            session.blockers,
            session.paused,
            any(job.attempt for job in jobs),
        )
        stored = (session.running, session.waiting, session.dispatched)
        assert stored == (facts.running, facts.waiting, facts.dispatched), f"{session.session_id}: counts {stored}"
        assert facts.running <= 1, f"{session.session_id}: two runs at once"
        assert session.state is derive(facts), f"{session.session_id}: {session.state} is not derived"
        assert (session.ended_at_us is None) == (session.ending is Ending.OPEN), f"{session.session_id}: ended_at"
        assert session.ending is Ending.OPEN or all(job.state in TERMINAL for job in jobs), "open job in ended session"
        _check_turns(session, jobs)
        assert session.total_tokens == sum(job.total_tokens or 0 for job in jobs), f"{session.session_id}: tokens"
    assert not by_session, "jobs without a session"


def _check_turns(session: Session, jobs: list[Job]) -> None:
    """Check that turns and the runs of each are numbered without a gap, and that a run goes on from an answer."""
    before: dict[int, Job] = {}
    for job in jobs:
        last = before.get(job.turn_seq)
        assert job.run_seq == (last.run_seq + 1 if last else 1), f"{job.job_id}: runs of its turn"
        assert last is None or last.state in _ENDED_WITH_ANSWER, f"{job.job_id}: goes on from no answer"
        before[job.turn_seq] = job
    assert list(before) == list(range(1, session.next_turn_seq)), f"{session.session_id}: turns"


def check_jobs(found: Contents) -> None:
    """Check that every job has its question, and its answer exactly if it was answered."""
    said: dict[tuple[str | None, MessageRole], list[Message]] = defaultdict(list)
    for message in found.messages:
        said[message.job_id, message.role].append(message)
    for job in found.jobs:
        asked = said.pop((job.job_id, MessageRole.USER), [])
        expected_turns = [job.turn_seq] if job.run_seq == 1 else []
        assert [one.turn_seq for one in asked] == expected_turns, f"{job.job_id}: no question of its own"
        answers = [one.message_id for one in said.pop((job.job_id, MessageRole.ASSISTANT), [])]
        expected = [job.answer_message_id] if _is_answered(job) else []
        assert answers == expected, f"{job.job_id}: {job.state} with answers {answers}"
        assert (job.ended_at_us is not None) == (job.state in TERMINAL), f"{job.job_id}: ended_at"
        calls = job.state is JobState.RUNNING and job.step is JobStep.CALL
        assert job.holds_slot or not calls, f"{job.job_id}: runs without a slot"
        assert not job.holds_slot or job.state in (JobState.RUNNING, JobState.CANCELLED), f"{job.job_id}: idle slot"
        refused = job.state is JobState.FAILED and job.error_code == BudgetExceeded.code
        assert job.attempt > 0 or refused or job.state in (JobState.QUEUED, JobState.CANCELLED), "never dispatched"
    of_tools = (MessageRole.TOOL_CALL, MessageRole.TOOL_RESULT)
    assert not [key for key in said if key[1] not in of_tools], "messages without a job"


def check_tool_calls(reader: Reader, found: Contents) -> None:
    """Check the calls that runs asked for (`testing.call_invariants`)."""
    told = [one.payload for one in found.of("tool_call")]
    check_calls(reader, found.sessions, found.jobs, found.messages, told)


def check_write_scopes(reader: Reader, found: Contents) -> None:
    """Check that no two sessions that live hold scopes that overlap, and that ended ones hold nothing.

    Source:
        gate.workspace.no_overlap (02 §7).
    """
    held = {one.session_id: write_scopes.held_by(reader, one.session_id) for one in found.sessions}
    for session in found.sessions:
        mine = held[session.session_id]
        if session.ending is not Ending.OPEN:
            assert mine == write_scopes.Held(()), f"{session.session_id}: ended and holds {mine.scopes}"
        assert mine.waits_for is None or session.blockers > 0, f"{session.session_id}: waits and is not BLOCKED"
        assert mine.waits_for is None or held[mine.waits_for].scopes, f"{session.session_id}: waits for nothing"
    for one, other in combinations((one for one in held if held[one].scopes), 2):
        assert not any_overlap(held[one].scopes, held[other].scopes), f"{one} and {other} may write the same"


def check_budgets(reader: Reader, found: Contents) -> None:
    """Check that what is reserved is what open attempts hold, and that a session spent what its attempts took."""
    by_session = defaultdict(list)
    for job in found.jobs:
        by_session[job.session_id].append(job)
    for session in found.sessions:
        jobs = by_session[session.session_id]
        taken = sum(job.settled_tokens for job in jobs)
        assert session.settled_tokens <= taken, f"{session.session_id}: settled_tokens"
        if session.ending is Ending.OPEN:  # what is settled after its end stands with the job alone
            assert session.settled_tokens == taken, f"{session.session_id}: settled_tokens"
        for key, account in records.session_budget(reader, session.session_id).items() if session.budgeted else ():
            if key.kind is not BudgetType.CALLS:
                spent = sum(_settled(job, key.kind) for job in jobs)
                assert account.spent == spent, f"{key}: {account.spent} spent, and {spent} taken"
            _check_reserved(key, account, jobs)
    for key, account in records.accounts(reader.rows("budgets_configured")).items():
        whole = key.scope is BudgetScope.WORKSPACE
        _check_reserved(key, account, [job for job in found.jobs if whole or job.wp_id == key.name])


def _settled(job: Job, kind: BudgetType) -> int:
    return job.settled_tokens if kind is BudgetType.TOKENS else job.settled_cost_usd_micro


def _check_reserved(key: BudgetKey, account: Account, jobs: list[Job]) -> None:
    held = [Amounts(job.estimated_tokens, job.estimated_cost_usd_micro) for job in jobs if job.holds_slot]
    reserved = sum(one.of(key.kind) for one in held)
    assert account.reserved == reserved, f"{key}: {account.reserved} reserved, and {reserved} held"


def check_checkpoints(found: Contents) -> None:
    """Check that each session's checkpoints are told, and that none is missing by count."""
    told: dict[str | None, list[str]] = defaultdict(list)
    for event in found.of("checkpoint.created"):
        told[event.payload["session_id"]].append(event.payload["checkpoint_id"])
    for session in found.sessions:
        expected = [checkpoint_id(session.session_id, one) for one in range(1, session.checkpoint_count + 1)]
        assert told.pop(session.session_id, []) == expected, f"{session.session_id}: checkpoints"
        assert (session.checkpoint_at_us is None) == (not expected), f"{session.session_id}: checkpoint"
        since = session.next_seq - 1 - session.checkpoint_seq
        assert 0 <= since < EVERY_MESSAGES, f"{session.session_id}: {since} messages without a checkpoint"
        assert session.streamed_tokens < EVERY_TOKENS, f"{session.session_id}: tokens without a checkpoint"
    assert not told, "checkpoints without a session"


def check_desk(found: Contents) -> None:
    """Check that exactly the stalled runs wait for a person, and that the log tells every question and answer."""
    open_items = [item for item in found.desk if item.state is DeskState.WAITING]
    for kind, state in ((DeskKind.RECOVERY, JobState.STALLED), (DeskKind.TOOL_APPROVAL, JobState.AWAITING_USER)):
        waiting = [item.job_id for item in open_items if item.kind is kind and item.job_id is not None]
        found_waiting = [job.job_id for job in found.jobs if job.state is state]
        assert sorted(waiting) == sorted(found_waiting), f"a {state} run that nobody is asked about, or the reverse"
    asked = [one.payload["decision_id"] for one in found.of("gov_human_intervention_requested")]
    assert asked == [item.item_id for item in found.desk], "gov_human_intervention_requested"
    answered = {
        one.payload["decision_id"]: one.payload["decision"] for one in found.of("gov_human_intervention_received")
    }
    by_person = {item.item_id: item.state.value for item in found.desk if item.state in _BY_PERSON}
    assert answered == by_person, "gov_human_intervention_received"
    moves = [(one.payload["job_id"], one.payload["from_state"], one.payload["to_state"]) for one in found.of(_RECOVERY)]
    for job in found.jobs:
        into = sum(one == (job.job_id, "running", "stalled") for one in moves)
        out = sum(one[:2] == (job.job_id, "stalled") for one in moves)
        withdrawn = sum(
            item.job_id == job.job_id and item.kind is DeskKind.RECOVERY and item.state is DeskState.WITHDRAWN
            for item in found.desk
        )
        assert into == out + withdrawn + (job.state is JobState.STALLED), f"{job.job_id}: a recovery was not told"


def check_evidence(found: Contents) -> None:
    """Check that the log tells all that is stored, and nothing that is not."""
    created = [one.payload["session_id"] for one in found.of("session.created")]
    assert Counter(created) == Counter(one.session_id for one in found.sessions), "session.created"
    told = [
        (one.payload["session_id"], one.payload["message_id"], one.payload["role"], one.payload["content_hash"])
        for one in found.of("session.message")
    ]
    stored = [(one.session_id, one.message_id, one.role.value, one.content_hash) for one in found.messages]
    assert Counter(told) == Counter(stored), "session.message"
    queued = [one.payload["job_id"] for one in found.of("session_scheduler.enqueue")]
    assert queued == [job.job_id for job in found.jobs], "session_scheduler.enqueue"
    dispatched = Counter(one.payload["job_id"] for one in found.of("session_scheduler.dispatch"))
    assert dispatched == Counter({job.job_id: job.attempt for job in found.jobs if job.attempt}), "dispatch"
    cancelled = {one.payload["job_id"] for one in found.of("session_scheduler.cancelled")}
    assert cancelled == {job.job_id for job in found.jobs if job.state is JobState.CANCELLED}, "cancelled"
    ended = {one.payload["session_id"] for one in found.of("session.completed")}
    assert ended == {one.session_id for one in found.sessions if one.ending is not Ending.OPEN}, "session.completed"
    sessions_of = {str(job.job_id): str(job.session_id) for job in found.jobs}
    for one in found.events:
        assert one.job_id is None or one.job_id in sessions_of, f"event {one.seq} names a job that is not there"
        owner = sessions_of.get(one.job_id or "", one.session_id)
        assert one.session_id in (None, owner), f"event {one.seq} names a session that is not its job's"
    _check_answers(found)
    states = {str(one.session_id): one.state for one in found.sessions}
    assert told_states(found.events) == states, "the log tells other states of sessions"


def told_states(events: list[Event]) -> dict[str, SessionState]:
    """Return the state of every session as the log alone tells it."""
    states: dict[str, SessionState] = {}
    for event in events:
        session_id = event.session_id or ""
        if event.type == "session.created":
            states[session_id] = SessionState.CREATED
        elif event.type == "session.state_change":
            before = event.payload["from_state"]
            assert states[session_id] == before, f"event {event.seq} leaves {before}, which was not the state"
            states[session_id] = SessionState(event.payload["to_state"])
        elif event.payload.get("session_state_after") is not None:
            states[session_id] = SessionState(event.payload["session_state_after"])
    return states


def job_states(found: Contents) -> dict[JobId, JobState]:
    """Return the state of every job."""
    return {job.job_id: job.state for job in found.jobs}


def _is_answered(job: Job) -> bool:
    return job.state in _ENDED_WITH_ANSWER or job.step is JobStep.TOOLS


def _check_answers(found: Contents) -> None:
    hashes: dict[str | None, str] = {one.message_id: one.content_hash for one in found.messages}
    stored = Counter((job.job_id, hashes.get(job.answer_message_id)) for job in found.jobs if _is_answered(job))
    failed = {one.job_id for one in found.of("llm_inference") if one.payload.get("error_code")}
    failed |= {one.job_id for one in found.of("session_scheduler.ended") if one.payload["state"] == JobState.FAILED}
    assert {job.job_id for job in found.jobs if job.state is JobState.FAILED} <= failed, "a failure was not told"
    answered = [one for one in found.of("llm_inference") if one.payload.get("response_hash")]
    assert Counter((one.job_id, one.payload["response_hash"]) for one in answered) == stored, "llm_inference"


def _check_checkpoints(reader: Reader, key: VerifierKey, roots: dict[int, bytes], events: list[Event]) -> None:
    after, signed = -1, []
    while rows := reader.rows("checkpoint_page", {"after": after, "limit": _PAGE}):
        for row in rows:
            columns: Any = row
            size, root_hex, _, note = columns
            assert roots[size].hex() == root_hex, f"checkpoint {size} has another root"
            checkpoint = verify_checkpoint(note.encode(), key, verify)
            assert (checkpoint.size, checkpoint.root) == (size, roots[size]), f"checkpoint {size} signs something else"
            signed.append((size + 1, size, root_hex))
            after = size
    told = [
        (one.seq, one.payload["tree_size"], one.payload["root_hash"])
        for one in events
        if one.type == "meta.checkpoint_signed"
    ]
    assert told == signed, "checkpoints and their events differ"


def _event_rows(reader: Reader) -> Iterator[Any]:
    def page(after: Any) -> list[Any]:
        return list(reader.rows("event_page", {"after": after, "limit": _PAGE, "type": None, "since_us": 0}))

    return _all(page, lambda row: row[0], 0)


def _sessions(reader: Reader) -> list[Session]:
    unfiltered = {"state": None, "role": None, "wp_id": None, "limit": _PAGE}

    def page(after: Any) -> list[Any]:
        return [records.record(Session, row) for row in reader.rows("session_page", {"after": after, **unfiltered})]

    return list(_all(page, lambda one: one.session_id, ""))


def _jobs(reader: Reader) -> list[Job]:
    unfiltered = {"session_id": None, "state": None, "limit": _PAGE}

    def page(after: Any) -> list[Any]:
        return [records.record(Job, row) for row in reader.rows("job_page", {"after": after, **unfiltered})]

    return list(_all(page, lambda one: one.enqueue_seq, 0))


def _desk(reader: Reader) -> list[DeskItem]:
    def page(after: Any) -> list[Any]:
        return desk.items(reader, after=after, limit=_PAGE)

    return list(_all(page, lambda one: one.item_seq, 0))


def _messages(reader: Reader) -> list[Message]:
    """Return every row, by whatever index it is found: in order of sessions and numbers."""

    def page(after: Any) -> list[Any]:
        return list(reader.rows("message_stretch", {"after": after, "limit": _PAGE}))

    found = [records.record(Message, row[1:]) for row in _all(page, lambda row: row[0], 0)]
    return sorted(found, key=lambda one: (one.session_id, one.seq))


def _all(page: Callable[[Any], list[Any]], place: Callable[[Any], Any], after: Any) -> Iterator[Any]:
    """Yield what all pages hold."""
    while items := page(after):
        yield from items
        after = place(items[-1])
