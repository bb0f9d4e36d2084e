"""Files port: the only way to whole files beside the database."""

from __future__ import annotations

from typing import Protocol

from handshake.kernel.units import Bytes


class FilePath(Protocol):
    """A file's or folder's path; `pathlib.Path` is one."""

    def __fspath__(self) -> str:
        """Return the path as the operating system takes it."""
        ...


class Files(Protocol):
    """Files that are written once; a file is on the disk only when its bytes and its name both are.

    The order that survives a power loss is `write_new` a temporary name, `rename`, `sync_folder`, and only
    then the commit of the row that refers to the file. Every method raises `OSError` as the operating
    system would: `ENOSPC` for a full disk, `EIO` for a broken one. Methods may be called from any thread.

    Source:
        recovery.power_loss.loses_nothing (06 §1.7).
    """

    def make_folder(self, path: FilePath) -> None:
        """Make the folder and its missing parents, for the owner only; they are on the disk when this returns."""
        ...

    def write_new(self, path: FilePath, data: bytes) -> None:
        """Create the file with these bytes, for the owner only; the bytes are on the disk when this returns.

        The name is not, until `sync_folder`. After an error there is no such file, unless there was one before.

        Raises:
            FileExistsError: the name is taken; a link counts as taken.
        """
        ...

    def rename(self, source: FilePath, target: FilePath) -> None:
        """Give the file another name of the same file system, at once for every reader; replaces what was there."""
        ...

    def sync_folder(self, path: FilePath) -> None:
        """Return when every name that was made, changed or removed in the folder is so on the disk."""
        ...

    def read(self, path: FilePath, *, max_bytes: Bytes) -> bytes:
        """Return the bytes of the file.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: `EFBIG`, the file holds more than `max_bytes`; `ELOOP`, it is a link.
        """
        ...

    def exists(self, path: FilePath) -> bool:
        """Return whether the name is there, be it a link that leads nowhere."""
        ...

    def unlink(self, path: FilePath) -> None:
        """Remove the name; it is no error if it is not there."""
        ...
