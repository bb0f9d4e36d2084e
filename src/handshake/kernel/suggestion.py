"""Suggestion: the known word that an unknown one was probably meant to be."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

MAX_WORD_CHARS = 200
"""Longest word that is compared: comparing costs the product of the lengths."""
MIN_LIKENESS = 0.6
"""Share of characters that must agree (0 to 1)."""


def suggest(word: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that is most like `word`, whatever its case; None if none is like it."""
    if len(word) > MAX_WORD_CHARS:
        return None
    by_plain = {candidate.lower(): candidate for candidate in candidates}
    close = get_close_matches(word.lower(), by_plain, n=1, cutoff=MIN_LIKENESS)
    return by_plain[close[0]] if close else None
