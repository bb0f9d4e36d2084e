"""Git index: whether git brings a file, read from the index itself, so that looking at a repository starts nothing.

An index names every file that git would write over on `checkout`, `merge` or `pull`. Where it cannot be read for
certain, the answer is that git does.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from handshake.kernel.settings import MAX_GIT_INDEX_BYTES

_HEADER_BYTES = 12
_PLAIN_VERSIONS = (2, 3)
"""Versions that write every path whole; version 4 shortens them."""
_UNREADABLE = (".hg", ".jj", ".svn", ".bzr", "_darcs", ".fslckout")
"""Folders and files of repositories of other kinds; what those bring is not read here."""
_LINK = b"gitdir: "
_MAX_LINK_BYTES = 4_096


def is_tracked(folder: Path, name: str) -> bool:
    """Return whether the repository around `folder` tracks `folder/name`, or nobody can tell.

    Args:
        folder: a resolved folder.
        name: a relative path in it, with `/` between its parts.
    """
    for top in (folder, *folder.parents):
        try:
            if any((top / other).exists() for other in _UNREADABLE):
                return True
            place = _git_folder(top / ".git")
            if place is not None:
                path = os.fsencode(folder.relative_to(top)) + b"/" if folder != top else b""
                return _names(place, path + name.encode())
        except (OSError, ValueError):
            return True
    return False


def _git_folder(entry: Path) -> Path | None:
    """Return the folder that a `.git` is or points at, None if there is no `.git`."""
    try:
        mode = entry.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISDIR(mode):
        return entry
    with open(entry, "rb") as file:
        text = file.read(_MAX_LINK_BYTES)
    if not text.startswith(_LINK):
        raise ValueError("not a link to a repository")
    return entry.parent / os.fsdecode(text.removeprefix(_LINK).rstrip(b"\r\n"))


def _names(place: Path, path: bytes) -> bool:
    """Return whether the index in `place` holds `path`.

    A longer path that ends alike counts as well: that errs to the side on which the user is asked.
    """
    if any(name.startswith("sharedindex.") for name in os.listdir(place)):
        return True  # a part of the entries lies elsewhere
    try:
        descriptor = os.open(place / "index", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    with open(descriptor, "rb") as file:
        data = file.read(MAX_GIT_INDEX_BYTES + 1)
    if len(data) < _HEADER_BYTES or len(data) > MAX_GIT_INDEX_BYTES or data[:4] != b"DIRC":
        return True
    return int.from_bytes(data[4:8], "big") not in _PLAIN_VERSIONS or path + b"\0" in data
