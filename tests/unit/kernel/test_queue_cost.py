"""Tests of what the queue's index costs: calls per choice, and memory."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import pytest

from handshake.kernel.ids import JobId
from handshake.kernel.lane import LANES
from handshake.kernel.limit import Limits, SlotKey
from handshake.kernel.queue import RunQueue
from handshake.kernel.queued_run import QueuedRun
from tests.queueing import drain, end, limits, queue_of, queued
from tests.requirement import requirement

A, B = (SlotKey(name, "model", None) for name in "ab")


def calls_of(act: Callable[[], object]) -> int:
    """Return how many functions, built-in ones too, `act` calls."""
    count = 0

    def note(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(None)
    return count


def sessions_of_their_own(count: int) -> RunQueue:
    queue = queue_of(limits(total=1))
    for number in range(count):
        queue.add(queued(number))
    return queue


def one_long_session(count: int) -> RunQueue:
    queue = queue_of(limits(total=1))
    for number in range(count):
        queue.add(queued(number, session=f"s{number % 3}", turn=number))
    return queue


def every_lane_and_priority(count: int) -> RunQueue:
    queue = queue_of(limits(total=1))
    for number in range(count):
        queue.add(queued(number, lane=LANES[number % 4], priority=number % 101, tree=f"t{number % 50}"))
    return queue


def full_provider_beside_a_fast_one(count: int) -> RunQueue:
    """Return a queue most of whose runs wait for a provider that was full while another went on and on."""
    queue = queue_of(Limits(total=1, primary_reserved=0, provider_default=1, model_default=1))
    queue.hold_connection(A)
    for number in range(count):
        queue.add(queued(number, key=A))
    for number in range(count, count + 60):
        queue.add(queued(number, key=B, session="fast", turn=number))
    drain(queue)
    queue.free_connection(A)
    return queue


@requirement("scheduler.cost.decision_independent_of_length")
@pytest.mark.parametrize(
    "build", [sessions_of_their_own, one_long_session, every_lane_and_priority, full_provider_beside_a_fast_one]
)
def test_a_choice_costs_the_same_whatever_the_length(build: Callable[[int], RunQueue]) -> None:
    def dearest(count: int) -> int:
        queue = build(count)
        costs = []
        for _ in range(50):
            taken: list[QueuedRun | None] = []
            costs.append(calls_of(partial(lambda to: to.append(queue.take(0)), taken)))
            (run,) = taken
            assert run is not None
            costs.append(calls_of(partial(end, queue, run)))
        return max(costs)

    assert dearest(100_000) <= dearest(100) + 20


@requirement("scheduler.cost.decision_independent_of_length")
def test_accepting_a_run_costs_the_same_whatever_the_length() -> None:
    def cost(count: int) -> int:
        queue = sessions_of_their_own(count)
        return calls_of(lambda: queue.add(queued(count)))

    assert cost(100_000) <= cost(100) + 5


def entries(thing: object) -> int:
    """Return how many entries the containers below an object of the index have."""
    if isinstance(thing, dict):
        return len(thing) + sum(entries(value) for value in thing.values())
    if isinstance(thing, (list, tuple, set)):
        return len(thing) + sum(entries(value) for value in thing)
    slots = getattr(thing, "__slots__", None) or list(getattr(thing, "__dict__", {}))
    if type(thing).__module__ in ("handshake.kernel.queue", "handshake.kernel.strand"):
        return sum(entries(getattr(thing, name)) for name in slots)
    return 0


@pytest.mark.parametrize("verb", ["drop", "hold", "retry", "behind"])
def test_memory_follows_what_waits_and_not_what_once_waited(verb: str) -> None:
    queue = queue_of(limits(total=1))
    queue.add(queued(0, session="s", priority=0))
    queue.hold_connection(B)
    few = entries(queue)
    for number in range(1, 3_000):
        run = queued(number, tree="t", key=B, session="t" if verb == "behind" else None, turn=number)
        queue.add(run)
        if verb == "hold":
            queue.hold(run.session_id)
            queue.unhold(run.session_id)
        queue.drop(run.job_id)
        if verb == "retry":
            queue.add(queued(-number, session="r", attempt=1, not_before_us=10**9))
            queue.drop(JobId(f"job-{-number}"))
    queue.drain_dirty()
    assert entries(queue) <= few + 200
