"""Glob: patterns in which `*` stands for any run of characters, compared in linear time.

A pattern contains another if it matches it with the other's `*` taken as a character that no literal part has: so one
function answers both questions, and answers the second one exactly.
"""

from __future__ import annotations

WILD = "*"


def matches(pattern: str, text: str, wild: str = WILD) -> bool:
    """Return whether `pattern` matches `text`, or, where `text` is a pattern, contains it."""
    if wild not in pattern:
        return pattern == text
    first, *middle, last = pattern.split(wild)
    end = len(text) - len(last)
    at = len(first)
    if end < at or not text.startswith(first) or not text.endswith(last):
        return False
    for part in middle:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def overlaps(one: str, other: str, wild: str = WILD) -> bool:
    """Return whether some text may match both; of two patterns only the ends are compared, and the rest may."""
    if wild not in one:
        return matches(other, one, wild)
    if wild not in other:
        return matches(one, other, wild)
    starts = sorted((one.partition(wild)[0], other.partition(wild)[0]), key=len)
    ends = sorted((one.rpartition(wild)[2], other.rpartition(wild)[2]), key=len)
    return starts[1].startswith(starts[0]) and ends[1].endswith(ends[0])
