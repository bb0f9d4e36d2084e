"""Instance lock: one runtime per embedded workspace, and the name of the one that holds it.

The operating system frees the lock when its holder dies, so a lock that can be taken proves that every older
runtime is dead (recovery.second_instance.is_refused, 01 §8).
"""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import suppress
from pathlib import Path

import msgspec

from handshake.kernel.errors import StateConflict, StoreFailed
from handshake.storage.failures import coded

MAX_HOLDER_BYTES = 1_024
_LOOKS = 100
_NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs", "fuse.glusterfs", "ncpfs"}
)
_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPE = re.compile(r"\\([0-7]{3})")
"""How mountinfo writes space, tab, newline and backslash (proc(5))."""


class Holder(msgspec.Struct, frozen=True):
    """Who holds a workspace."""

    pid: int
    started_at: str
    program: str


class InstanceLock:
    """An exclusive lock on a workspace, held until `release` or the end of the process."""

    def __init__(self, path: Path, holder: Holder) -> None:
        """Take the lock at once; its folder is made if it is missing, as after a copy that left empty folders out.

        Raises:
            StateConflict: another runtime holds it; the error names it.
            StoreFailed: there can be no lock in this place.
        """
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as failure:
            raise coded(failure) from failure
        try:
            _lock(self._fd)
        except BlockingIOError as taken:
            os.close(self._fd)
            raise _in_use(path) from taken
        except OSError as failure:
            os.close(self._fd)
            raise coded(failure) from failure
        with suppress(OSError):  # the name is a courtesy; a full disk must not keep a workspace shut
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, msgspec.json.encode(holder), 0)

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with suppress(OSError):
                os.ftruncate(fd, 0)
            os.close(fd)


def _lock(fd: int) -> None:
    """Take the lock, past those who only look for a moment whether someone holds it (`is_held`)."""
    for _ in range(_LOOKS):
        with suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # refused by a holder, granted beside one who looks
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _in_use(path: Path) -> StateConflict:
    known = read_holder(path)
    return StateConflict(
        reason="workspace_in_use",
        holder_pid=known.pid if known else None,
        holder_started_at=known.started_at if known else None,
        holder_program=known.program if known else None,
        hint="wait for that process or end it; reading commands work beside it",
    )


def read_holder(path: Path) -> Holder | None:
    """Return who wrote the lock file last, or None if it says nothing readable."""
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(MAX_HOLDER_BYTES), type=Holder)
    except (OSError, msgspec.MsgspecError):
        return None


def is_held(path: Path) -> bool:
    """Return whether a live process holds the lock."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def refuse_network_file_system(folder: Path, mounts: str | None = None) -> None:
    """Refuse a folder on a network file system, where SQLite's locks do not hold.

    Args:
        folder: an existing folder.
        mounts: text in the form of /proc/self/mountinfo; read from there if None.

    Raises:
        StoreFailed: it is on one.
    """
    if mounts is None:
        try:
            mounts = os.fsdecode(_MOUNTS.read_bytes())
        except OSError:
            return
    best, kind = -1, ""
    place = str(folder.resolve())
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split()
        if len(fields) < 5 or not right:
            continue
        point = _ESCAPE.sub(lambda found: chr(int(found[1], 8)), fields[4])
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best:
            best, kind = len(point), right.split()[0]
    if kind in _NETWORK_FILE_SYSTEMS:
        raise StoreFailed(reason="network_file_system", file_system=kind, hint="put the workspace on a local disk")
