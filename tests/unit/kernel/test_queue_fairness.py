"""Tests of who shares what in the queue: lanes by weight with PRIMARY's reserve, trees in turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from handshake.kernel.lane import LANES, Lane
from handshake.kernel.limit import Limits, SlotKey
from handshake.kernel.queue import RunQueue
from handshake.kernel.queued_run import QueuedRun
from tests.queueing import WEIGHTS, drain, end, limits, queue_of, queued
from tests.requirement import requirement

A, B, C = (SlotKey(name, "model", None) for name in "abc")
LOW = (Lane.VALIDATION, Lane.SUBAGENT, Lane.BACKGROUND)


def one_by_one(queue: RunQueue, count: int) -> list[QueuedRun]:
    """Keep all slots taken, let the oldest run end, `count` times; return what was started."""
    running: list[QueuedRun] = []
    started = []
    for _ in range(count):
        while (run := queue.take(0)) is not None:
            running.append(run)
            started.append(run)
        end(queue, running.pop(0))
    return started


def all_at_once(queue: RunQueue, count: int) -> list[QueuedRun]:
    """Take as many as may start, let them all end, until `count` were started."""
    started: list[QueuedRun] = []
    while len(started) < count:
        batch = []
        while (run := queue.take(0)) is not None:
            batch.append(run)
        for run in batch:
            end(queue, run)
        started += batch
    return started


@requirement("scheduler.lane.primary_never_starves")
def test_primary_starts_at_once_behind_a_thousand_background_runs() -> None:
    queue = queue_of(limits(total=4, reserved=1))
    for number in range(1, 1_001):
        queue.add(queued(number, lane=Lane.BACKGROUND, priority=0))
    background = [queue.take(0), queue.take(0), queue.take(0)]
    assert None not in background
    assert queue.take(0) is None
    queue.add(queued(1_001, priority=99))
    primary = queue.take(0)
    assert primary is not None
    assert primary.lane is Lane.PRIMARY


@requirement("scheduler.lane.primary_never_starves")
@pytest.mark.parametrize("total", [1, 2, 5])
def test_primary_starts_at_the_next_free_slot(total: int) -> None:
    queue = queue_of(limits(total=total, reserved=min(1, total - 1)))
    for number in range(1, 1_001):
        queue.add(queued(number, lane=Lane.BACKGROUND))
    running = [run for _ in range(total) if (run := queue.take(0)) is not None]
    for number in range(1_001, 1_006):
        queue.add(queued(number))
        if len(running) == total:
            end(queue, running.pop(0))
        primary = queue.take(0)
        assert primary is not None
        assert primary.enqueue_seq == number
        end(queue, primary)
        running += [run for _ in range(total) if (run := queue.take(0)) is not None]


@requirement("scheduler.lane.low_lanes_progress")
@pytest.mark.parametrize("play", [one_by_one, all_at_once])
@pytest.mark.parametrize(("total", "reserved"), [(1, 0), (2, 1), (3, 1), (8, 1), (64, 1)])
def test_each_lane_gets_its_share_under_endless_load(
    total: int, reserved: int, play: Callable[[RunQueue, int], list[QueuedRun]]
) -> None:
    queue = queue_of(limits(total=total, reserved=reserved))
    for number, lane in enumerate(lane for lane in LANES for _ in range(900)):
        queue.add(queued(number, lane=lane))
    window = 16 * 40
    started = Counter(run.lane for run in play(queue, window + total)[:window])
    for lane in LOW:
        assert started[lane] >= window * WEIGHTS[lane] // 16 - 2, lane


@requirement("scheduler.lane.low_lanes_progress")
def test_low_lanes_share_what_a_large_reserve_leaves_by_weight() -> None:
    queue = queue_of(limits(total=3, reserved=2))
    for number, lane in enumerate(lane for lane in LANES for _ in range(2_000)):
        queue.add(queued(number, lane=lane))
    running: list[QueuedRun] = []
    low: Counter[Lane] = Counter()
    for _ in range(1_500):
        while (run := queue.take(0)) is not None:
            running.append(run)
            low[run.lane] += 1
        # a run of a low lane takes as long as ten of PRIMARY
        short = [run for run in running if run.lane is Lane.PRIMARY]
        for run in short[:2] if sum(low.values()) % 11 else running[:]:
            running.remove(run)
            end(queue, run)
    assert low[Lane.BACKGROUND] > 10
    assert abs(low[Lane.VALIDATION] - 4 * low[Lane.BACKGROUND]) <= 4
    assert abs(low[Lane.SUBAGENT] - 3 * low[Lane.BACKGROUND]) <= 3


@requirement("scheduler.lane.low_lanes_progress")
def test_low_lanes_on_a_slow_provider_progress_beside_fast_primary_runs() -> None:
    queue = queue_of(Limits(total=64, primary_reserved=1, provider_default=1, model_default=1))
    for number in range(1, 5_001):
        queue.add(queued(number, key=A))
    for number, lane in enumerate((lane for lane in LOW for _ in range(100)), 5_001):
        queue.add(queued(number, key=B, lane=lane))
    started: Counter[Lane] = Counter()
    fast, slow = queue.take(0), queue.take(0)
    for tick in range(1, 3_000):
        assert fast is not None
        assert slow is not None
        end(queue, fast)
        fast = queue.take(0)
        if tick % 30 == 0:
            end(queue, slow)
            slow = queue.take(0)
            assert slow is not None
            started[slow.lane] += 1
    assert min(started[lane] for lane in LOW) >= 12


def test_a_lane_that_idled_saves_no_credit() -> None:
    queue = queue_of(limits(total=1))
    for number in range(1, 101):
        queue.add(queued(number))
    one_by_one(queue, 50)
    for number in range(101, 201):
        queue.add(queued(number, lane=Lane.VALIDATION))
    share = Counter(run.lane for run in drain(queue)[:12])
    assert share[Lane.VALIDATION] == 4


def test_a_lane_that_its_provider_held_up_saves_one_dispatch() -> None:
    queue = queue_of(Limits(total=2, primary_reserved=0, provider_default=1, model_default=1, providers={"a": 2}))
    for number in range(1, 401):
        queue.add(queued(number, key=A))
    for number in range(401, 420):
        queue.add(queued(number, key=B, lane=Lane.BACKGROUND))
    queue.hold_connection(B)
    one_by_one(queue, 200)
    queue.free_connection(B)
    share = Counter(run.lane for run in drain(queue)[:18])
    assert share[Lane.BACKGROUND] <= 3


@requirement("scheduler.fairness.between_trees")
def test_a_flood_of_one_tree_does_not_starve_another() -> None:
    queue = queue_of(limits(total=1))
    for number in range(1, 1_001):
        queue.add(queued(number, tree="flood"))
    for number in range(1_001, 1_006):
        queue.add(queued(number, tree="small"))
    taken = one_by_one(queue, 12)
    assert Counter(run.fairness_key for run in taken[:10]) == {"flood": 5, "small": 5}


@requirement("scheduler.fairness.between_trees")
def test_a_tree_that_comes_late_waits_for_two_runs_of_a_flood_at_most() -> None:
    for served in (0, 1, 7, 100):
        queue = queue_of(limits(total=1))
        for number in range(1, 1_001):
            queue.add(queued(number, tree="flood"))
        one_by_one(queue, served)
        queue.add(queued(1_001, tree="late"))
        assert 1_001 in [run.enqueue_seq for run in drain(queue)[:3]]


@requirement("scheduler.fairness.between_trees")
def test_trees_on_a_slow_provider_stay_fair_whatever_others_do() -> None:
    queue = queue_of(Limits(total=64, primary_reserved=0, provider_default=1, model_default=1))
    for number in range(1, 3_001):
        queue.add(queued(number, key=A, tree=f"busy-{number % 7}"))
    for number in range(3_001, 3_101):
        queue.add(queued(number, key=B, tree="flood"))
    queue.add(queued(3_101, key=B, tree="small"))
    order = []
    fast, slow = queue.take(0), queue.take(0)
    for tick in range(1, 200):
        assert fast is not None
        assert slow is not None
        end(queue, fast)
        fast = queue.take(0)
        if tick % 40 == 0:
            end(queue, slow)
            slow = queue.take(0)
            assert slow is not None
            order.append(slow.fairness_key)
    assert "small" in order[:2]


@requirement("scheduler.fairness.between_trees")
def test_new_trees_do_not_starve_one_that_was_served_before() -> None:
    queue = queue_of(limits(total=1))
    queue.add(queued(1, session="old", turn=1))
    first = queue.take(0)
    assert first is not None
    queue.add(queued(2, session="old", turn=2))
    for number in range(3, 8):
        queue.add(queued(number))
    end(queue, first)
    order = []
    for number in range(8, 40):
        run = queue.take(0)
        assert run is not None
        order.append(run.enqueue_seq)
        end(queue, run)
        queue.add(queued(number))
    assert 2 in order[:7]


def test_one_tree_in_two_bins_has_one_share_of_the_slots_of_all() -> None:
    queue = queue_of(limits(total=1))
    for number in range(1, 101):
        queue.add(queued(number, tree="wide", key=(A, B, C)[number % 3]))
    for number in range(101, 201):
        queue.add(queued(number, tree="narrow", key=A))
    share = Counter(run.fairness_key for run in drain(queue)[:60])
    assert abs(share["wide"] - share["narrow"]) <= 2
