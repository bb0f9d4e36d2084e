"""Moments as people write them."""

from __future__ import annotations

import pytest

from handshake.kernel.errors import InvalidRequest
from handshake.kernel.moment import MAX_MOMENT_CHARS, parse_moment, rfc3339
from handshake.kernel.units import Microseconds

NOW_US = Microseconds(1_800_000_000_000_000)


@pytest.mark.parametrize(
    ("moment_us", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1, "1970-01-01T00:00:00.000001Z"),
        (951_782_399_999_999, "2000-02-28T23:59:59.999999Z"),
        (1_709_164_800_000_000, "2024-02-29T00:00:00.000000Z"),
    ],
)
def test_what_is_written_is_read_back(moment_us: int, text: str) -> None:
    assert rfc3339(moment_us) == text
    assert parse_moment("since", text, now_us=NOW_US) == moment_us


@pytest.mark.parametrize(
    ("text", "back_us"),
    [("0s", 0), ("250ms", 250_000), ("90s", 90_000_000), ("15m", 900_000_000), ("2h", 7_200_000_000)],
)
def test_a_span_counts_back_from_now(text: str, back_us: int) -> None:
    assert parse_moment("since", text, now_us=NOW_US) == NOW_US - back_us


def test_a_span_does_not_reach_before_1970() -> None:
    assert parse_moment("since", "999999999d", now_us=NOW_US) == 0


@pytest.mark.parametrize(
    "text", ["", "yesterday", "15 m", "-3s", "2026-01-31", "2026-01-31T08:00:00", "2026-13-01T00:00:00Z", "x" * 10_000]
)
def test_other_texts_are_refused_with_the_field(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_moment("since", text, now_us=NOW_US)
    assert refused.value.context == {"field": "since", "reason": "not_a_moment"}
    assert len(text) <= MAX_MOMENT_CHARS or len(str(refused.value)) < 200


def test_offsets_are_taken_into_account_and_earlier_years_refused() -> None:
    assert parse_moment("since", "1970-01-01T01:00:00+01:00", now_us=NOW_US) == 0
    with pytest.raises(InvalidRequest, match="before_1970"):
        parse_moment("since", "1969-12-31T23:59:59Z", now_us=NOW_US)
