"""Sessions: create, pause, resume, complete and cancel; each function is one unit of work.

No caller sets a state: the flags that a caller may set and the jobs decide it, through `kernel.session.derive`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from handshake.kernel.budget import BudgetType
from handshake.kernel.catalogue import EndStatus, SessionCompleted, SessionCreated
from handshake.kernel.errors import RateLimited, StateConflict
from handshake.kernel.event import Actor
from handshake.kernel.ids import JobId, ModelId, ProviderId, SessionId, successors
from handshake.kernel.job import Backend
from handshake.kernel.judgement import Reason
from handshake.kernel.lane import Lane
from handshake.kernel.narrowing import Wanted
from handshake.kernel.queue import RunQueue
from handshake.kernel.session import (
    Ending,
    ExecutionMode,
    Facts,
    MemoryPolicy,
    ParameterClass,
    Session,
    SessionState,
    derive,
    may_dispatch,
    require_completable,
    require_open,
)
from handshake.kernel.units import US_PER_MS, dollars
from handshake.operations import asking, budgets, call_ends, grant_requests, grants, records, write_scopes
from handshake.operations.cancelling import cancel_run
from handshake.operations.moving import about, facts_of, move
from handshake.ports.store import Tx


class NewSession(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a caller decides of a new root session; depth, state and backend are the runtime's."""

    session_id: SessionId
    model_id: ModelId
    provider_id: ProviderId
    backend: Backend
    role: str
    memory_policy: MemoryPolicy
    lane: Lane = Lane.PRIMARY
    wp_id: str | None = None
    mt_id: str | None = None
    work_profile_id: str | None = None
    execution_mode: ExecutionMode = ExecutionMode.MULTI_MODEL_PARALLEL
    parameter_class: ParameterClass = ParameterClass.UNKNOWN
    title: str | None = None
    budget: Mapping[BudgetType, int] = {}
    """The session's own limits."""
    grants: tuple[Wanted, ...] = ()
    """What it may do besides talking to its model."""
    user_id: str = "operator"
    """Who makes it, and by that approves of its model and grants."""


class Cancelled(msgspec.Struct, frozen=True, gc=False):
    """What cancelling a session stopped; `open_attempts` are those whose connections are to be closed."""

    session: Session
    job_ids: tuple[JobId, ...]
    open_attempts: tuple[tuple[JobId, int], ...]


def create(tx: Tx, new: NewSession, *, max_open: int) -> Session:
    """Create a root session.

    Raises:
        StateConflict: a session of this id exists, whatever the other fields say.
        RateLimited: the workspace has its most open sessions.

    Source:
        session.create.existing_id_is_refused (INV-SESS-001).
    """
    if tx.row("session_get", {"session_id": new.session_id}) is not None:
        raise StateConflict(session_id=new.session_id, reason="session_exists")
    count = tx.row("workspace_open_sessions")
    if count is not None and int(count[0] or 0) >= max_open:
        raise RateLimited(reason="open_sessions", limit=max_open)
    facts = Facts(Ending.OPEN, running=0, waiting=0, blockers=0, paused=False, dispatched=False)
    given = msgspec.structs.asdict(new)
    limits, wanted, user_id = given.pop("budget"), given.pop("grants"), given.pop("user_id")
    session = Session(
        **given,
        **msgspec.structs.asdict(facts),
        state=derive(facts),
        parent_session_id=None,
        root_session_id=new.session_id,
        spawn_depth=0,
        next_seq=1,
        next_turn_seq=1,
        thread_bytes=0,
        total_tokens=0,
        last_error=None,
        created_at_us=tx.now_us,
        updated_at_us=tx.now_us,
        ended_at_us=None,
        settled_tokens=0,
        settled_cost_usd_micro=0,
        budgeted=bool(limits),
    )
    tx.run("session_insert", msgspec.structs.asdict(session))
    budgets.open_for_session(tx, session.session_id, limits)
    tx.run("workspace_session_opened", {})
    tx.append(
        SessionCreated(
            backend=session.backend,
            memory_policy=session.memory_policy,
            model_id=session.model_id,
            mt_id=session.mt_id,
            role=session.role,
            session_id=session.session_id,
            spawn_depth=0,
            wp_id=session.wp_id,
        ),
        about(session, Actor.HUMAN),
    )
    _grant(tx, session, wanted, user_id)
    return session


