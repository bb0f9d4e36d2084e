"""Ballast: a file of a fixed size that is given up when the disk is full, so that outcomes can be stored.

Source:
    recovery.outcome.never_lost (design §3).
"""

from __future__ import annotations

from contextlib import suppress

from handshake.kernel.settings import BALLAST_BYTES
from handshake.ports.files import FilePath, Files


class Ballast:
    """One workspace's ballast; any thread may give it up, and the writer's makes it."""

    def __init__(
        self, files: Files, path: FilePath, draft: FilePath, folder: FilePath, *, size_bytes: int = BALLAST_BYTES
    ) -> None:
        """Describe it; nothing is made yet.

        Args:
            files: where it lies.
            path: its name.
            draft: the name that it has until it is whole.
            folder: the folder of both.
            size_bytes: what it takes from the disk.
        """
        self._files = files
        self._path = path
        self._draft = draft
        self._folder = folder
        self.size_bytes = size_bytes
        self._is_there = files.exists(path)

    def make(self) -> None:
        """Make it unless it is there; a disk that refuses it has none, and is asked again later."""
        if self._is_there:
            return
        with suppress(OSError):
            self._files.make_folder(self._folder)
            self._files.unlink(self._draft)
            self._files.write_new(self._draft, bytes(self.size_bytes))
            self._files.rename(self._draft, self._path)
            self._is_there = True
            self._files.sync_folder(self._folder)

    def give_up(self) -> bool:
        """Take it from the disk; return whether it was there."""
        if not self._is_there:
            return False
        self._is_there = False
        try:
            self._files.unlink(self._path)
        except OSError:
            return False
        return True
