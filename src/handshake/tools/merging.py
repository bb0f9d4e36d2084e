"""Merging: from a list of changed files to the workspace's own files, which are checked first and then all changed.

Folders are opened one by one and no link on the way is followed, so that nothing outside of the workspace is touched.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from handshake.kernel.errors import StateConflict, StoreFailed
from handshake.kernel.workspace_path import is_closed_to_writing
from handshake.tools.git import Git

_NONE = "000000"
_SYMLINK = "120000"
_FILES = frozenset({"100644", "100755", _SYMLINK})


class Change(NamedTuple):
    """One file that a merge changes; a mode of "" is a file that is not there."""

    path: str
    old_mode: str
    new_mode: str
    old_sha: str
    new_sha: str
    line: bytes
    """As git tells it."""


def changes_of(raw: bytes) -> list[Change]:
    """Return the changes that `git diff-tree -z --raw` lists, in order of their paths.

    Raises:
        StoreFailed: that is no such list.
    """
    parts = raw.split(b"\0")
    found = []
    for head, name in zip(parts[0:-1:2], parts[1::2], strict=True):
        words = head.decode("ascii", "replace").lstrip(":").split(" ")
        if len(words) != 5:
            raise StoreFailed(reason="git_says_otherwise")
        old_mode, new_mode, old_sha, new_sha, _ = words
        old, new = ("" if mode == _NONE else mode for mode in (old_mode, new_mode))
        found.append(Change(os.fsdecode(name), old, new, old_sha, new_sha, head + b"\0" + name + b"\0"))
    return sorted(found, key=lambda one: one.path)


async def misfits(git: Git, changes: Sequence[Change]) -> dict[str, str]:
    """Return the changes that must not come back, with the reason: closed places, links that lead out, other kinds."""
    found = {}
    for one in changes:
        if is_closed_to_writing(one.path.split("/")):
            found[one.path] = "closed_place"
        elif {one.old_mode, one.new_mode} - _FILES - {""}:
            found[one.path] = "not_a_file"
        elif one.new_mode == _SYMLINK:
            _, target = await git.run(("cat-file", "blob", one.new_sha))
            if _leads_out(one.path, os.fsdecode(target)):
                found[one.path] = "link_leads_out"
    return found


def carry_out(root: Path, staged: Path, changes: Sequence[Change]) -> None:
    """Bring files that lie ready in `staged` into `root`, and take away those that are gone.

    Raises:
        StateConflict: a file is not as it was when the changes were listed; nothing is changed.
        OSError: as of the file system; then what is left is done by listing and carrying out again.
    """
    top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for one in changes:
            if _sha_of(top, one) != (one.old_sha if one.old_mode else None):
                raise StateConflict(reason="changed_meanwhile", path=one.path, hint="merge again")
        for one in changes:
            if not one.new_mode:
                _take_away(top, one.path)
        for one in changes:
            if one.new_mode:
                with _folder(top, one.path, make=True) as folder:
                    os.replace(staged / one.path, posixpath.basename(one.path), dst_dir_fd=folder)
                    os.fsync(folder)
    finally:
        os.close(top)


def _take_away(top: int, path: str) -> None:
    """Remove a file, and the folders that it leaves empty."""
    with suppress(FileNotFoundError), _folder(top, path) as folder:
        os.unlink(posixpath.basename(path), dir_fd=folder)
    above = posixpath.dirname(path)
    with suppress(OSError):
        while above:
            with _folder(top, above) as folder:
                os.rmdir(posixpath.basename(above), dir_fd=folder)
            above = posixpath.dirname(above)


@contextmanager
def _folder(top: int, path: str, *, make: bool = False) -> Iterator[int]:
    """Give the open folder of `path`, reached without any link."""
    opened = os.dup(top)
    try:
        for step in path.split("/")[:-1]:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(step, dir_fd=opened)
            below = os.open(step, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=opened)
            os.close(opened)
            opened = below
        yield opened
    finally:
        os.close(opened)


def _sha_of(top: int, change: Change) -> str | None:
    """Return the hash of a file as git has it, in the form of the hash that it is compared with; None if it is gone."""
    name = posixpath.basename(change.path)
    try:
        with _folder(top, change.path) as folder:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                return _hash([os.fsencode(os.readlink(name, dir_fd=folder))])
            if stat.S_ISDIR(status.st_mode):
                return None  # a folder in its place is in the way only if it does not get empty
            with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder), "rb") as file:
                return _hash([file.read()])
    except (FileNotFoundError, NotADirectoryError):
        return None


def _hash(parts: Sequence[bytes]) -> str:
    digest = hashlib.sha1(b"blob %d\0" % sum(map(len, parts)), usedforsecurity=False)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _leads_out(path: str, target: str) -> bool:
    if target.startswith("/"):
        return True
    reached = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    return reached == ".." or reached.startswith("../")
