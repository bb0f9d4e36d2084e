"""Line pattern: what is searched for, matched in time that grows with the text and never with its tricks.

Regular expressions come from models. The interpreter's own engine can be made to backtrack for years; the one in the
schema validator that the gate needs anyway works in linear time, and refuses what cannot be done in it. Linear can be
slow as well, and nothing interrupts it: so the pattern's size and the length of what it is matched against are bounded.

Source:
    decision 0024.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import jsonschema_rs

from handshake.kernel.settings import MAX_PATTERN_LINE_CHARS, MAX_PATTERN_PROGRAM_BYTES
from handshake.ports.tool import ToolFailed

LinePattern = Callable[[str], bool]
"""Whether a line, without its end, matches."""

_GOES_ON = "\0"
"""Stands for the rest of a line, so that the place where it was cut is not taken for its end."""
_MEANING = re.compile(r"[\\.+*?()|\[\]{}^$/-]")


def line_pattern(query: str, *, is_regex: bool, ignore_case: bool) -> LinePattern:
    """Return the pattern of a search.

    Raises:
        ToolFailed: the query is no regular expression that can be matched in linear time, or a huge one.
    """
    if not is_regex and not ignore_case:
        return lambda line: query in line
    pattern = query if is_regex else _MEANING.sub(lambda found: "\\" + found[0], query)
    options = jsonschema_rs.RegexOptions(size_limit=MAX_PATTERN_PROGRAM_BYTES, dfa_size_limit=MAX_PATTERN_PROGRAM_BYTES)
    try:
        validator = jsonschema_rs.validator_for(
            {"pattern": f"(?i){pattern}" if ignore_case else pattern}, pattern_options=options
        )
    except (jsonschema_rs.ValidationError, ValueError):
        raise ToolFailed(
            "HSK-400-INVALID-REQUEST",
            "the query is no regular expression of linear time: no look-around, no back-reference, no huge repetition",
        ) from None
    matches = validator.is_valid
    return lambda line: matches(
        line if len(line) <= MAX_PATTERN_LINE_CHARS else line[:MAX_PATTERN_LINE_CHARS] + _GOES_ON
    )
