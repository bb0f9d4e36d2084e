"""Replacing: several files of the workspace get new content together, or none of them does.

New content is written beside its file and made durable first. Then names are swapped, so that at every moment each
name leads to the whole old or the whole new file, and what was swapped out is compared with what was read before: if
somebody changed it meanwhile, everything is swapped back.

Source:
    capability.path.no_escape (02 §7).
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Self

from handshake.kernel.settings import MAX_TOOL_FILE_BYTES
from handshake.kernel.workspace_path import Steps, spelled
from handshake.ports.tool import ToolFailed
from handshake.tools.filesystem import Scope, Tree, failed
from handshake.tools.openat import rename_new, swap

Change = Callable[[bytes | None], bytes]
"""From what a file holds, or None where there is none, to what it shall hold; raises `ToolFailed`."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PERMISSIONS = 0o777
_MAX_SWAPS = 16
"""How often a name is given back to whoever took it; somebody who changes it more often than that keeps it."""
_exchanging = threading.Lock()
"""Two calls never swap at once: each would take out what the other only lent."""


class Written(NamedTuple):
    """A file that has its new content."""

    steps: Steps
    sha256: str
    size_bytes: int
    was_there: bool


class _Draft(NamedTuple):
    steps: Steps
    folder: int
    name: str
    beside: str
    """What the new content is called until it has the name; after that, what the old one is called."""
    before: os.stat_result | None
    after: os.stat_result
    """The new content itself."""
    written: Written


class Replacing:
    """New content for files of a tree; a context manager that leaves nothing but the files behind.

    Args:
        tree: where they are.
        scope: asked for each of them.
        call: what the names beside them are made of; the same for the same call.
        swaps: whether to swap names; without, and on file systems that cannot, a file is linked aside and replaced.
    """

    def __init__(self, tree: Tree, scope: Scope, call: str, *, swaps: bool = True) -> None:
        self._tree = tree
        self._scope = scope
        self._stem = f".hsk-{hashlib.sha256(call.encode(errors='replace')).hexdigest()[:16]}"
        self._swaps = swaps
        self._drafts: list[_Draft] = []
        self._swapped: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for draft in self._drafts:
            with suppress(OSError):
                os.unlink(draft.beside, dir_fd=draft.folder)
            os.close(draft.folder)

    def prepare(self, steps: Steps, change: Change, *, make: bool) -> None:
        """Read a file and write what it shall hold beside it; nothing has changed yet.

        Args:
            steps: the file.
            change: what it shall hold.
            make: whether missing folders are made.

        Raises:
            ToolFailed: it may not be written, is no regular file, has another name as well, or is too large; or
                `change` said so.
        """
        with self._tree.parent(steps, self._scope, make=make) as parent:
            folder = os.dup(parent.descriptor)
        try:
            content, before = _read(folder, steps)
            new = change(content)
            beside = f"{self._stem}-{len(self._drafts)}"
            after = _write(folder, beside, new, before, steps)
        except BaseException:
            os.close(folder)
            raise
        written = Written(steps, hashlib.sha256(new).hexdigest(), len(new), before is not None)
        self._drafts.append(_Draft(steps, folder, steps[-1], beside, before, after, written))

    def commit(self) -> list[Written]:
        """Let every file have its new content, durably; after an error each has the old one.

        Raises:
            ToolFailed: one of them was changed since it was read, or cannot be replaced.
        """
        done: list[_Draft] = []
        with _exchanging:
            try:
                for draft in self._drafts:
                    self._exchange(draft)
                    done.append(draft)
                for draft in self._drafts:
                    os.fsync(draft.folder)
            except BaseException as failure:
                for draft in reversed(done):
                    self._take_back(draft)
                if isinstance(failure, OSError):
                    raise failed(failure.errno, self._drafts[min(len(done), len(self._drafts) - 1)].steps) from failure
                raise
        return [draft.written for draft in self._drafts]

    def _exchange(self, draft: _Draft) -> None:
        if draft.before is None:
            self._give_new_name(draft)
        elif self._swaps and swap(draft.folder, draft.beside, draft.name):
            self._swapped.add(draft.beside)
            if not _is_as_before(draft, draft.beside):
                _put_back(draft)
                raise _changed(draft.steps)
        else:
            self._replace(draft)

    def _give_new_name(self, draft: _Draft) -> None:
        try:
            if not (self._swaps and rename_new(draft.folder, draft.beside, draft.name)):
                os.link(draft.beside, draft.name, src_dir_fd=draft.folder, dst_dir_fd=draft.folder)
                os.unlink(draft.beside, dir_fd=draft.folder)
        except FileExistsError:
            raise _changed(draft.steps) from None

    def _replace(self, draft: _Draft) -> None:
        """Keep the old file under a third name, and rename the new one over it."""
        kept = f"{draft.beside}-old"
        with suppress(FileNotFoundError):
            os.unlink(kept, dir_fd=draft.folder)
        try:
            os.link(draft.name, kept, src_dir_fd=draft.folder, dst_dir_fd=draft.folder, follow_symlinks=False)
        except FileNotFoundError:
            raise _changed(draft.steps) from None
        if not _is_as_before(draft, kept, links=2):
            os.unlink(kept, dir_fd=draft.folder)
            raise _changed(draft.steps)
        os.rename(draft.beside, draft.name, src_dir_fd=draft.folder, dst_dir_fd=draft.folder)
        os.rename(kept, draft.beside, src_dir_fd=draft.folder, dst_dir_fd=draft.folder)

    def _take_back(self, draft: _Draft) -> None:
        if draft.before is None:
            if _is(draft.after, draft.folder, draft.name):
                os.unlink(draft.name, dir_fd=draft.folder)
        elif draft.beside in self._swapped:
            _put_back(draft)
        else:
            os.rename(draft.beside, draft.name, src_dir_fd=draft.folder, dst_dir_fd=draft.folder)


