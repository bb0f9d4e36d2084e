"""Openat: the two calls of the operating system that Python lacks: open beneath a folder, and swap two names.

Source:
    capability.path.no_escape (02 §7); openat2(2), renameat2(2).
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os

_OPENAT2 = 437
"""The same number on every architecture (Linux 5.6)."""
_NO_XDEV, _NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 0x01, 0x02, 0x04, 0x08
_SWAP, _NO_REPLACE = 0x02, 0x01
_HERE = -100
_HOW_BYTES = 24
_MAX_TRIES = 16
"""EAGAIN: something was renamed meanwhile, and the kernel cannot say whether the path stayed beneath."""
_NOT_KNOWN = frozenset({errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.E2BIG})


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long


def open_beneath(folder: int, path: str, flags: int, *, links: bool = False) -> int:
    """Open a path that stays beneath an open folder and on its mount, and return the descriptor.

    Args:
        folder: descriptor of the folder.
        path: relative to it.
        flags: as of open(2); `O_CLOEXEC` is added.
        links: whether links that stay beneath are followed; else any link on the way is ELOOP. Links of /proc never
            are.

    Raises:
        OSError: as open(2); EXDEV if the path leaves the folder or crosses a mount point.
    """
    resolve = _BENEATH | _NO_MAGICLINKS | _NO_XDEV | (0 if links else _NO_SYMLINKS)
    how = _How(flags | os.O_CLOEXEC, 0, resolve)
    for _ in range(_MAX_TRIES):
        opened: int = _syscall(
            ctypes.c_long(_OPENAT2),
            ctypes.c_int(folder),
            ctypes.c_char_p(os.fsencode(path)),
            ctypes.byref(how),
            ctypes.c_size_t(_HOW_BYTES),
        )
        if opened >= 0:
            return opened
        number = ctypes.get_errno()
        if number not in (errno.EAGAIN, errno.EINTR):
            raise OSError(number, os.strerror(number))
    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))


@functools.cache
def can_open_beneath() -> bool:
    """Return whether this kernel, and the filter that this process may run under, know `open_beneath`."""
    try:
        os.close(open_beneath(_HERE, ".", os.O_PATH | os.O_DIRECTORY))
    except OSError:
        return False
    return True


def swap(folder: int, one: str, other: str) -> bool:
    """Give two files of a folder each other's names at once; return False if the file system cannot.

    Raises:
        OSError: as rename(2); ENOENT if one of them is not there.
    """
    return _renamed(folder, one, other, _SWAP)


def rename_new(folder: int, source: str, target: str) -> bool:
    """Give a file a name that is free, at once; return False if the file system cannot say whether it is.

    Raises:
        OSError: as rename(2); EEXIST if the name is taken.
    """
    return _renamed(folder, source, target, _NO_REPLACE)


def _renamed(folder: int, source: str, target: str, flags: int) -> bool:
    known = getattr(_libc, "renameat2", None)
    if known is None:
        return False
    failed = known(
        ctypes.c_int(folder),
        ctypes.c_char_p(os.fsencode(source)),
        ctypes.c_int(folder),
        ctypes.c_char_p(os.fsencode(target)),
        ctypes.c_uint(flags),
    )
    if not failed:
        return True
    number = ctypes.get_errno()
    if number in _NOT_KNOWN:
        return False
    raise OSError(number, os.strerror(number))
