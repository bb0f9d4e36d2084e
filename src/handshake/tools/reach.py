"""Reach: whether what a call came to, after links and inside of folders, lies within the grants that allowed the call.

Source:
    capability.path.no_escape (02 §1).
"""

from __future__ import annotations

from collections.abc import Sequence

from handshake.kernel import path_glob
from handshake.kernel.errors import UnknownCapability
from handshake.kernel.path_glob import Segments
from handshake.kernel.workspace_path import Steps
from handshake.ports.tool import Reach
from handshake.tools.filesystem import Scope

_INSIDE = (path_glob.ANY_DEPTH,)


def readable(reach: Reach) -> Scope:
    """Return the paths that a call may read."""
    return _scope(reach.read)


def writable(reach: Reach) -> Scope:
    """Return the paths that a call may write."""
    return _scope(reach.write)


def matching(glob: Segments) -> Scope:
    """Return the paths that a glob names."""
    return lambda steps: path_glob.contains(glob, steps)


def leading_to(glob: Segments) -> Scope:
    """Return the folders that may hold, at any depth, what a glob names."""
    return lambda steps: path_glob.overlaps(glob, (*steps, path_glob.ANY_DEPTH))


def _scope(held: Sequence[str]) -> Scope:
    """Return what one of the scopes holds; one that cannot be read holds nothing.

    Files and whole folders, which nearly all scopes are, are looked up: a walk asks for each name that it meets.
    """
    globs = [glob for glob in map(_read, held) if glob is not None]
    files = {glob for glob in globs if path_glob.is_literal(glob)}
    folders = {glob[:-1] for glob in globs if glob[-1:] == _INSIDE and path_glob.is_literal(glob[:-1])}
    others = [glob for glob in globs if glob not in files and not (glob[-1:] == _INSIDE and glob[:-1] in folders)]

    def holds(steps: Steps) -> bool:
        return (
            steps in files
            or any(steps[:depth] in folders for depth in range(len(steps) + 1))
            or any(path_glob.contains(one, steps) for one in others)
        )

    return holds


def _read(text: str) -> Segments | None:
    try:
        return path_glob.parse(text)
    except UnknownCapability:
        return None
