"""Filesystem: files and folders beneath a folder handle, opened in one step so that nothing lies between check and use.

What was asked for is opened first and judged then, by what the descriptor is: its kind, its links, and its true path.
Where the kernel cannot open beneath a folder in one call, the path is walked name by name and no link is followed.

Source:
    capability.path.no_escape, capability.path.runtime_folder_closed (02 §1, §7; INV-WS-001).
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Self

from handshake.kernel.settings import MAX_PATH_DEPTH, MAX_WALKED_ENTRIES
from handshake.kernel.workspace_path import Steps, is_closed, is_closed_to_writing, is_nameable, spelled
from handshake.ports.tool import ToolFailed
from handshake.tools.openat import can_open_beneath, open_beneath

Scope = Callable[[Steps], bool]
"""Whether the grants of the call reach a path."""

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
_PATH_OF = "/proc/self/fd/%d"
_HOLDING_CLOSED_FILES: tuple[Steps, ...] = (
    (".handshake",),
    (".handshake", "keys"),
    (".handshake", "run"),
    (".git", "config"),
    (".git", "hooks"),
)
"""Folders, or files, whose content must not be read under another name either."""


class Found(NamedTuple):
    """An open file or folder, and what it is. Whoever gets it closes the descriptor."""

    descriptor: int
    steps: Steps
    """Where it really is."""
    status: os.stat_result


class Entry(NamedTuple):
    """A name that a walk met, and what it is at that moment; a link counts as a link, wherever it leads."""

    steps: Steps
    status: os.stat_result


_Waiting = tuple[Steps, int, Iterator[str]]
"""A folder of a walk: its path, its descriptor, and its names that were not looked at yet."""


class Tree:
    """The folder that paths are relative to, held open; a context manager.

    Args:
        root: its absolute path, by the runtime's own word.
        at_once: whether the kernel opens a path beneath a folder in one call; by default it is asked. If not, the
            path is walked name by name, and no link is followed at all.
    """

    def __init__(self, root: str, *, at_once: bool | None = None) -> None:
        self._at_once = can_open_beneath() if at_once is None else at_once
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._root)

    @contextmanager
    def file(self, steps: Steps, scope: Scope) -> Iterator[Found]:
        """Give a regular file, open for reading, that the scope reaches where it really is.

        Raises:
            ToolFailed: it is not there, not a regular file, closed, beyond the scope or outside of the workspace.
        """
        with self._opened(steps, scope, 0) as found:
            if not stat.S_ISREG(found.status.st_mode):
                raise failed(errno.EISDIR if stat.S_ISDIR(found.status.st_mode) else errno.ENXIO, steps)
            yield found

    @contextmanager
    def folder(self, steps: Steps, scope: Scope) -> Iterator[Found]:
        """Give a folder, open for reading, that the scope reaches where it really is.

        Raises:
            ToolFailed: it is not there, no folder, closed, beyond the scope or outside of the workspace.
        """
        with self._opened(steps, scope, os.O_DIRECTORY) as found:
            yield found

    @contextmanager
    def parent(self, steps: Steps, scope: Scope, *, make: bool) -> Iterator[Found]:
        """Give the folder in which `steps` may be written; with `make`, missing folders on the way are made.

        The scope is asked for the file that is to be written, where it really would be. No link is followed.

        Raises:
            ToolFailed: it cannot be, or nothing may be written there.
        """
        if not steps:
            raise failed(errno.EISDIR, steps)
        if is_closed_to_writing(steps):
            raise closed(steps)
        if not scope(steps):
            raise beyond(steps)
        try:
            descriptor = self._strictly(steps[:-1], _READ | os.O_DIRECTORY)
        except FileNotFoundError as missing:
            if not make:
                raise failed(errno.ENOENT, steps) from missing
            descriptor = self._made(steps[:-1])
        except OSError as failure:
            raise failed(failure.errno, steps) from failure
        try:
            yield Found(descriptor, steps[:-1], os.fstat(descriptor))
        finally:
            os.close(descriptor)

    def walk(
        self, start: Steps, scope: Scope, *, wanted: Scope, stop: Callable[[], bool], most: int = MAX_WALKED_ENTRIES
    ) -> Generator[Entry, None, None]:
        """Yield what lies below a folder, each folder's names in order, and its inside right after its own name.

        Nothing is followed or crossed: no link, no mount point. What is closed, or has a name that no path can hold,
        is not there. A folder that vanishes or changes on the way is passed over.

        Args:
            start: the folder.
            scope: asked for `start` only.
            wanted: whether to look inside of a folder.
            stop: asked between entries; once it says so, the walk is over.
            most: how many names it looks at.

        Raises:
            ToolFailed: `start` cannot be read, or there are more names.
        """
        with self.folder(start, scope) as found:
            waiting = [(found.steps, os.dup(found.descriptor), iter(_names(found.descriptor, most)))]
            try:
                yield from self._walked(waiting, wanted, stop, most)
            finally:
                for _, descriptor, _ in waiting:
                    os.close(descriptor)

    def _walked(
        self, waiting: list[_Waiting], wanted: Scope, stop: Callable[[], bool], most: int
    ) -> Generator[Entry, None, None]:
        seen = 0
        while waiting and not stop():
            above, descriptor, names = waiting[-1]
            name = next(names, None)
            if name is None:
                waiting.pop()
                os.close(descriptor)
                continue
            seen += 1
            if seen > most:
                raise ToolFailed("HSK-413-TOO-LARGE", f"there are more than {most} names; say a narrower glob")
            entry = _entry(descriptor, above, name)
            if entry is None:
                continue
            yield entry
            inner = self._inside(entry, wanted)
            if inner is not None:
                waiting.append((entry.steps, inner, iter(_names(inner, most))))

    def _inside(self, entry: Entry, wanted: Scope) -> int | None:
        """Open a folder that a walk met, if it is one that is to be looked into."""
        steps = entry.steps
        if not stat.S_ISDIR(entry.status.st_mode) or len(steps) >= MAX_PATH_DEPTH or not wanted(steps):
            return None
        try:
            return self._strictly(steps, _READ | os.O_DIRECTORY)
        except OSError:
            return None

    @contextmanager
    def _opened(self, steps: Steps, scope: Scope, flags: int) -> Iterator[Found]:
        if is_closed(steps):
            raise closed(steps)
        try:
            descriptor, true = self._resolved(steps, _READ | flags)
        except OSError as failure:
            raise failed(failure.errno, steps) from failure
        try:
            if true is not steps and is_closed(true):
                raise closed(steps)
            if not scope(true):
                raise beyond(steps)
            status = os.fstat(descriptor)
            if self._is_closed_file(status):
                raise closed(steps)
            yield Found(descriptor, true, status)
        finally:
            os.close(descriptor)

    def _resolved(self, steps: Steps, flags: int) -> tuple[int, Steps]:
        """Return a descriptor and where it really is: as asked, or where links that stay beneath lead."""
        try:
            return self._strictly(steps, flags), steps
        except OSError as failure:
            if failure.errno not in (errno.ELOOP, errno.ENOTDIR) or not self._at_once:
                raise
        descriptor = open_beneath(self._root, spelled(steps), flags, links=True)
        try:
            return descriptor, self._true_steps(descriptor)
        except BaseException:
            os.close(descriptor)
            raise

    def _true_steps(self, descriptor: int) -> Steps:
        """Return the path of an open file as the kernel knows it now."""
        root, path = (os.readlink(_PATH_OF % one) for one in (self._root, descriptor))
        inside = path.removeprefix(root.rstrip("/") + "/")
        steps = tuple(inside.split("/"))
        if inside == path or not all(is_nameable(step) for step in steps) or os.fstat(descriptor).st_nlink == 0:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return steps

    def _strictly(self, steps: Steps, flags: int) -> int:
        if self._at_once:
            return open_beneath(self._root, spelled(steps), flags)
        return self._walked_to(steps, flags | os.O_NOFOLLOW | os.O_CLOEXEC)

    def _walked_to(self, steps: Steps, flags: int) -> int:
        """Open a path name by name: no link is followed, and no folder of another device entered."""
        device = os.fstat(self._root).st_dev
        descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._root)
        for place, step in enumerate(steps, 1):
            kind = flags if place == len(steps) else flags | os.O_DIRECTORY
            try:
                inner = _opened_at(descriptor, step, kind)
            finally:
                os.close(descriptor)
            descriptor = inner
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode) and status.st_dev != device:
                os.close(descriptor)
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return descriptor

    def _made(self, steps: Steps) -> int:
        """Make the missing folders of a path and return the last one; each is durable in the one above."""
        descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._root)
        for place, step in enumerate(steps, 1):
            try:
                try:
                    os.mkdir(step, dir_fd=descriptor)
                    os.fsync(descriptor)
                except FileExistsError:
                    pass
                inner = self._strictly(steps[:place], _READ | os.O_DIRECTORY)
            except OSError as failure:
                raise failed(failure.errno, steps) from failure
            finally:
                os.close(descriptor)
            descriptor = inner
        return descriptor

    def _is_closed_file(self, status: os.stat_result) -> bool:
        """Return whether an open file is one of the closed places under another name: a hard link to it."""
        if not stat.S_ISREG(status.st_mode) or status.st_nlink == 1:
            return False
        own = (status.st_dev, status.st_ino)
        return any(own in self._files_of(steps) for steps in _HOLDING_CLOSED_FILES)

    def _files_of(self, steps: Steps) -> set[tuple[int, int]]:
        """Return the files that a closed place holds, or is, by identity."""
        try:
            descriptor = self._strictly(steps, _READ)
        except OSError:
            return set()
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISDIR(status.st_mode):
                return {(status.st_dev, status.st_ino)}
            with os.scandir(descriptor) as entries:
                return {(status.st_dev, entry.inode()) for entry in itertools.islice(entries, MAX_WALKED_ENTRIES)}
        finally:
            os.close(descriptor)


def closed(steps: Steps) -> ToolFailed:
    """Return the refusal of a place that no tool may touch."""
    return ToolFailed("HSK-403-CAPABILITY", f"{spelled(steps)} is closed to tools, whatever is granted")


def beyond(steps: Steps) -> ToolFailed:
    """Return the refusal of a place that the call's grants do not reach."""
    return ToolFailed("HSK-403-CAPABILITY", f"{spelled(steps)} lies, as resolved, beyond what this session was granted")


