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
    return _scope(reach.read, reach.denied_read)


def writable(reach: Reach) -> Scope:
    """Return the paths that a call may write."""
    return _scope(reach.write, reach.denied_write)


def matching(glob: Segments) -> Scope:
    """Return the paths that a glob names."""
    return lambda path: path_glob.contains(glob, path_glob.parse(path))


def leading_to(glob: Segments) -> Scope:
    """Return the folders that may hold, at any depth, what a glob names."""
    return lambda path: path_glob.overlaps(glob, (*path_glob.parse(path), path_glob.ANY_DEPTH))


def _scope(held: Sequence[str], denied: Sequence[str]) -> Scope:
    """Return what is held and not denied; a scope that cannot be read holds nothing, and denies everything."""
    globs = [path_glob.parse(text) for text in held if _is_readable(text)]
    closed = [
        path_glob.with_all_inside(path_glob.parse(text)) if _is_readable(text) else (path_glob.ANY_DEPTH,)
        for text in denied
    ]

    def covers(path: str) -> bool:
        try:
            steps = path_glob.parse(path)
        except UnknownCapability:
            return False
        if any(path_glob.overlaps(one, steps) for one in closed):
            return False
        return any(path_glob.contains(one, steps) for one in globs)

    return covers


def _is_readable(text: str) -> bool:
    try:
        path_glob.parse(text)
    except UnknownCapability:
        return False
    return True
