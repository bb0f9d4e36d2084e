"""Tests of globs: what matches, and that a pattern is inside another only if all that it matches is."""

from __future__ import annotations

import pytest

from handshake.kernel.glob import matches, overlaps


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("a", "a", True),
        ("a", "ab", False),
        ("*", "", True),
        ("a*", "a", True),
        ("*.py", "x.py", True),
        ("*.py", ".pyc", False),
        ("a*b*c", "a-b-b-c", True),
        ("a*b*c", "acb", False),
        ("ab*ba", "aba", False),
        ("*aa*aa*", "aaa", False),
    ],
)
def test_a_star_is_any_run_of_characters(pattern: str, text: str, expected: bool) -> None:
    assert matches(pattern, text) is expected


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [("a*", "ab*", True), ("ab*", "a*", False), ("*", "*", True), ("a*c", "a*b*c", True), ("a*b*c", "a*c", False)],
)
def test_a_pattern_contains_what_only_matches_less(wide: str, narrow: str, expected: bool) -> None:
    assert matches(wide, narrow) is expected


def test_patterns_overlap_unless_their_ends_differ() -> None:
    assert overlaps("a*", "*b")
    assert overlaps("ab*", "a*")
    assert not overlaps("a*", "b*")
    assert not overlaps("*a", "*b")
    assert not overlaps("a*", "b")