def _put_back(draft: _Draft) -> None:
    """Let what was swapped out have its name again, unless somebody gave the name to something newer meanwhile.

    What comes out must be what was there last by this function's own doing; anything else is newer, and goes back.
    """
    left = draft.after
    for _ in range(_MAX_SWAPS):
        held = os.stat(draft.beside, dir_fd=draft.folder, follow_symlinks=False)
        try:
            swap(draft.folder, draft.beside, draft.name)
        except FileNotFoundError:
            return
        if _is(left, draft.folder, draft.beside):
            return
        left = held


def _is(known: os.stat_result, folder: int, name: str) -> bool:
    """Return whether a name leads to a file that is known."""
    try:
        return os.path.samestat(os.stat(name, dir_fd=folder, follow_symlinks=False), known)
    except FileNotFoundError:
        return False


def read_whole(descriptor: int, steps: Steps) -> bytes:
    """Return all bytes of an open file.

    Raises:
        ToolFailed: more than `MAX_TOOL_FILE_BYTES`.
    """
    parts: list[bytes] = []
    size = 0
    while part := os.read(descriptor, 1 << 20):
        parts.append(part)
        size += len(part)
        if size > MAX_TOOL_FILE_BYTES:
            raise ToolFailed("HSK-413-TOO-LARGE", f"{spelled(steps)} has more than {MAX_TOOL_FILE_BYTES} bytes")
    return b"".join(parts)


def _read(folder: int, steps: Steps) -> tuple[bytes | None, os.stat_result | None]:
    try:
        descriptor = os.open(steps[-1], _READ, dir_fd=folder)
    except FileNotFoundError:
        return None, None
    except OSError as failure:
        raise failed(failure.errno, steps) from failure
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise failed(errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.ENXIO, steps)
        if status.st_nlink > 1:
            raise ToolFailed("HSK-403-CAPABILITY", f"{spelled(steps)} has another name as well and is not written")
        return read_whole(descriptor, steps), os.fstat(descriptor)
    finally:
        os.close(descriptor)


def _write(folder: int, name: str, data: bytes, before: os.stat_result | None, steps: Steps) -> os.stat_result:
    try:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
        descriptor = os.open(name, _CREATE, 0o666 if before is None else 0o600, dir_fd=folder)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            if before is not None:
                _own_as_before(descriptor, before)
            os.fsync(descriptor)
            return os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except OSError as failure:
        with suppress(OSError):
            os.unlink(name, dir_fd=folder)
        raise failed(failure.errno, steps) from failure


def _own_as_before(descriptor: int, before: os.stat_result) -> None:
    """Give a file the owner and permissions of another, as far as this user may."""
    own = os.fstat(descriptor)
    if (own.st_uid, own.st_gid) != (before.st_uid, before.st_gid):
        with suppress(PermissionError):
            os.fchown(descriptor, before.st_uid, before.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(before.st_mode) & _PERMISSIONS)


def _is_as_before(draft: _Draft, name: str, *, links: int = 1) -> bool:
    """Return whether a name leads to the very file that was read, unchanged since."""
    now = os.stat(name, dir_fd=draft.folder, follow_symlinks=False)
    before = draft.before
    return (
        before is not None
        and stat.S_ISREG(now.st_mode)
        and os.path.samestat(now, before)
        and (now.st_mtime_ns, now.st_size, now.st_nlink) == (before.st_mtime_ns, before.st_size, links)
    )


def _changed(steps: Steps) -> ToolFailed:
    return ToolFailed("HSK-409-CONFLICT", f"{spelled(steps)} was changed meanwhile; read it again", retryable=True)
