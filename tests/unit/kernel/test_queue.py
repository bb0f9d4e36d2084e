"""Tests of the queue's index: order within a lane and a session, limits, holding and backoff."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from handshake.kernel import queue as queue_module
from handshake.kernel.budget import NOTHING, Account, BudgetKey, BudgetScope, BudgetType
from handshake.kernel.ids import JobId, SessionId
from handshake.kernel.lane import Lane
from handshake.kernel.limit import Limits, SlotKey
from handshake.kernel.queue import RunQueue
from handshake.kernel.queued_run import QueuedRun
from handshake.kernel.retry import Reach
from tests.queueing import drain, end, limits, queue_of, queued
from tests.requirement import requirement

A, B = (SlotKey(name, "model", None) for name in "ab")


def numbers(runs: list[QueuedRun]) -> list[int]:
    return [run.enqueue_seq for run in runs]


@requirement("scheduler.order.follows_priority_then_sequence")
def test_within_a_lane_priority_goes_first_then_acceptance() -> None:
    queue = queue_of(limits())
    for number, priority in enumerate((50, 90, 10, 50, 10), 1):
        queue.add(queued(number, priority=priority))
    assert numbers(drain(queue)) == [3, 5, 1, 4, 2]


@requirement("scheduler.order.follows_priority_then_sequence")
@pytest.mark.parametrize("moments", [(0, 0, 0, 0), (9_000, 8_000, 1, 0), (0, 10**15, 5, 10**15)])
def test_a_clock_that_jumps_changes_no_order(moments: tuple[int, ...]) -> None:
    queue = queue_of(limits(total=1))
    for number in (1, 2, 3, 4):
        queue.add(queued(number))
    taken = []
    for now_us in moments:
        run = queue.take(now_us)
        assert run is not None
        taken.append(run.enqueue_seq)
        end(queue, run)
    assert taken == [1, 2, 3, 4]


@requirement("scheduler.session.head_only")
def test_priority_reorders_no_session() -> None:
    queue = queue_of(limits())
    queue.add(queued(1, session="s", turn=1, priority=90))
    queue.add(queued(2, session="s", turn=2, priority=0))
    queue.add(queued(3, session="s", turn=3, priority=50, lane=Lane.BACKGROUND))
    assert numbers(drain(queue)) == [1, 2, 3]


@requirement("session.state.active_iff_one_running", "scheduler.session.head_only")
def test_a_session_has_one_run_at_a_time() -> None:
    queue = queue_of(limits())
    queue.add(queued(1, session="s", turn=1))
    queue.add(queued(2, session="s", turn=2))
    first = queue.take(0)
    assert first is not None
    assert queue.take(0) is None
    queue.free_connection(first.key)
    assert queue.take(0) is None
    queue.vacate(first.session_id, first.lane)
    assert numbers(drain(queue)) == [2]


@requirement("scheduler.queue.no_head_of_line_blocking")
def test_what_cannot_start_is_passed_by() -> None:
    queue = queue_of(Limits(total=10, primary_reserved=0, provider_default=1, model_default=1))
    for number in range(1, 101):
        queue.add(queued(number, key=A, priority=0))
    queue.add(queued(101, session="held", priority=0))
    queue.hold(SessionId("held"))
    queue.add(queued(102, key=B, priority=0, not_before_us=5))
    queue.add(queued(103, key=B, priority=99, lane=Lane.BACKGROUND))
    started = [queue.take(0), queue.take(0), queue.take(0)]
    assert [run and run.enqueue_seq for run in started] == [1, 103, None]


@requirement("scheduler.limit.is_never_exceeded")
def test_every_shared_limit_holds_alone() -> None:
    cases = {
        "total": Limits(total=2, primary_reserved=0, provider_default=9, model_default=9),
        "provider": Limits(total=9, primary_reserved=0, provider_default=2, model_default=9),
        "model": Limits(total=9, primary_reserved=0, provider_default=9, model_default=2),
        "group": Limits(total=9, primary_reserved=0, provider_default=9, model_default=9, groups={"g": 2}),
    }
    for name, given in cases.items():
        queue = queue_of(given)
        for number in range(1, 6):
            queue.add(queued(number, key=SlotKey("a", "m", "g")))
        started = [run for _ in range(5) if (run := queue.take(0)) is not None]
        assert numbers(started) == [1, 2], name
        queue.vacate(started[0].session_id, started[0].lane)
        freed_by_run = queue.take(0)
        assert (freed_by_run is not None) == (name == "total"), name
        queue.free_connection(started[0].key)
        assert (queue.take(0) is not None) == (name != "total"), name


def test_a_tree_keeps_its_turn_when_its_head_is_dropped() -> None:
    queue = queue_of(limits(total=1))
    for number in (1, 2):
        queue.add(queued(number, session="first", turn=number))
    for number in (3, 4):
        queue.add(queued(number))
    queue.drop(JobId("job-1"))
    assert numbers(drain(queue)) == [2, 3, 4]


@requirement("session.pause.keeps_queue")
def test_a_held_session_keeps_its_runs_and_their_order() -> None:
    queue = queue_of(limits(total=1))
    for number in (1, 2, 3):
        queue.add(queued(number, session="s", turn=number))
    queue.hold(SessionId("s"))
    queue.add(queued(4, session="other"))
    assert numbers(drain(queue)) == [4]
    assert len(queue) == 3
    assert queue.waiting_in(SessionId("s")) == 3
    queue.unhold(SessionId("s"))
    assert numbers(drain(queue)) == [1, 2, 3]


def test_a_run_that_backs_off_starts_when_its_time_has_come() -> None:
    queue = queue_of(limits())
    queue.add(queued(1, session="s", turn=1, attempt=1, not_before_us=500))
    queue.add(queued(2, session="s", turn=2))
    queue.add(queued(3, attempt=1, not_before_us=300))
    assert queue.take(299) is None
    assert queue.next_timer_us() == 300
    third = queue.take(300)
    assert third is not None
    assert third.enqueue_seq == 3
    assert queue.next_timer_us() == 500
    queue.drop(JobId("job-1"))
    assert queue.next_timer_us() is None
    assert numbers(drain(queue, now_us=300)) == [2]


def test_time_that_goes_back_makes_nothing_wait_again() -> None:
    queue = queue_of(limits(total=1))
    queue.add(queued(1))
    blocker = queue.take(900)
    assert blocker is not None
    queue.add(queued(2, attempt=1, not_before_us=800))
    end(queue, blocker)
    assert numbers(drain(queue, now_us=0)) == [2]


def test_dropping_what_is_not_queued_changes_nothing() -> None:
    queue = queue_of(limits())
    queue.add(queued(1))
    queue.drop(JobId("job-2"))
    assert JobId("job-1") in queue
    assert JobId("job-2") not in queue
    assert len(queue) == 1


def test_every_change_is_counted() -> None:
    queue = queue_of(limits())
    run = queued(1)
    moves: list[Callable[[], object]] = [
        lambda: queue.add(run),
        lambda: queue.hold(run.session_id),
        lambda: queue.unhold(run.session_id),
        lambda: queue.take(0),
        lambda: queue.free_connection(run.key),
        lambda: queue.vacate(run.session_id, run.lane),
        lambda: queue.add(queued(2)),
        lambda: queue.drop(JobId("job-2")),
        lambda: queue.hold_connection(run.key),
        lambda: queue.load([], []),
    ]
    for move in moves:
        before = queue.changes
        move()
        assert queue.changes > before


def test_only_what_changed_is_stored() -> None:
    queue = queue_of(limits(total=1))
    queue.add(queued(1, priority=7))
    queue.add(queued(2, tree="waits"))
    assert queue.take(0) is not None
    changed = queue.drain_dirty()
    assert set(changed.trees) == {(Lane.PRIMARY, 50, "waits")}
    assert set(changed.lanes) == {Lane.PRIMARY}
    assert queue.drain_dirty().trees == {}
    assert queue.take(0) is None
    again = queue.drain_dirty()
    assert (again.lanes, again.trees, again.virtual) == ({}, {}, {})


def run_once(queue: RunQueue, number: int, session: str) -> None:
    if not queue.admission.ledger.knows(BudgetScope.SESSION, session):
        queue.admission.ledger.load([(BudgetKey(BudgetScope.SESSION, session, BudgetType.CALLS), Account(9))])
    queue.add(queued(number, session=session))
    run = queue.take(0)
    assert run is not None
    queue.settle(run.bill, NOTHING, Reach.NOTHING)
    end(queue, run)
    queue.drain_accounts()


def test_budgets_of_sessions_that_had_a_run_lately_stay_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "MAX_RESTING_BUDGETS", 2)
    queue = queue_of(limits())
    for number, session in enumerate(("a", "b", "a", "c"), 1):
        run_once(queue, number, session)
    ledger = queue.admission.ledger
    assert [ledger.knows(BudgetScope.SESSION, one) for one in "abc"] == [True, False, True]
    queue.clear()
    assert not ledger


def test_a_budget_stays_known_while_its_session_has_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "MAX_RESTING_BUDGETS", 1)
    queue = queue_of(limits())
    run_once(queue, 1, "a")
    queue.add(queued(2, session="a", not_before_us=9))
    for number, session in enumerate(("b", "c"), 3):
        run_once(queue, number, session)
    ledger = queue.admission.ledger
    assert [ledger.knows(BudgetScope.SESSION, one) for one in "abc"] == [True, False, True]
    queue.drop(JobId("job-2"))
    assert [ledger.knows(BudgetScope.SESSION, one) for one in "abc"] == [True, False, False]
