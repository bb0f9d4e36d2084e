"""Write scope: whether two sessions could write the same file, and who gets what when they could.

A scope is a workspace-relative path or glob, as a grant of `fs.write` has it; what lies below a path is in it. Two
scopes overlap unless it is certain that they do not: case and Unicode forms are not told apart, because some file
systems do not, and what cannot be read overlaps with everything.

Source:
    gate.workspace.no_overlap (02 §7; INV-MM-003).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import msgspec

from handshake.kernel.ids import SessionId

EVERYTHING = "**"
"""The scope of a grant of `fs.write` without one."""
_KNOWN_SCOPES = 4_096
"""Scopes that are taken apart once: those of the sessions that write at the moment."""
_ANY_STEPS = "**"
_ANY_CHARS = "*"
_ANY_CHAR = "?"
_SET = re.compile(r"\[[^\]]*\]|\{[^}]*\}")
"""Sets and alternatives of a name; they stand for any text here."""

Steps = tuple[str, ...]


class Holding(msgspec.Struct, frozen=True, gc=False):
    """The scopes that one session holds or waits for, and since when, in microseconds since 1970."""

    session_id: SessionId
    scopes: tuple[str, ...]
    since_us: int


def overlap(one: str, other: str) -> bool:
    """Return whether some file could be in both scopes, or nobody can tell."""
    first, second = _steps(one), _steps(other)
    return first is None or second is None or _meet(first, second, _ANY_STEPS, _names_meet)


def any_overlap(some: Iterable[str], others: Sequence[str]) -> bool:
    """Return whether a scope of the one session overlaps with one of the other's."""
    return any(overlap(one, other) for one in some for other in others)


def holder_of(wanted: Iterable[str], held: Iterable[Holding]) -> Holding | None:
    """Return who holds a scope that overlaps with one of `wanted`: of several, who has held it for longest."""
    wanted = tuple(wanted)
    for one in sorted(held, key=lambda one: (one.since_us, one.session_id)):
        if any_overlap(wanted, one.scopes):
            return one
    return None


def admitted(waiting: Iterable[Holding], held: Iterable[Holding]) -> list[Holding]:
    """Return who of those that wait gets its scopes now, in the order in which they came.

    One that goes on waiting keeps nobody from what it waits for: it holds nothing.
    """
    holdings = list(held)
    found: list[Holding] = []
    for one in sorted(waiting, key=lambda one: (one.since_us, one.session_id)):
        if holder_of(one.scopes, (other for other in holdings if other.session_id != one.session_id)) is None:
            holdings.append(one)
            found.append(one)
    return found


@lru_cache(maxsize=_KNOWN_SCOPES)
def _steps(scope: str) -> Steps | None:
    """Return the steps of a scope, with all below them, as they are compared; None if they cannot be told."""
    if not scope or scope.startswith("/") or "\\" in scope or "\0" in scope:
        return None
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", scope).casefold())
    steps = tuple(_SET.sub(_ANY_CHARS, step) for step in text.split("/") if step not in ("", "."))
    return None if ".." in steps else (*steps, _ANY_STEPS)


def _meet(one: Sequence[str], other: Sequence[str], several: str, fit: Callable[[str, str], bool]) -> bool:
    """Return whether a sequence can fit both patterns, of whose parts `several` stands for any number of any parts.

    Args:
        one: a pattern; its parts are followed one after another.
        other: a pattern; at any time, what was followed can end at some places of it.
        several: the part that stands for many.
        fit: whether something fits a part of the one and one of the other.
    """
    places = _past(several, {0}, other)
    for part in one:
        if part == several:
            places = set(range(min(places), len(other) + 1))
            continue
        open_places = [at for at in places if at < len(other)]
        stay = {at for at in open_places if other[at] == several}
        go_on = {at + 1 for at in open_places if other[at] != several and fit(part, other[at])}
        places = _past(several, stay | go_on, other)
        if not places:
            return False
    return len(other) in places


def _past(several: str, places: set[int], pattern: Sequence[str]) -> set[int]:
    """Return the places and those behind each `several` at them, which may stand for nothing."""
    found = set(places)
    for at in range(len(pattern)):
        if at in found and pattern[at] == several:
            found.add(at + 1)
    return found


def _names_meet(one: str, other: str) -> bool:
    return _meet(one, other, _ANY_CHARS, lambda char, with_it: char == with_it or _ANY_CHAR in (char, with_it))
