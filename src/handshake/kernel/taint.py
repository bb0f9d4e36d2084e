"""Taint: what of a call in a tainted run is bounded by nobody: its sinks, and the links inside its content.

A run is tainted if something in its request comes from where nobody vouches for it. Then whatever chooses a
destination, recipient or amount must be fixed by a grant, or stand literally in what the operator said.

Source:
    trust.taint.asks_for_unbounded (02 §6).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import StrEnum

import msgspec

from handshake.kernel.grant_settings import MAX_SINK_VALUES, MIN_TOKEN_CHARS
from handshake.kernel.pointer import found, is_within

_MAX_SCHEME_CHARS = 32
_MAX_OCCURRENCES = 1_000
"""Places at which a value is looked at in one text; one that stands in more is no name of anything."""
_LINK_START = re.compile(r"https?:|//|www\.|mailto:", re.ASCII | re.IGNORECASE)
_LINK_ENDS = frozenset("<>\"'`()[]{}|\\^")
_MARKS_IN_TOKENS = frozenset("_-./@%+=&~#$\\*:?!,;|")
"""Characters that may be part of a token, besides letters and digits."""
_SENTENCE_ENDS = frozenset(".:?!,;")
"""Of those, the ones that end a sentence where only space follows."""


class Taint(msgspec.Struct, frozen=True, gc=False):
    """Which messages or calls brought untrusted content into a run; none: it is not tainted."""

    by: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Return whether the run is tainted."""
        return bool(self.by)


class FindingKind(StrEnum):
    """What of a call is not bounded."""

    SINK = "sink"
    LINK = "link"
    """Inside a content argument."""


class Finding(msgspec.Struct, frozen=True, gc=False):
    """One value that nobody stands for. The value is content: for the desk, never for an event."""

    pointer: str
    kind: FindingKind
    value: str


def unbounded_sinks(
    sinks: Sequence[str],
    content: Sequence[str],
    args: object,
    *,
    fixed: Collection[str],
    trusted_texts: Sequence[str],
) -> tuple[Finding, ...]:
    """Return what of a call in a tainted run needs a person.

    Args:
        sinks: pointers to the arguments that choose a destination, recipient or amount.
        content: pointers to the arguments whose links are looked at.
        args: the call's arguments, parsed.
        fixed: sinks that a grant fixes.
        trusted_texts: the operator's input, and content that the runtime or a trusted source stands for; never the
            text of a client's key.

    Source:
        trust.taint.asks_for_unbounded (02 §6).
    """
    unbounded = [
        Finding(place, FindingKind.SINK, value)
        for pointer in sinks
        for place, inner in found(pointer, args)
        if not any(is_within(place, one) for one in fixed)
        for value in _values(inner)
        if not is_said(value, trusted_texts)
    ]
    unbounded += [
        Finding(place, FindingKind.LINK, link)
        for pointer in content
        for place, inner in found(pointer, args)
        for value in _values(inner)
        for link in links_in(value)
        if not is_said(link, trusted_texts)
    ]
    return tuple(unbounded)


def is_said(value: str, texts: Sequence[str]) -> bool:
    """Return whether one of `texts` is `value`, or says it: `MIN_TOKEN_CHARS` or longer, and no part of a word."""
    if any(text.strip() == value for text in texts):
        return True
    return len(value) >= MIN_TOKEN_CHARS and any(_says(text, value) for text in texts)


def links_in(text: str) -> Iterator[str]:
    """Yield every link in a text, with its scheme if it has one, until a character that no link has."""
    last = 0
    for start in _LINK_START.finditer(text):
        if start.start() < last:
            continue
        end = start.end()
        while end < len(text) and not text[end].isspace() and text[end] not in _LINK_ENDS:
            end += 1
        link = text[start.start() : end].rstrip(".,;:!?")
        if any(one.isalnum() for one in link[start.end() - start.start() :]):
            yield text[_scheme_start(text, start.start(), last) : start.start()] + link
        last = end


def _scheme_start(text: str, at: int, floor: int) -> int:
    """Return where the scheme before `://` begins, or `at`."""
    if not text.startswith("//", at) or at == floor or text[at - 1] != ":":
        return at
    start = at - 1
    while start > max(floor, at - _MAX_SCHEME_CHARS) and (text[start - 1].isalnum() or text[start - 1] in "+-."):
        start -= 1
    return start


def _values(value: object) -> Iterator[str]:
    """Yield the texts of a value, numbers as JSON writes them; of too many, one that nobody says."""
    for count, one in enumerate(_leaves(value)):
        if count >= MAX_SINK_VALUES:
            yield "\0"
            return
        if isinstance(one, str):
            yield one
        elif one is not None:
            yield msgspec.json.encode(one).decode()


def _leaves(value: object) -> Iterator[object]:
    """Yield all that chooses something in `value`: itself, or the names and values within it, in their order."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            waiting.extend(part for key in reversed(list(one)) for part in (one[key], key))
        elif isinstance(one, list | tuple):
            waiting.extend(reversed(one))
        else:
            yield one


def _says(text: str, value: str) -> bool:
    at = -1
    for _ in range(_MAX_OCCURRENCES):
        at = text.find(value, at + 1)
        if at < 0:
            return False
        if _is_bound_before(text, at) and _is_bound_after(text, at + len(value)):
            return True
    return False


def _is_bound_before(text: str, at: int) -> bool:
    return at == 0 or not _is_in_token(text[at - 1])


def _is_bound_after(text: str, end: int) -> bool:
    """Return whether a token ends at `end`; marks that end a sentence are no part of it."""
    while end < len(text) and text[end] in _SENTENCE_ENDS:
        end += 1
        if end == len(text) or text[end].isspace():
            return True
    return end == len(text) or not _is_in_token(text[end])


def _is_in_token(one: str) -> bool:
    return one.isalnum() or one in _MARKS_IN_TOKENS