_SENTENCES = {
    errno.ENOENT: ("HSK-404-NOT-FOUND", "does not exist"),
    errno.ENOTDIR: ("HSK-404-NOT-FOUND", "is no folder, or stands below a file"),
    errno.EISDIR: ("HSK-400-INVALID-REQUEST", "is a folder"),
    errno.ENXIO: ("HSK-400-INVALID-REQUEST", "is no regular file"),
    errno.ELOOP: ("HSK-403-CAPABILITY", "is reached by a link that is not followed"),
    errno.EXDEV: ("HSK-403-CAPABILITY", "leads out of the workspace, or to another mount"),
    errno.EACCES: ("HSK-403-CAPABILITY", "may not be opened by the runtime's user"),
    errno.EPERM: ("HSK-403-CAPABILITY", "may not be changed by the runtime's user"),
    errno.EROFS: ("HSK-403-CAPABILITY", "lies on a file system that is read-only"),
    errno.ENAMETOOLONG: ("HSK-400-INVALID-REQUEST", "has a name that is too long for the file system"),
    errno.ENOSPC: ("HSK-507-STORE", "cannot be written: the disk is full"),
    errno.EDQUOT: ("HSK-507-STORE", "cannot be written: the quota is used up"),
}


def failed(number: int | None, steps: Steps) -> ToolFailed:
    """Return what a call is told of an error of the operating system."""
    code, sentence = _SENTENCES.get(number or 0, ("HSK-507-STORE", f"cannot be used: error {number}"))
    return ToolFailed(code, f"{spelled(steps)} {sentence}")


def _opened_at(folder: int, step: str, flags: int) -> int:
    """Open a name of a folder; of a link it is said that it is one, also where a folder was wanted."""
    try:
        return os.open(step, flags, dir_fd=folder)
    except NotADirectoryError:
        if stat.S_ISLNK(os.stat(step, dir_fd=folder, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None
        raise


def _names(descriptor: int, most: int) -> list[str]:
    """Return the names in a folder, in order; one more than `most` of them at most."""
    with os.scandir(descriptor) as entries:
        return sorted(entry.name for entry in itertools.islice(entries, most + 1))


def _entry(folder: int, above: Steps, name: str) -> Entry | None:
    """Return what a name of a folder is now, or None for one that is not there for tools."""
    steps = (*above, name)
    if not is_nameable(name) or is_closed(steps):
        return None
    try:
        return Entry(steps, os.stat(name, dir_fd=folder, follow_symlinks=False))
    except OSError:
        return None
