"""Tests of limits: what counts as full, and that what is taken is freed."""

from __future__ import annotations

import pytest

from handshake.kernel.lane import Lane
from handshake.kernel.limit import Limits, SlotKey, Usage
from tests.requirement import requirement

KEY = SlotKey("p", "m", "g")
LIMITS = Limits(
    total=3, primary_reserved=1, provider_default=4, model_default=3, providers={"q": 1}, models={("p", "n"): 1},
    groups={"g": 2},
)  # fmt: skip


def used(*keys: SlotKey) -> Usage:
    usage = Usage()
    for key in keys:
        usage.take_connection(key)
    return usage


def test_named_limits_replace_the_default_of_their_kind() -> None:
    assert (LIMITS.of_provider(KEY), LIMITS.of_provider(SlotKey("q", "m", None))) == (4, 1)
    assert (LIMITS.of_model(KEY), LIMITS.of_model(SlotKey("p", "n", None))) == (3, 1)


@requirement("scheduler.limit.is_never_exceeded")
@pytest.mark.parametrize(
    ("held", "key", "reason"),
    [
        ((), KEY, None),
        ((SlotKey("q", "m", None),), SlotKey("q", "other", None), "provider_limit"),
        ((SlotKey("p", "n", None),), SlotKey("p", "n", None), "model_limit"),
        ((SlotKey("q", "n", None),), SlotKey("p", "n", None), None),
        ((SlotKey("p", "m", "g"), SlotKey("q", "x", "g")), KEY, "group_limit"),
        ((SlotKey("p", "m", "g"), SlotKey("q", "x", "g")), SlotKey("p", "m", None), None),
        ((SlotKey("p", "a", None),) * 4, KEY, "provider_limit"),
        ((SlotKey("p", "m", "unlimited"),) * 2, SlotKey("p", "m", "unlimited"), None),
    ],
)
def test_the_limit_that_is_reached_is_named(held: tuple[SlotKey, ...], key: SlotKey, reason: str | None) -> None:
    assert used(*held).full(key, LIMITS) == reason


def test_what_is_taken_is_freed_once() -> None:
    usage = used(KEY, KEY)
    usage.take_run(Lane.PRIMARY)
    usage.take_run(Lane.BACKGROUND)
    assert (usage.total, usage.primary) == (2, 1)
    assert usage.full(KEY, LIMITS) == "group_limit"
    assert usage.largest() == {"p": 2}
    usage.free_run(Lane.PRIMARY)
    usage.free_run(Lane.BACKGROUND)
    for _ in range(2):
        usage.free_connection(KEY)
    assert (usage.total, usage.primary) == (0, 0)
    assert usage.full(KEY, LIMITS) is None
    assert usage.largest() == {}


def test_a_lane_is_closed_by_the_slots_of_all_or_by_the_reserve() -> None:
    usage = Usage()
    assert usage.closed_to(Lane.BACKGROUND, LIMITS) is None
    for _ in range(2):
        usage.take_run(Lane.BACKGROUND)
    assert usage.closed_to(Lane.BACKGROUND, LIMITS) == "primary_reserve"
    assert usage.closed_to(Lane.PRIMARY, LIMITS) is None
    usage.take_run(Lane.PRIMARY)
    for lane in Lane:
        assert usage.closed_to(lane, LIMITS) == "global_limit"
