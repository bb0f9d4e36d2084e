"""Files of the operating system: artifacts that are too large for a row."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from handshake.kernel.units import Bytes
from handshake.ports.files import FilePath

FILE_MODE = 0o600
FOLDER_MODE = 0o700


class OsFiles:
    """The files port on the operating system's own files.

    Source:
        recovery.power_loss.loses_nothing (06 §1.7).
    """

    def __init__(self) -> None:
        self._durable_folders: set[Path] = set()

    def make_folder(self, path: FilePath) -> None:
        """Make the folder and its missing parents, each synced into the folder that holds it.

        A folder that exists is synced once as well: the process that made it may have been killed before
        it came to that. Its parents were durable before it was made.
        """
        folder = Path(path)
        if folder in self._durable_folders:
            return
        if not folder.is_dir():
            self.make_folder(folder.parent)
            with suppress(FileExistsError):
                folder.mkdir(FOLDER_MODE)
        self.sync_folder(folder.parent)
        self._durable_folders.add(folder)

    def write_new(self, path: FilePath, data: bytes) -> None:
        """Create, write and sync the file; take the name away again when that fails."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        try:
            try:
                _write_all(descriptor, data)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except BaseException:
            with suppress(OSError):
                os.unlink(path)
            raise

    def rename(self, source: FilePath, target: FilePath) -> None:
        """Rename the file over whatever has the other name."""
        os.replace(source, target)

    def sync_folder(self, path: FilePath) -> None:
        """Sync the folder itself."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read(self, path: FilePath, *, max_bytes: Bytes) -> bytes:
        """Return the bytes, never more than `max_bytes`, never through a link."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return data

    def exists(self, path: FilePath) -> bool:
        """Return whether the name is there."""
        return os.path.lexists(path)

    def unlink(self, path: FilePath) -> None:
        """Remove the name."""
        with suppress(FileNotFoundError):
            os.unlink(path)


def _write_all(descriptor: int, data: bytes) -> None:
    """Write every byte; one call may write less than it is given (write(2))."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
