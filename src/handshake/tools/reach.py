"""Reach: whether what a call came to, after links and inside of folders, lies within the grants that allowed the call.

Source:
    capability.path.no_escape (02 §1).
"""

from __future__ import annotations

from collections.abc import Sequence

from handshake.kernel import path_glob
from handshake.kernel.errors import UnknownCapability
from handshake.kernel.path_glob import Segments
from handshake.ports.tool import Reach
from handshake.tools.filesystem import Scope


def readable(reach: Reach) -> Scope:
    """Return the paths that a call may read."""
    return _scope(reach.read)


def writable(reach: Reach) -> Scope:
    """Return the paths that a call may write."""
    return _scope(reach.write)


def matching(glob: Segments) -> Scope:
    """Return the paths that a glob names."""
    return lambda path: path_glob.contains(glob, path_glob.parse(path))


def leading_to(glob: Segments) -> Scope:
    """Return the folders that may hold, at any depth, what a glob names."""
    return lambda path: path_glob.overlaps(glob, (*path_glob.parse(path), path_glob.ANY_DEPTH))


def _scope(held: Sequence[str]) -> Scope:
    """Return what one of the scopes holds; one that cannot be read holds nothing."""
    globs = [glob for glob in map(_read, held) if glob is not None]

    def covers(path: str) -> bool:
        steps = _read(path)
        return steps is not None and any(path_glob.contains(one, steps) for one in globs)

    return covers


def _read(text: str) -> Segments | None:
    try:
        return path_glob.parse(text)
    except UnknownCapability:
        return None
