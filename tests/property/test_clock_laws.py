"""Laws of time: whatever is done to the wall clock, now never goes back, never stands still and never runs away."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from handshake.kernel.wall_time import Mark, follow
from handshake.testing.virtual_clock import START_US, VirtualClock
from tests.requirement import requirement

DAY_US = 86_400 * 1_000_000
SPANS = st.integers(0, DAY_US)
JUMPS = st.integers(-DAY_US, DAY_US)
HISTORIES = st.lists(st.tuples(SPANS, JUMPS), min_size=1, max_size=30)


@requirement("recovery.clock.jumps_are_harmless")
@given(HISTORIES)
def test_now_never_goes_back_and_never_stands_still(history: list[tuple[int, int]]) -> None:
    clock = VirtualClock()
    before = clock.now_us()
    for span_us, jump_us in history:
        clock.jump_wall(jump_us)
        jumped = clock.now_us()
        assert jumped >= before
        clock.advance(span_us)
        after = clock.now_us()
        assert after >= jumped + span_us // 2
        before = after


@requirement("recovery.clock.jumps_are_harmless")
@given(HISTORIES)
def test_now_is_the_wall_or_what_the_wall_once_was(history: list[tuple[int, int]]) -> None:
    clock = VirtualClock()
    wall_us = high_us = int(START_US)
    for span_us, jump_us in history:
        wall_us += jump_us
        clock.jump_wall(jump_us)
        high_us = max(high_us, wall_us)
        assert wall_us <= clock.now_us() <= high_us
        wall_us += span_us
        clock.advance(span_us)
        high_us = max(high_us + span_us // 2 + 1, wall_us)
        assert wall_us <= clock.now_us() <= high_us


@requirement("recovery.clock.jumps_are_harmless")
@given(st.integers(1, DAY_US), st.lists(st.integers(1, DAY_US), max_size=20))
def test_wall_that_was_set_back_is_believed_again_after_twice_the_span(back_us: int, looks: list[int]) -> None:
    """However often one looks on the way."""
    clock = VirtualClock()
    clock.now_us()
    clock.jump_wall(-back_us)
    passed_us = 0
    for look_us in looks:
        step_us = min(look_us, 2 * back_us - passed_us)
        clock.advance(step_us)
        passed_us += step_us
        assert clock.now_us() == START_US + passed_us // 2
    clock.advance(2 * back_us - passed_us)
    assert clock.now_us() == START_US + back_us
    clock.advance(1)
    assert clock.now_us() == START_US + back_us + 1


@requirement("recovery.clock.jumps_are_harmless")
@given(HISTORIES)
def test_suspends_and_jumps_move_no_wait_inside_the_process(history: list[tuple[int, int]]) -> None:
    clock = VirtualClock()
    for span_us, jump_us in history:
        before = clock.monotonic_us()
        clock.jump_wall(jump_us)
        assert clock.monotonic_us() == before
        clock.advance(span_us)
        assert clock.monotonic_us() == before + span_us


@given(st.integers(0, DAY_US), st.integers(-DAY_US, 2 * DAY_US), st.lists(SPANS, min_size=1, max_size=20))
def test_looking_more_often_changes_nothing(high_us: int, wall_us: int, spans: list[int]) -> None:
    mark, passed_us = Mark(high_us), 0
    for span_us in spans:
        passed_us += span_us
        mark = follow(mark, wall_us=wall_us + passed_us, monotonic_us=passed_us)
    once = follow(Mark(high_us), wall_us=wall_us + passed_us, monotonic_us=passed_us)
    assert mark.now_us == once.now_us