def _grant(tx: Tx, session: Session, wanted: Sequence[Wanted], user_id: str) -> None:
    """Give a new session its model, of which its creation tells, and what else its maker wants it to have."""
    approval, model = grant_requests.of_model(session, user_id)
    ids = successors(session.session_id)
    asked = grant_requests.to_grants(approval, session, wanted, ids)
    context = msgspec.structs.replace(about(session, Actor.HUMAN), actor_id=user_id) if asked else None
    grants.give(tx, approval, [model, *asked], context)


def pause(tx: Tx, queue: RunQueue, session_id: SessionId, *, actor: Actor = Actor.HUMAN) -> Session:
    """Let nothing more of the session start; what runs goes on. Pausing twice is the same.

    Raises:
        InvalidTransition: the session has ended.

    Source:
        session.pause.keeps_queue (01 §2).
    """
    session = records.session(tx, session_id)
    require_open(session)
    if session.paused:
        return session
    after = move(tx, session, msgspec.structs.replace(session, paused=True), reason="pause_requested", actor=actor)
    queue.hold(session_id)
    return after


def resume(tx: Tx, queue: RunQueue, session_id: SessionId, *, actor: Actor = Actor.HUMAN) -> Session:
    """Lift a pause; queued runs start in their old order. Resuming what is not paused is the same.

    Raises:
        InvalidTransition: the session has ended.
    """
    session = records.session(tx, session_id)
    require_open(session)
    if not session.paused:
        return session
    after = move(tx, session, msgspec.structs.replace(session, paused=False), reason="resume_requested", actor=actor)
    if may_dispatch(facts_of(msgspec.structs.replace(after, running=0))):
        queue.unhold(session_id)
    return after


def complete(tx: Tx, queue: RunQueue, session_id: SessionId, *, actor: Actor = Actor.HUMAN) -> Session:
    """End a session that has no open work.

    Raises:
        InvalidTransition: it has ended already.
        StateConflict: a turn is open.
    """
    session = records.session(tx, session_id)
    open_jobs = len(tx.rows("job_open_of_session", {"session_id": session_id}))
    require_completable(session, open_jobs=open_jobs)
    return _end(tx, queue, session, Ending.COMPLETED, reason="completed_by_operator", by="operator", actor=actor)


def cancel(tx: Tx, queue: RunQueue, session_id: SessionId, *, reason: str, by: str, actor: Actor) -> Cancelled:
    """End a session and everything of it that is queued, running or waiting, in order of acceptance.

    Raises:
        InvalidTransition: it is COMPLETED or FAILED. Cancelling twice is the same.

    Source:
        scheduler.cancel.is_deterministic (01 §6).
    """
    session = records.session(tx, session_id)
    if session.state is SessionState.CANCELLED:
        return Cancelled(session, (), ())
    require_open(session)
    job_ids = tuple(JobId(str(row[0])) for row in tx.rows("job_open_of_session", {"session_id": session_id}))
    results = [
        (job_id, cancel_run(tx, queue, records.job(tx, job_id), reason=reason, by=by, actor=actor).open_attempt)
        for job_id in job_ids
    ]
    open_attempts = tuple((job_id, attempt) for job_id, attempt in results if attempt is not None)
    ended = _end(tx, queue, records.session(tx, session_id), Ending.CANCELLED, reason=reason, by=by, actor=actor)
    return Cancelled(ended, job_ids, open_attempts)


def _end(tx: Tx, queue: RunQueue, session: Session, ending: Ending, *, reason: str, by: str, actor: Actor) -> Session:
    after = move(tx, session, msgspec.structs.replace(session, ending=ending), reason=reason, actor=actor)
    after = msgspec.structs.replace(after, ended_at_us=tx.now_us)
    tx.append(
        SessionCompleted(
            duration_ms=(tx.now_us - session.created_at_us) // US_PER_MS,
            messages_count=session.next_seq - 1,
            session_id=session.session_id,
            status=EndStatus(after.state.value),
            total_cost_usd=dollars(session.settled_cost_usd_micro),
            total_tokens=session.total_tokens,
        ),
        about(session, actor),
    )
    asking.withdraw_calls(tx, session.session_id, by=by)
    why = Reason.SESSION_CANCELLED if ending is Ending.CANCELLED else Reason.SESSION_ENDED
    call_ends.end_waiting(tx, session.session_id, about(session, actor), why)
    tx.run("workspace_session_ended", {})
    tx.run("pass_tree_forget", {"tree": session.session_id})
    write_scopes.release(tx, queue, session.session_id)
    queue.unhold(session.session_id)
    return after
