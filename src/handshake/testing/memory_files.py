"""Memory files: the files port without a disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from handshake.kernel.units import Bytes
from handshake.ports.files import FilePath


class MemoryFiles:
    """Files in a dictionary; a folder has to be made before anything is written into it."""

    def __init__(self) -> None:
        self.by_path: dict[str, bytes] = {}
        """What every file holds; a test may change it, as somebody might on a disk."""
        self._folders: set[str] = set()

    def make_folder(self, path: FilePath) -> None:
        """Make the folder and its missing parents."""
        folder = Path(path)
        self._folders.update(str(one) for one in (folder, *folder.parents))

    def write_new(self, path: FilePath, data: bytes) -> None:
        """Create the file with these bytes."""
        name = self._in_folder(path)
        if name in self.by_path:
            raise _os_error(errno.EEXIST)
        self.by_path[name] = bytes(data)

    def rename(self, source: FilePath, target: FilePath) -> None:
        """Give the file another name."""
        name = self._in_folder(target)
        self.by_path[name] = self._found(source)
        if os.fspath(source) != name:
            del self.by_path[os.fspath(source)]

    def sync_folder(self, path: FilePath) -> None:
        """Do nothing: what is there is there, until the process ends."""
        if os.fspath(path) not in self._folders:
            raise _os_error(errno.ENOENT)

    def read(self, path: FilePath, *, max_bytes: Bytes) -> bytes:
        """Return the bytes of the file."""
        data = self._found(path)
        if len(data) > max_bytes:
            raise _os_error(errno.EFBIG)
        return data

    def exists(self, path: FilePath) -> bool:
        """Return whether the name is there."""
        return os.fspath(path) in self.by_path

    def unlink(self, path: FilePath) -> None:
        """Remove the name."""
        self.by_path.pop(os.fspath(path), None)

    def _found(self, path: FilePath) -> bytes:
        data = self.by_path.get(os.fspath(path))
        if data is None:
            raise _os_error(errno.ENOENT)
        return data

    def _in_folder(self, path: FilePath) -> str:
        if str(Path(path).parent) not in self._folders:
            raise _os_error(errno.ENOENT)
        return os.fspath(path)


def _os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
