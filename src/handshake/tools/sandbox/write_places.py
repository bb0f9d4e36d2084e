"""Write places: from scopes of paths to the folders and files that a command gets to write to, or does not get to see.

Only what can be given without giving more: `docs/**` is the folder, `docs/*.md` the files that are there now, in a
folder that stays closed to new ones. Links are not followed, and what is closed to everybody is left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from handshake.kernel import glob, path_glob
from handshake.kernel.errors import UnknownCapability
from handshake.kernel.path_glob import ANY_DEPTH, Segments
from handshake.kernel.settings import MAX_COMMAND_LOOKED_AT, MAX_COMMAND_PLACES
from handshake.tools.sandbox.policy import NotConfined


def write_places(root: str, scopes: Sequence[str]) -> tuple[str, ...]:
    """Return absolute paths below `root`, none inside another.

    What is not there yet is not made: nobody says whether it should be a folder or a file.

    Raises:
        NotConfined: there are too many.
    """
    given = [one for text in scopes if (one := _segments(text)) is not None]
    walk = _Walk(root)
    return _outermost(path for one in given for path in walk.matching((), one))


def hidden_places(root: str, denied: Sequence[str]) -> tuple[str, ...]:
    """Return what of the workspace a command must not see: the places that are denied and are there now.

    Raises:
        NotConfined: there are too many, or it takes too long to tell.
    """
    walk = _Walk(root)
    return _outermost(path for one in denied for path in walk.matching((), _everything_in(one)))


def _segments(text: str) -> Segments | None:
    try:
        return path_glob.parse(text)
    except UnknownCapability:
        return None


def _everything_in(text: str) -> Segments:
    """Return what a denied scope closes; one that cannot be read closes everything."""
    found = _segments(text)
    return (ANY_DEPTH,) if found is None else path_glob.with_all_inside(found)


def _outermost(paths: Iterator[str]) -> tuple[str, ...]:
    found: set[str] = set()
    for one in paths:
        found.add(one)
        if len(found) > MAX_COMMAND_PLACES:
            raise NotConfined("too_many_places")
    outermost: list[str] = []
    for one in sorted(found, key=lambda path: (path.count("/"), path)):
        if not any(one.startswith(f"{outer}/") for outer in outermost):
            outermost.append(one)
    return tuple(sorted(outermost))


class _Walk:
    """Goes through a workspace as far as its scopes lead, and counts what it looks at."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._seen = 0

    def matching(self, at: Segments, wanted: Segments) -> Iterator[str]:
        """Yield the paths below the folder `at` that the rest of a scope names."""
        folder = "/".join((self._root, *at))
        if not wanted or all(one == ANY_DEPTH for one in wanted):
            if wanted:
                yield folder
            return
        first, rest = wanted[0], wanted[1:]
        if first == ANY_DEPTH:
            yield from self.matching(at, rest)
            for name in self._names(folder):
                if self._is_folder((*at, name)):
                    yield from self.matching((*at, name), wanted)
            return
        names = [first] if glob.WILD not in first else [one for one in self._names(folder) if glob.matches(first, one)]
        for name in names:
            yield from self._below((*at, name), rest)

    def _below(self, at: Segments, rest: Segments) -> Iterator[str]:
        path = "/".join((self._root, *at))
        if path_glob.is_closed(at, writing=True) or os.path.islink(path):
            return
        if self._is_folder(at):
            yield from self.matching(at, rest)
        elif os.path.isfile(path) and all(one == ANY_DEPTH for one in rest):
            yield path

    def _is_folder(self, at: Segments) -> bool:
        path = "/".join((self._root, *at))
        return os.path.isdir(path) and not os.path.islink(path) and not path_glob.is_closed(at, writing=True)

    def _names(self, folder: str) -> list[str]:
        try:
            found = os.listdir(folder)
        except OSError:
            return []
        self._seen += len(found)
        if self._seen > MAX_COMMAND_LOOKED_AT:
            raise NotConfined("too_many_places")
        return sorted(found)
