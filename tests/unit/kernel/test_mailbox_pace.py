"""Tests of the mailbox's pace: nothing beyond burst and rate, and whoever waits as long as he was told is let in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from handshake.kernel.mailbox_pace import AHEAD_US, STEP_US, Refusal, admit
from handshake.kernel.units import US_PER_MS, US_PER_S

START_US = 1_700_000_000 * US_PER_S


def test_a_burst_of_32_then_8_a_second() -> None:
    kept = 0
    for _ in range(32):
        after = admit(kept, 0, now_us=START_US)
        assert isinstance(after, int)
        kept = after
    refused = admit(kept, 0, now_us=START_US)
    assert refused == Refusal("mailbox_pace", 125)
    again = admit(kept, 0, now_us=START_US + 125 * US_PER_MS)
    assert isinstance(again, int)
    assert admit(again, 0, now_us=START_US + 125 * US_PER_MS) == refused


def test_a_full_mailbox_refuses_from_256_on() -> None:
    assert isinstance(admit(0, 255, now_us=START_US), int)
    assert admit(0, 256, now_us=START_US) == Refusal("mailbox_full", 1_000)


@given(st.lists(st.integers(0, 2 * US_PER_S), min_size=1, max_size=200))
def test_no_window_admits_more_than_burst_and_rate(gaps: list[int]) -> None:
    kept, now_us, admitted = 0, START_US, []
    for gap in gaps:
        now_us += gap
        after = admit(kept, 0, now_us=now_us)
        if isinstance(after, Refusal):
            later = admit(kept, 0, now_us=now_us + after.retry_after_ms * US_PER_MS)
            assert isinstance(later, int)
            assert isinstance(admit(kept, 0, now_us=now_us + (after.retry_after_ms - 1) * US_PER_MS), Refusal)
        else:
            kept = after
            admitted.append(now_us)
    for first, begin in enumerate(admitted):
        for last in range(first, len(admitted)):
            assert (last - first) * STEP_US <= AHEAD_US + admitted[last] - begin
