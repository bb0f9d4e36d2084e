"""File image: what a disk holds of its files and folders, and what of that outlives a power loss."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from handshake.ports.chance import Chance

SECTOR_BYTES = 512
"""A disk writes a sector whole or not at all, and sectors in any order."""

_LEVELS = 4
"""A power loss keeps each unsynced piece with a chance of 0, 1, 2, 3 or 4 in 4."""


@dataclass(frozen=True, slots=True)
class _Write:
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class _Truncate:
    size: int


def keep_level(chance: Chance) -> int:
    """Draw how much of what is unsynced is kept: from 0, nothing, to 4, all of it."""
    return chance.bits(16) % (_LEVELS + 1)


def _kept(chance: Chance, level: int) -> bool:
    return chance.bits(2) < level


def _apply(content: bytearray, change: _Write | _Truncate) -> None:
    """Change the bytes; a gap reads as zeros."""
    size = change.size if isinstance(change, _Truncate) else change.offset + len(change.data)
    if len(content) < size:
        content.extend(bytes(size - len(content)))
    if isinstance(change, _Truncate):
        del content[size:]
    else:
        content[change.offset : size] = change.data


def _sectors(change: _Write) -> list[_Write]:
    """Cut a write at the sector borders of the disk."""
    end = change.offset + len(change.data)
    first = change.offset - change.offset % SECTOR_BYTES
    pieces = []
    for border in range(first, end, SECTOR_BYTES):
        start = max(border, change.offset)
        stop = min(border + SECTOR_BYTES, end)
        pieces.append(_Write(start, change.data[start - change.offset : stop - change.offset]))
    return pieces


class FileImage:
    """One file: its bytes on the disk, and the changes since its last sync."""

    __slots__ = ("_durable", "_pending", "size")

    size: int
    """Size in bytes as a running program sees it."""

    def __init__(self, durable: bytes = b"") -> None:
        self._durable = bytearray(durable)
        self._pending: list[_Write | _Truncate] = []
        self.size = len(durable)

    def write(self, offset: int, data: bytes) -> None:
        """Note an unsynced write."""
        self._pending.append(_Write(offset, data))
        self.size = max(self.size, offset + len(data))

    def truncate(self, size: int) -> None:
        """Note an unsynced change of size."""
        self._pending.append(_Truncate(size))
        self.size = size

    def sync(self) -> None:
        """Put every change on the disk."""
        for change in self._pending:
            _apply(self._durable, change)
        self._pending.clear()

    def fail_sync(self, chance: Chance) -> None:
        """Put some changes on the disk and forget the others, so that a later sync does not help them.

        Linux marks pages clean when their write-back fails; the next sync of the file succeeds without them.
        """
        self._durable = bytearray(self.survivor(chance))
        self._pending.clear()

    def survivor(self, chance: Chance) -> bytes:
        """Return what a power loss leaves: the synced bytes, and chosen sectors of the unsynced writes."""
        level = keep_level(chance)
        content = bytearray(self._durable)
        for change in self._pending:
            for piece in _sectors(change) if isinstance(change, _Write) else [change]:
                if _kept(chance, level):
                    _apply(content, piece)
        return bytes(content)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One change of names: `path` means `image` from now on, or nothing; `source` means nothing any more."""

    path: str
    image: FileImage | None
    source: str | None = None

    @property
    def names(self) -> set[str]:
        return {self.path} if self.source is None else {self.path, self.source}

    def apply(self, names: dict[str, FileImage]) -> None:
        if self.source is not None:
            names.pop(self.source, None)
        if self.image is None:
            names.pop(self.path, None)
        else:
            names[self.path] = self.image


class FolderLog:
    """The names of a disk: those on it, and the changes since their folders' last sync."""

    def __init__(self, durable: dict[str, FileImage]) -> None:
        self._durable = dict(durable)
        self._pending: list[_Entry] = []
        self.current = dict(durable)
        """What every name means as a running program sees it."""

    def set(self, path: str, image: FileImage) -> None:
        """Note a new file."""
        self._note(_Entry(path, image))

    def unlink(self, path: str) -> None:
        """Note a removed name."""
        self._note(_Entry(path, None))

    def rename(self, source: str, target: str) -> None:
        """Note a rename."""
        self._note(_Entry(target, self.current[source], source))

    def _note(self, entry: _Entry) -> None:
        self._pending.append(entry)
        entry.apply(self.current)

    def sync(self, folder: str) -> None:
        """Put the folder's changes on the disk, and the earlier ones that they build on.

        A rename from one folder to another is on the disk once the folder of its target is synced.
        """
        wanted: set[str] = set()
        settled: list[_Entry] = []
        waiting: list[_Entry] = []
        for entry in reversed(self._pending):
            if str(PurePath(entry.path).parent) == folder or entry.names & wanted:
                wanted |= entry.names
                settled.append(entry)
            else:
                waiting.append(entry)
        for entry in reversed(settled):
            entry.apply(self._durable)
        self._pending = waiting[::-1]

    def survivors(self, chance: Chance) -> dict[str, FileImage]:
        """Return the names that a power loss leaves; a lost change takes the later ones of its names with it."""
        level = keep_level(chance)
        names = dict(self._durable)
        lost: set[str] = set()
        for entry in self._pending:
            if entry.names & lost or not _kept(chance, level):
                lost |= entry.names
            else:
                entry.apply(names)
        return names
