"""Suggestion: finds the near word, and nothing where nothing is near."""

from __future__ import annotations

import pytest

from handshake.kernel.suggestion import MAX_WORD_CHARS, suggest

WORDS = ("scheduler", "providers", "recorder", "calls")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("schedular", "scheduler"),
        ("SCHEDULER", "scheduler"),
        ("provider", "providers"),
        ("zzz", None),
        ("", None),
        ("scheduler" * MAX_WORD_CHARS, None),
    ],
)
def test_the_nearest_word_is_suggested(word: str, meant: str | None) -> None:
    assert suggest(word, WORDS) == meant


def test_without_candidates_nothing_is_suggested() -> None:
    assert suggest("a", ()) is None
