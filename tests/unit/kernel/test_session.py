"""Tests of sessions: the one state that facts give, and what an ended or busy session refuses."""

from __future__ import annotations

from itertools import product

import msgspec
import pytest

from handshake.kernel.errors import InvalidTransition, StateConflict
from handshake.kernel.ids import ModelId, ProviderId, SessionId
from handshake.kernel.job import Backend
from handshake.kernel.lane import Lane
from handshake.kernel.session import (
    TERMINAL,
    Ending,
    ExecutionMode,
    Facts,
    MemoryPolicy,
    ParameterClass,
    Session,
    SessionState,
    derive,
    facts,
    may_dispatch,
    require_completable,
    require_open,
)
from tests.requirement import requirement

ALL_FACTS = [Facts(*one) for one in product(Ending, (0, 1), (0, 1, 2), (0, 1, 2), (False, True), (False, True))]

SESSION = Session(
    session_id=SessionId("s"), parent_session_id=None, root_session_id=SessionId("s"), spawn_depth=0,
    state=SessionState.CREATED, ending=Ending.OPEN, running=0, waiting=0, blockers=0, paused=False, dispatched=False,
    model_id=ModelId("m"), provider_id=ProviderId("p"), backend=Backend.LOCAL, parameter_class=ParameterClass.UNKNOWN,
    role="coder", lane=Lane.PRIMARY, wp_id=None, mt_id=None, work_profile_id=None,
    execution_mode=ExecutionMode.MULTI_MODEL_PARALLEL, memory_policy=MemoryPolicy.EPHEMERAL, title=None, next_seq=1,
    next_turn_seq=1, thread_bytes=0, total_tokens=0, last_error=None, created_at_us=0, updated_at_us=0,
    ended_at_us=None, settled_tokens=0, settled_cost_usd_micro=0, budgeted=False,
)  # fmt: skip


def expected(given: Facts) -> SessionState:
    """Return the state by 01 §2, read aloud."""
    if given.ending is not Ending.OPEN:
        return SessionState(given.ending.value.upper())
    if given.running:
        return SessionState.ACTIVE
    if given.blockers or given.waiting:
        return SessionState.BLOCKED
    if given.paused:
        return SessionState.PAUSED
    return SessionState.IDLE if given.dispatched else SessionState.CREATED


@requirement("session.state.mapping_total", "session.state.is_derived")
@pytest.mark.parametrize("given", ALL_FACTS, ids=str)
def test_every_combination_of_facts_has_exactly_one_state(given: Facts) -> None:
    assert derive(given) is expected(given)


@requirement("session.state.mapping_total")
def test_every_state_is_reached() -> None:
    assert {derive(given) for given in ALL_FACTS} == set(SessionState)


@requirement("session.state.active_iff_one_running")
def test_an_open_session_is_active_exactly_if_a_run_is_running() -> None:
    for given in ALL_FACTS:
        if given.ending is Ending.OPEN:
            assert (derive(given) is SessionState.ACTIVE) == (given.running > 0)


@requirement("session.state.terminal_is_sticky")
def test_an_ending_outranks_every_other_fact() -> None:
    for given in ALL_FACTS:
        assert (derive(given) in TERMINAL) == (given.ending is not Ending.OPEN)


def test_only_an_idle_or_new_session_dispatches() -> None:
    for given in ALL_FACTS:
        assert may_dispatch(given) == (derive(given) in (SessionState.IDLE, SessionState.CREATED))


def test_the_facts_of_a_session_are_its_own() -> None:
    session = msgspec.structs.replace(SESSION, running=1, waiting=2, blockers=3, paused=True, dispatched=True)
    assert facts(session) == Facts(Ending.OPEN, 1, 2, 3, True, True)


@requirement("session.state.terminal_is_sticky")
@pytest.mark.parametrize("ending", [Ending.COMPLETED, Ending.FAILED, Ending.CANCELLED])
def test_an_ended_session_takes_no_work_and_does_not_end_again(ending: Ending) -> None:
    state = SessionState(ending.value.upper())
    ended = msgspec.structs.replace(SESSION, ending=ending, state=state)
    with pytest.raises(InvalidTransition) as refused:
        require_open(ended)
    assert refused.value.context == {"session_id": "s", "from_state": state.value}
    with pytest.raises(InvalidTransition):
        require_completable(ended, open_jobs=0)


def test_a_session_completes_only_without_an_open_turn() -> None:
    require_open(SESSION)
    require_completable(SESSION, open_jobs=0)
    with pytest.raises(StateConflict) as refused:
        require_completable(SESSION, open_jobs=2)
    assert refused.value.context == {"session_id": "s", "reason": "turn_open", "open_jobs": 2}
