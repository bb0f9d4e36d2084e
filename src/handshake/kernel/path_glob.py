"""Path glob: workspace-relative paths and globs, by segment; `*` stays within one, `**` is any number of them.

A path is read into one form, or refused: no way to write `..`, an absolute path, a drive or another separator is left.

Source:
    capability.axis.contains_scopes, capability.path.runtime_folder_closed (02 §1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from unicodedata import normalize

from handshake.kernel import glob, workspace_path
from handshake.kernel.errors import UnknownCapability
from handshake.kernel.grant_settings import MAX_SCOPE_SEGMENTS

ANY_DEPTH = "**"
ROOT = "."
"""How the workspace's own folder is written."""

Segments = tuple[str, ...]

_DRIVE = re.compile(r"[A-Za-z]:")
_STARS = re.compile(r"\*{2,}")


def parse(text: str) -> Segments:
    """Return the segments that a path or glob names; none for the workspace's own folder.

    `a/./b` and `a//b` are `a/b`; a slash at the end stands for all that is in the folder.

    Raises:
        UnknownCapability: `reason` says what no scope may have.
    """
    if not text:
        raise UnknownCapability(axis="path", reason="empty")
    if "\\" in text or not text.isprintable():
        raise UnknownCapability(axis="path", reason="character")
    if text.startswith("/") or _DRIVE.match(text):
        raise UnknownCapability(axis="path", reason="absolute")
    folded = normalize("NFC", text)
    found: list[str] = []
    for segment in (folded + ANY_DEPTH if folded.endswith("/") else folded).split("/"):
        if segment in ("", "."):
            continue
        _check(segment)
        one = ANY_DEPTH if _STARS.fullmatch(segment) else _STARS.sub(glob.WILD, segment)
        if not (one == ANY_DEPTH and found and found[-1] == ANY_DEPTH):
            found.append(one)
    if len(found) > MAX_SCOPE_SEGMENTS:
        raise UnknownCapability(axis="path", reason="too_deep", limit=MAX_SCOPE_SEGMENTS)
    return tuple(found)


def spell(segments: Segments) -> str:
    """Return the one spelling of a path or glob."""
    return "/".join(segments) or ROOT


def with_all_inside(segments: Segments) -> Segments:
    """Return what a person means by a path without `*`: the file, or the folder with all that is in it."""
    return segments if any(glob.WILD in one for one in segments) else (*segments, ANY_DEPTH)


def contains(held: Segments, wanted: Segments) -> bool:
    """Return whether every path of `wanted` is one of `held`; False where that is not plain."""
    if held and held[-1] == ANY_DEPTH and wanted[: len(held) - 1] == held[:-1]:
        return True
    if ANY_DEPTH not in held:
        return len(held) == len(wanted) and _fits(held, wanted, 0)
    first, *middle, last = _runs(held)
    at, end = len(first), len(wanted) - len(last)
    if end < at or not _fits(first, wanted, 0) or not _fits(last, wanted, end):
        return False
    for run in middle:
        while at + len(run) <= end and not _fits(run, wanted, at):
            at += 1
        at += len(run)
        if at > end:
            return False
    return True


def overlaps(one: Segments, other: Segments) -> bool:
    """Return whether some path may be one of both; True where that is not plain."""
    seen = {(0, 0)}
    open_pairs = [(0, 0)]
    while open_pairs:
        at, beside = open_pairs.pop()
        if at == len(one) and beside == len(other):
            return True
        for pair in _steps(one, other, at, beside):
            if pair not in seen:
                seen.add(pair)
                open_pairs.append(pair)
    return False


def is_literal(segments: Segments) -> bool:
    """Return whether exactly one path is meant."""
    return not any(glob.WILD in one for one in segments)


def literal_start(segments: Segments) -> Segments:
    """Return the segments before the first one with a `*`."""
    for place, one in enumerate(segments):
        if glob.WILD in one:
            return segments[:place]
    return segments


def is_closed(segments: Sequence[str], *, writing: bool) -> bool:
    """Return whether the path is the runtime's own, or tells git which programs to start.

    However it is written: compared without case, in compatibility form, without dots and spaces at an end.

    Args:
        segments: of a path, in order.
        writing: whether it would be changed; then `.git` itself is closed too, which may be a file that names a folder.

    Source:
        capability.path.runtime_folder_closed (02 §1).
    """
    return workspace_path.is_closed(segments) or (writing and bool(segments) and workspace_path.is_git(segments[-1]))


def _check(segment: str) -> None:
    """Refuse a segment that leads upwards, also in a form that something may fold to one that does."""
    plain = segment if segment.isascii() else normalize("NFKC", segment)
    if plain in (".", "..") or "/" in plain or "\\" in plain:
        raise UnknownCapability(axis="path", reason="upwards")


def _runs(segments: Segments) -> list[Segments]:
    """Return the stretches between one `**` and the next; at least two, some of them empty."""
    runs: list[Segments] = []
    start = 0
    for place, one in enumerate(segments):
        if one == ANY_DEPTH:
            runs.append(segments[start:place])
            start = place + 1
    return [*runs, segments[start:]]


def _fits(run: Segments, wanted: Segments, at: int) -> bool:
    """Return whether `run` contains the segments of `wanted` from `at` on; `**` only fits what is any depth itself."""
    return all(
        wanted[at + place] != ANY_DEPTH and glob.matches(one, wanted[at + place]) for place, one in enumerate(run)
    )


def _steps(one: Segments, other: Segments, at: int, beside: int) -> Iterator[tuple[int, int]]:
    """Yield the pairs of places that the next segment of a path in both can lead to."""
    left = one[at] if at < len(one) else None
    right = other[beside] if beside < len(other) else None
    if ANY_DEPTH in (left, right):
        if left is not None:
            yield at + 1, beside
        if right is not None:
            yield at, beside + 1
    elif left is not None and right is not None and glob.overlaps(left, right):
        yield at + 1, beside + 1
