"""Medium files: the files port on a simulated disk."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from handshake.kernel.units import Bytes
from handshake.ports.files import FilePath
from handshake.storage.files import FILE_MODE, FOLDER_MODE, OsFiles
from handshake.testing.file_image import FileImage
from handshake.testing.medium import Medium


class MediumFiles:
    """Files below the root of a medium; the real ones are what a running program sees.

    `write_new` is three operations (create, write, sync), everything else that changes something is one.
    """

    def __init__(self, medium: Medium) -> None:
        self._medium = medium
        self._seen = OsFiles()

    def make_folder(self, path: FilePath) -> None:
        """Make the folder and its missing parents, one operation each."""
        folder = Path(path)
        with self._medium.lock:
            self._medium.check()
            if not folder.is_dir():
                self.make_folder(folder.parent)
                self._medium.make_folder(_name(folder))
                folder.mkdir(FOLDER_MODE)

    def write_new(self, path: FilePath, data: bytes) -> None:
        """Create, write and sync the file; take the name away again when that fails and the power is on."""
        with self._medium.lock:
            image = self._medium.create(_name(path))
            try:
                self._write_and_sync(image, path, data)
            except OSError:
                with suppress(OSError):
                    self.unlink(path)
                raise

    def _write_and_sync(self, image: FileImage, path: FilePath, data: bytes) -> None:
        room = self._medium.write(image, 0, data)
        with open(path, "xb", opener=_open_for_owner) as file:
            file.write(data[:room])
        if room < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._medium.sync(image)

    def rename(self, source: FilePath, target: FilePath) -> None:
        """Rename the file, to be undone by a power loss before `sync_folder`."""
        with self._medium.lock:
            self._medium.rename(_name(source), _name(target))
            self._seen.rename(source, target)

    def sync_folder(self, path: FilePath) -> None:
        """Put the folder's names on the disk."""
        with self._medium.lock:
            self._medium.sync_folder(str(Path(path).resolve(strict=True)))

    def read(self, path: FilePath, *, max_bytes: Bytes) -> bytes:
        """Return the bytes as a running program sees them."""
        self._medium.check()
        return self._seen.read(path, max_bytes=max_bytes)

    def exists(self, path: FilePath) -> bool:
        """Return whether a running program sees the name."""
        self._medium.check()
        return self._seen.exists(path)

    def unlink(self, path: FilePath) -> None:
        """Remove the name, to be back after a power loss before `sync_folder`."""
        with self._medium.lock, suppress(FileNotFoundError):
            self._medium.unlink(_name(path))
            self._seen.unlink(path)


def _name(path: FilePath) -> str:
    """Return the one name of the path: absolute, its folders without links, the last part as it is."""
    given = Path(path)
    return str(given.parent.resolve() / given.name)


def _open_for_owner(path: str, flags: int) -> int:
    return os.open(path, flags, FILE_MODE)
