"""Text patch: what a text becomes by exact replacements or by the hunks of a unified diff; all of them fit, or none.

Nothing is guessed: a replacement's old text stands there exactly as often as it says, and a hunk's lines where it says,
or else at exactly one place behind the hunk before it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from handshake.kernel.errors import InvalidRequest
from handshake.kernel.settings import MAX_FILE_EDITS

_HUNK = re.compile(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@.*")
_NO_NEWLINE = "\\"
_FILE_HEADER = re.compile(r"(diff |index |--- |\+\+\+ )")


class Replacement(msgspec.Struct, frozen=True, gc=False):
    """A text that stands in a file, and what stands there afterwards."""

    old: str
    new: str
    count: int = 1
    """How often `old` stands there; every one is replaced."""


class Hunk(msgspec.Struct, frozen=True, gc=False):
    """Lines that stand in a file, with their ends, and what stands there afterwards."""

    line: int
    """Where the old lines begin, from 1; of an insertion without context, the line before it, from 0."""
    old: tuple[str, ...]
    new: tuple[str, ...]


def replaced(text: str, replacements: Sequence[Replacement]) -> str:
    """Return `text` after the replacements, each made in what the one before it left.

    Raises:
        InvalidRequest: field `replacements`, with the `place` of the one at fault from 0; reason `empty`, `not_found`
            or `found_more_often`.
    """
    for place, one in enumerate(replacements):
        if not one.old:
            raise InvalidRequest(field="replacements", reason="empty", place=place)
        found = text.count(one.old)
        if found != one.count:
            reason = "not_found" if found < one.count else "found_more_often"
            raise InvalidRequest(field="replacements", reason=reason, place=place, found=found)
        text = text.replace(one.old, one.new)
    return text


def parse_hunks(diff: str) -> tuple[Hunk, ...]:
    """Return the hunks of one file's unified diff; lines before the first that name files are passed over.

    Raises:
        InvalidRequest: field `diff`; reason `no_hunks`, `too_many_hunks`, `line` (that begins with none of blank, `-`,
            `+` and backslash), or `line_counts` (a header counts otherwise); `at_line` from 1.
    """
    lines = diff.split("\n")
    if lines[-1] == "":
        lines.pop()
    at = 0
    while at < len(lines) and _FILE_HEADER.match(lines[at]):
        at += 1
    hunks: list[Hunk] = []
    while at < len(lines):
        header = _HUNK.fullmatch(lines[at])
        if header is None:
            raise InvalidRequest(field="diff", reason="line", at_line=at + 1)
        if len(hunks) == MAX_FILE_EDITS:
            raise InvalidRequest(field="diff", reason="too_many_hunks", limit=MAX_FILE_EDITS)
        hunk, after = _hunk(header, lines, at + 1)
        if not hunk.old and not hunk.new:
            raise InvalidRequest(field="diff", reason="line_counts", at_line=at + 1)
        hunks.append(hunk)
        at = after
    if not hunks:
        raise InvalidRequest(field="diff", reason="no_hunks")
    return tuple(hunks)


def patched(text: str, hunks: Sequence[Hunk]) -> str:
    """Return `text` after the hunks.

    Raises:
        InvalidRequest: field `diff`, with the `place` of the hunk at fault from 0; reason `not_found`, or `ambiguous`
            (its lines stand at several places, and not at its own).
    """
    lines = _lines(text)
    out: list[str] = []
    read = 0
    for place, hunk in enumerate(hunks):
        at = _place_of(lines, hunk, read, place)
        out += [*lines[read:at], *hunk.new]
        read = at + len(hunk.old)
    out += lines[read:]
    if any(not line.endswith("\n") for line in out[:-1]):
        raise InvalidRequest(field="diff", reason="not_found", place=len(hunks) - 1)
    return "".join(out)


def _lines(text: str) -> list[str]:
    """Return the lines with their ends; only a newline ends one."""
    lines = [f"{line}\n" for line in text.split("\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def _place_of(lines: Sequence[str], hunk: Hunk, read: int, place: int) -> int:
    stated = hunk.line - 1 if hunk.old else hunk.line
    if stated >= read and _stands(lines, hunk.old, stated):
        return stated
    found: list[int] = []
    at = read - 1
    while hunk.old and len(found) < 2:
        try:
            at = lines.index(hunk.old[0], at + 1)
        except ValueError:
            break
        if _stands(lines, hunk.old, at):
            found.append(at)
    if len(found) == 1:
        return found[0]
    reason = "ambiguous" if found else "not_found"
    raise InvalidRequest(field="diff", reason=reason, place=place, line=hunk.line)


def _stands(lines: Sequence[str], old: Sequence[str], at: int) -> bool:
    return at + len(old) <= len(lines) and all(lines[at + number] == line for number, line in enumerate(old))


def _hunk(header: re.Match[str], lines: Sequence[str], at: int) -> tuple[Hunk, int]:
    start = at
    left_old, left_new = (int(header[group] if header[group] is not None else "1") for group in (2, 4))
    old: list[str] = []
    new: list[str] = []
    while at < len(lines) and (left_old or left_new):
        sign, rest = lines[at][:1], f"{lines[at][1:]}\n"
        if sign not in ("", " ", "-", "+"):
            break
        if sign != "+":
            old.append(rest)
            left_old -= 1
        if sign != "-":
            new.append(rest)
            left_new -= 1
        at += 1
        at = _ended(lines, at, sign, old, new)
    if left_old or left_new:
        known = at < len(lines) and (lines[at][:1] in ("", " ", "-", "+") or _HUNK.fullmatch(lines[at]))
        reason = "line_counts" if known or at == len(lines) else "line"
        raise InvalidRequest(field="diff", reason=reason, at_line=(at if reason == "line" else start - 1) + 1)
    return Hunk(int(header[1]), tuple(old), tuple(new)), at


def _ended(lines: Sequence[str], at: int, sign: str, old: list[str], new: list[str]) -> int:
    """Take the newline from the line before, if the diff says that the file ends without one."""
    if at == len(lines) or not lines[at].startswith(_NO_NEWLINE):
        return at
    if sign != "+":
        old[-1] = old[-1][:-1]
    if sign != "-":
        new[-1] = new[-1][:-1]
    return at + 1
