"""Tests of lanes: strides, ties, the way back after idling, and PRIMARY's reserve."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest

from handshake.kernel.lane import LANES, STRIDE_UNIT, Lane, charge, may_take, next_lane, rejoin, stride
from tests.requirement import requirement

WEIGHTS = {Lane.PRIMARY: 8, Lane.VALIDATION: 4, Lane.SUBAGENT: 3, Lane.BACKGROUND: 1}


@pytest.mark.parametrize("weight", range(1, 11))
def test_usual_weights_share_exactly(weight: int) -> None:
    assert stride(weight) * weight == STRIDE_UNIT


def test_the_lowest_pass_goes_next_and_ties_go_by_rank() -> None:
    assert next_lane(LANES, dict.fromkeys(LANES, 7)) is Lane.PRIMARY
    assert next_lane(reversed(LANES), dict.fromkeys(LANES, 7)) is Lane.PRIMARY
    passes = {Lane.PRIMARY: 9, Lane.VALIDATION: 3, Lane.SUBAGENT: 3, Lane.BACKGROUND: 5}
    assert next_lane(LANES, passes) is Lane.VALIDATION
    assert next_lane((Lane.BACKGROUND, Lane.PRIMARY), passes) is Lane.BACKGROUND
    assert next_lane((), passes) is None


@requirement("scheduler.lane.low_lanes_progress")
def test_lanes_that_always_have_work_share_by_weight_in_every_window() -> None:
    passes, virtual = dict.fromkeys(LANES, 0), 0
    order = []
    for _ in range(16 * 20):
        lane = next_lane(LANES, passes)
        assert lane is not None
        order.append(lane)
        virtual = max(virtual, min(passes.values()))
        passes[lane] = charge(passes[lane], virtual, weight=WEIGHTS[lane])
    for start in range(len(order) - 16):
        share = Counter(order[start : start + 16])
        assert all(abs(share[lane] - WEIGHTS[lane]) <= 1 for lane in LANES)


def test_idling_saves_nothing_and_costs_nothing() -> None:
    assert rejoin(own_pass=10, virtual_time=500) == 500
    assert rejoin(own_pass=700, virtual_time=500) == 700


def test_a_dispatch_is_paid_as_of_virtual_time_and_debt_is_bounded() -> None:
    assert charge(0, 10_000, weight=8) == 10_000 + stride(8)
    assert charge(10_100, 10_000, weight=8) == 10_100 + stride(8)
    assert charge(15_000, 10_000, weight=1) == 10_000 + STRIDE_UNIT


@requirement("scheduler.lane.primary_never_starves")
@pytest.mark.parametrize("lane", LANES)
def test_other_lanes_never_hold_the_reserve(lane: Lane) -> None:
    for limit, reserved in product(range(1, 6), range(4)):
        for primary, others in product(range(limit + 1), repeat=2):
            running = primary + others
            if reserved < limit and running <= limit and others <= limit - reserved:
                taken = may_take(lane, running=running, primary=primary, limit=limit, reserved=reserved)
                room = running < limit
                assert taken == (room and (lane is Lane.PRIMARY or others < limit - reserved))


@requirement("scheduler.lane.low_lanes_progress")
def test_the_last_free_slot_is_not_closed_while_primary_uses_its_reserve() -> None:
    assert may_take(Lane.BACKGROUND, running=3, primary=3, limit=4, reserved=1)
    assert not may_take(Lane.BACKGROUND, running=3, primary=0, limit=4, reserved=1)
