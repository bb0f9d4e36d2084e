"""Medium: the simulated disk under database and files; counts operations, brings trouble, knows what is durable."""

from __future__ import annotations

import errno
import os
import threading
from enum import Enum
from pathlib import Path

from handshake.kernel.units import Bytes
from handshake.testing.file_image import FileImage, FolderLog
from handshake.testing.seeded_chance import SeededChance

SHARED_MEMORY_SUFFIX = "-shm"
"""SQLite's index of the write-ahead log: memory of the running processes, gone with the power."""

_UNLIMITED_BYTES = 1 << 60


class Trouble(Enum):
    """What can happen to a disk at a given operation."""

    POWER_CUT = "power_cut"
    FULL = "full"
    IO_ERROR = "io_error"


class Medium:
    """What is on the disk below `root`, and what a running program only believes to be.

    A running program works on the real files below `root`; whoever changes one tells the medium first,
    holding `lock`, and goes on only when that returns. What was there at the start is durable.
    """

    def __init__(self, root: Path, *, seed: int = 0) -> None:
        """Take over the folder, which must exist.

        Args:
            root: the folder; two open disks never share one.
            seed: chooses what outlives a power loss and a failed sync.
        """
        self.root = root.resolve(strict=True)
        self.seed = seed
        self.lock = threading.RLock()
        self.operations = 0
        """Changes and syncs so far; the first is number 1."""
        found = sorted(path for path in self.root.rglob("*") if path.is_file() and not path.is_symlink())
        kept = [path for path in found if not path.name.endswith(SHARED_MEMORY_SUFFIX)]
        self._names = FolderLog({str(path): FileImage(path.read_bytes()) for path in kept})
        self._folders = {str(self.root), *(str(path) for path in self.root.rglob("*") if path.is_dir())}
        self._chance = SeededChance(seed)
        self._dead = False
        self._trouble: tuple[Trouble, int] | None = None
        self._cut_at: int | None = None
        self._quota: Bytes | None = None

    # Trouble

    def cut_at(self, operation: int) -> None:
        """Cut the power in the middle of the operation of this number; it and all after it fail, reads too."""
        self._cut_at = operation

    def fill_at(self, operation: int) -> None:
        """Refuse every write for want of space, from the operation of this number on."""
        self._trouble = (Trouble.FULL, operation)

    def break_at(self, operation: int) -> None:
        """Refuse every change and sync with an I/O error, from the operation of this number on.

        What a failed sync did not put on the disk stays off it, though later syncs succeed.
        """
        self._trouble = (Trouble.IO_ERROR, operation)

    def limit(self, quota: Bytes) -> None:
        """Let the files hold `quota` bytes in all; a write that would exceed it stops where the space ends."""
        self._quota = quota

    def lift(self) -> None:
        """End a full or a broken disk; a power cut cannot be lifted, also one that is still to come."""
        self._trouble = None
        self._quota = None

    def die(self) -> None:
        """Cut the power between two operations."""
        self._dead = True

    @property
    def in_trouble(self) -> bool:
        """Whether something is wrong with it, or will be at some operation."""
        return (self._trouble, self._cut_at, self._quota) != (None, None, None)

    @property
    def is_dead(self) -> bool:
        """Whether the power is gone."""
        return self._dead

    def free_bytes(self, _folder: Path) -> int:
        """Return how much room is left below `limit`, or a large number without one."""
        if self._quota is None:
            return _UNLIMITED_BYTES
        return max(0, self._quota - sum(image.size for image in self._names.current.values()))

    # Operations

    def check(self) -> None:
        """Return if the power is on.

        Raises:
            OSError: `EIO`, the power is gone.
        """
        if self._dead:
            raise _os_error(errno.EIO)

    def open(self, path: str, *, create: bool) -> FileImage:
        """Return the image of the file, new if there is none and `create` says so.

        Raises:
            OSError: `EPERM`, the file was made past the medium, which therefore cannot say what is durable.
        """
        self.check()
        image = self._names.current.get(path)
        if image is None and os.path.lexists(path):
            raise _os_error(errno.EPERM)
        if image is None and not create:
            raise _os_error(errno.ENOENT)
        return image or self.create(path)

    def create(self, path: str) -> FileImage:
        """Return the image of a new file; its name waits for a sync of the folder.

        Raises:
            OSError: `EPERM`, the folder was made past the medium.
        """
        self.check()
        folder = Path(path).parent
        if str(folder) not in self._folders:
            raise _os_error(errno.EPERM if folder.is_dir() else errno.ENOENT)
        if self.exists(path) or os.path.lexists(path):
            raise _os_error(errno.EEXIST)
        trouble = self._step(Trouble.IO_ERROR)
        image = FileImage()
        self._names.set(path, image)
        self._end(trouble)
        return image

    def write(self, image: FileImage, offset: int, data: bytes) -> int:
        """Note a write; return how many of the bytes found room."""
        trouble = self._step(Trouble.IO_ERROR, Trouble.FULL)
        room = self._room(image, offset, len(data))
        if room:
            image.write(offset, data[:room])
        self._end(trouble)
        return room

    def truncate(self, image: FileImage, size: int) -> None:
        """Note a change of size."""
        trouble = self._step(Trouble.IO_ERROR)
        image.truncate(size)
        self._end(trouble)

    def sync(self, image: FileImage) -> None:
        """Put the file's bytes on the disk; its name is another matter."""
        try:
            trouble = self._step(Trouble.IO_ERROR)
        except OSError:
            if not self._dead:
                image.fail_sync(self._chance)
            raise
        self._end(trouble)
        image.sync()

    def rename(self, source: str, target: str) -> None:
        """Note a rename; it waits for a sync of the target's folder."""
        self.check()
        if not self.exists(source):
            raise _os_error(errno.ENOENT)
        trouble = self._step(Trouble.IO_ERROR)
        self._names.rename(source, target)
        self._end(trouble)

    def unlink(self, path: str) -> None:
        """Note the removal of a name; it waits for a sync of the folder."""
        self.check()
        if not self.exists(path):
            raise _os_error(errno.ENOENT)
        trouble = self._step(Trouble.IO_ERROR)
        self._names.unlink(path)
        self._end(trouble)

    def sync_folder(self, path: str) -> None:
        """Put the names in the folder on the disk."""
        self._end(self._step(Trouble.IO_ERROR))
        self._names.sync(path)

    def make_folder(self, path: str) -> None:
        """Put a new folder on the disk."""
        self._end(self._step(Trouble.IO_ERROR, Trouble.FULL))
        self._folders.add(path)

    def exists(self, path: str) -> bool:
        """Return whether a running program sees a file of that name."""
        return path in self._names.current

    # Power loss

    def restore(self, into: Path, *, seed: int) -> None:
        """End the power and lay out below `into`, an empty folder, what outlived it."""
        with self.lock:
            self._dead = True
            chance = SeededChance(seed)
            names = self._names.survivors(chance)
            for folder in sorted(self._folders):
                (into / Path(folder).relative_to(self.root)).mkdir(exist_ok=True)
            for path, image in names.items():
                (into / Path(path).relative_to(self.root)).write_bytes(image.survivor(chance))

    def _step(self, *refusing: Trouble) -> Trouble | None:
        """Count one operation; return the trouble that hits it, if it is none of those that refuse it."""
        self.check()
        self.operations += 1
        if self._cut_at is not None and self.operations >= self._cut_at:
            return Trouble.POWER_CUT
        if self._trouble is None or self.operations < self._trouble[1]:
            return None
        trouble = self._trouble[0]
        if trouble in refusing:
            raise _os_error(errno.ENOSPC if trouble is Trouble.FULL else errno.EIO)
        return trouble

    def _end(self, trouble: Trouble | None) -> None:
        """End one operation, which may be noted but not done when the power goes in the middle of it."""
        if trouble is Trouble.POWER_CUT:
            self._dead = True
            self.check()

    def _room(self, image: FileImage, offset: int, length: int) -> int:
        return max(0, min(length, image.size + self.free_bytes(self.root) - offset))


def _os_error(number: int) -> OSError:
    """Return the error as the operating system would raise it, in the subclass that fits."""
    return OSError(number, os.strerror(number))
