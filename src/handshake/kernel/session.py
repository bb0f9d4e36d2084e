"""Session: the `ModelSession` record and the total function that derives its state.

No caller sets a state. It follows from flags of the operator, blockers and the session's jobs (01 §2).
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from handshake.kernel.errors import InvalidTransition, StateConflict
from handshake.kernel.ids import ModelId, ProviderId, SessionId
from handshake.kernel.job import Backend
from handshake.kernel.lane import Lane


class SessionState(StrEnum):
    """Where a session stands; the last three are terminal."""

    CREATED = "CREATED"
    IDLE = "IDLE"
    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    BLOCKED = "BLOCKED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


TERMINAL = frozenset({SessionState.COMPLETED, SessionState.FAILED, SessionState.CANCELLED})


class Ending(StrEnum):
    """How a session ended, if it did."""

    OPEN = "open"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


_ENDED = {
    Ending.CANCELLED: SessionState.CANCELLED,
    Ending.FAILED: SessionState.FAILED,
    Ending.COMPLETED: SessionState.COMPLETED,
}


class MemoryPolicy(StrEnum):
    """What memory a session may read and propose (01 §9)."""

    EPHEMERAL = "EPHEMERAL"
    SESSION_SCOPED = "SESSION_SCOPED"
    WORKSPACE_SCOPED = "WORKSPACE_SCOPED"


class ExecutionMode(StrEnum):
    """How models share the work of a session tree."""

    SINGLE_MODEL_MULTI_ROLE = "SINGLE_MODEL_MULTI_ROLE"
    MULTI_MODEL_PARALLEL = "MULTI_MODEL_PARALLEL"
    SPLIT_POLICY_AND_PLANNING = "SPLIT_POLICY_AND_PLANNING"


class ParameterClass(StrEnum):
    """Size class of a model."""

    P7B = "P7B"
    P13B = "P13B"
    P32B = "P32B"
    P72B = "P72B"
    P110B = "P110B"
    UNKNOWN = "PUnknown"


class Facts(msgspec.Struct, frozen=True, gc=False):
    """All that a session's state depends on."""

    ending: Ending
    running: int
    waiting: int
    """Runs in `awaiting_user`, `awaiting_validation` or `stalled`."""
    blockers: int
    paused: bool
    dispatched: bool
    """Whether any run was ever dispatched."""


class Session(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One durable, addressable model conversation with its own authority (01 §1).

    Times are microseconds since 1970. `state` is what `derive` gives for the facts beside it and is stored
    only so that it can be searched. `next_seq` numbers messages, `next_turn_seq` turns. `total_tokens` are those that
    providers reported; what is settled also holds estimates of what they did not. `budgeted` says that it has a budget.
    """

    session_id: SessionId
    parent_session_id: SessionId | None
    root_session_id: SessionId
    spawn_depth: int
    state: SessionState
    ending: Ending
    running: int
    waiting: int
    blockers: int
    paused: bool
    dispatched: bool
    model_id: ModelId
    provider_id: ProviderId
    backend: Backend
    parameter_class: ParameterClass
    role: str
    lane: Lane
    wp_id: str | None
    mt_id: str | None
    work_profile_id: str | None
    execution_mode: ExecutionMode
    memory_policy: MemoryPolicy
    title: str | None
    next_seq: int
    next_turn_seq: int
    thread_bytes: int
    total_tokens: int
    last_error: str | None
    created_at_us: int
    updated_at_us: int
    ended_at_us: int | None
    settled_tokens: int
    settled_cost_usd_micro: int
    budgeted: bool
    checkpoint_count: int = 0
    checkpoint_seq: int = 0
    checkpoint_state: SessionState | None = None
    checkpoint_trigger: str | None = None
    checkpoint_at_us: int | None = None
    streamed_tokens: int = 0


def facts(session: Session) -> Facts:
    """Return what the state of `session` depends on."""
    return Facts(session.ending, session.running, session.waiting, session.blockers, session.paused, session.dispatched)


def derive(given: Facts) -> SessionState:
    """Return the one state that the facts give; the first rule that holds decides.

    Source:
        session.state.mapping_total, session.state.is_derived (01 §2).
    """
    if given.ending is not Ending.OPEN:
        return _ENDED[given.ending]
    if given.running > 0:
        return SessionState.ACTIVE
    if given.blockers > 0 or given.waiting > 0:
        return SessionState.BLOCKED
    if given.paused:
        return SessionState.PAUSED
    return SessionState.IDLE if given.dispatched else SessionState.CREATED


def may_dispatch(given: Facts) -> bool:
    """Return whether a queued run of the session may start: open, nothing running, no blocker, not paused."""
    return (
        given.ending is Ending.OPEN
        and given.running == 0
        and given.waiting == 0
        and given.blockers == 0
        and not given.paused
    )


def require_open(session: Session) -> None:
    """Refuse work for a session that has ended.

    Raises:
        InvalidTransition: the session is COMPLETED, FAILED or CANCELLED.
    """
    if session.ending is not Ending.OPEN:
        raise InvalidTransition(session_id=session.session_id, from_state=session.state.value)


def require_completable(session: Session, *, open_jobs: int) -> None:
    """Refuse to complete a session that still has work.

    Raises:
        InvalidTransition: it has ended already.
        StateConflict: a turn is open.
    """
    require_open(session)
    if open_jobs:
        raise StateConflict(session_id=session.session_id, reason="turn_open", open_jobs=open_jobs)
