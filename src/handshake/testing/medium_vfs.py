"""Medium VFS: SQLite's door to a simulated disk, a VFS that connections open by name.

It is SQLite's own unix VFS (locks, shared memory and all), with the calls that reach the disk led past the
medium first. It is bound by ctypes and not a subclass of `apsw.VFS`: what a Python VFS raises reaches the
caller even where SQLite forgives it, as it does when the automatic checkpoint after a commit fails; a commit
that stands would look refused, and a store would do its work twice.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import PurePath
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import apsw

from handshake.testing.file_image import FileImage
from handshake.testing.medium import Medium

VFS_NAME = "simulated-disk"
"""The name under which connections open databases below a mounted medium's root."""

_JOURNALS = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL | apsw.SQLITE_OPEN_WAL
_TRACKED = apsw.SQLITE_OPEN_MAIN_DB | _JOURNALS

_VERSION = 3

_Kept = TypeVar("_Kept")
_Pointer = ctypes.c_void_p
_OpenCall = ctypes.CFUNCTYPE(ctypes.c_int, _Pointer, _Pointer, _Pointer, ctypes.c_int, _Pointer)
_DeleteCall = ctypes.CFUNCTYPE(ctypes.c_int, _Pointer, _Pointer, ctypes.c_int)
_CloseCall = ctypes.CFUNCTYPE(ctypes.c_int, _Pointer)
_TransferCall = ctypes.CFUNCTYPE(ctypes.c_int, _Pointer, _Pointer, ctypes.c_int, ctypes.c_longlong)
_TruncateCall = ctypes.CFUNCTYPE(ctypes.c_int, _Pointer, ctypes.c_longlong)
_SyncCall = ctypes.CFUNCTYPE(ctypes.c_int, _Pointer, ctypes.c_int)

_KEPT_FILE_CALLS = (
    "xFileSize xLock xUnlock xCheckReservedLock xFileControl xSectorSize xDeviceCharacteristics"
    " xShmMap xShmLock xShmBarrier xShmUnmap xFetch xUnfetch"
)
_KEPT_VFS_CALLS = (
    "xAccess xFullPathname xDlOpen xDlError xDlSym xDlClose xRandomness xSleep xCurrentTime xGetLastError"
    " xCurrentTimeInt64 xSetSystemCall xGetSystemCall xNextSystemCall"
)


class _Methods(ctypes.Structure):
    """`sqlite3_io_methods` (sqlite3.h), version 3."""

    _fields_ = [
        ("iVersion", ctypes.c_int),
        ("xClose", _CloseCall),
        ("xRead", _TransferCall),
        ("xWrite", _TransferCall),
        ("xTruncate", _TruncateCall),
        ("xSync", _SyncCall),
        *((name, _Pointer) for name in _KEPT_FILE_CALLS.split()),
    ]


class _Vfs(ctypes.Structure):
    """`sqlite3_vfs` (sqlite3.h), version 3."""

    _fields_ = [
        ("iVersion", ctypes.c_int),
        ("szOsFile", ctypes.c_int),
        ("mxPathname", ctypes.c_int),
        ("pNext", _Pointer),
        ("zName", ctypes.c_char_p),
        ("pAppData", _Pointer),
        ("xOpen", _OpenCall),
        ("xDelete", _DeleteCall),
        *((name, _Pointer) for name in _KEPT_VFS_CALLS.split()),
    ]


@dataclass(slots=True)
class _OpenFile:
    medium: Medium
    image: FileImage
    unix: _Methods
    folder: str | None
    """The folder that the first sync of a journal puts on the disk too."""


_mounts: WeakValueDictionary[str, Medium] = WeakValueDictionary()
_open_files: dict[int, _OpenFile] = {}
_methods_by_unix: dict[int, _Methods] = {}
_linked: list[_Vfs] = []
"""This VFS and the unix one beneath it, once they are linked."""
_link_lock = threading.Lock()


def mount(medium: Medium) -> None:
    """Lead databases below the medium's root past the medium, when opened by the VFS of `VFS_NAME`."""
    with _link_lock:
        if VFS_NAME not in apsw.vfs_names():
            _link()
    _mounts[str(medium.root)] = medium


def _link() -> None:
    """Put a copy of the unix VFS with calls of ours behind it in SQLite's list, as `sqlite3_vfs_register` would."""
    found = _Pointer()
    connection = apsw.Connection(":memory:", vfs="unix")
    connection.file_control("main", apsw.SQLITE_FCNTL_VFS_POINTER, ctypes.addressof(found))
    connection.close()
    assert found.value is not None, "every connection has a VFS"
    unix = _Vfs.from_address(found.value)
    assert unix.iVersion == _VERSION, "the structures above are those of SQLite since 3.7.17"
    ours = _keep(_Vfs.from_buffer_copy(unix))
    ours.zName = VFS_NAME.encode()
    ours.xOpen = _keep(_OpenCall(_open))
    ours.xDelete = _keep(_DeleteCall(_delete))
    unix.pNext = ctypes.addressof(ours)
    _linked[:] = [ours, unix]


def _keep(one: _Kept) -> _Kept:
    """Return the object, which SQLite may call or read until the process ends, even after this module is gone."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(one))
    return one


def _medium_of(path: str) -> Medium:
    for folder in PurePath(path).parents:
        medium = _mounts.get(str(folder))
        if medium is not None:
            return medium
    raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))


def _answers(code: int) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Return a decorator that turns an `OSError` into SQLite's result `code`, or into "full"."""

    def decorate(call: Callable[..., int]) -> Callable[..., int]:
        @wraps(call)
        def answer(*arguments: Any) -> int:
            try:
                return call(*arguments)
            except OSError as error:
                return apsw.SQLITE_FULL if error.errno == errno.ENOSPC else code

        return answer

    return decorate


@_answers(apsw.SQLITE_CANTOPEN)
def _open(_vfs: int, name: int | None, file: int, flags: int, out_flags: int | None) -> int:
    _, unix = _linked
    if name is None or not flags & _TRACKED:
        return int(unix.xOpen(ctypes.addressof(unix), name, file, flags, out_flags))
    path = os.fsdecode(ctypes.string_at(name))
    medium = _medium_of(path)
    with medium.lock:
        creates = bool(flags & apsw.SQLITE_OPEN_CREATE)
        image = medium.open(path, create=creates)
        result = int(unix.xOpen(ctypes.addressof(unix), name, file, flags, out_flags))
        methods = _Pointer.from_address(file)
        if result == apsw.SQLITE_OK and methods.value is not None:
            folder = str(PurePath(path).parent) if creates and flags & _JOURNALS else None
            _open_files[file] = _OpenFile(medium, image, _Methods.from_address(methods.value), folder)
            methods.value = ctypes.addressof(_led_past_medium(methods.value))
    return result


def _led_past_medium(unix: int) -> _Methods:
    """Return our copy of the unix methods at that address; there are a few such tables, all constant."""
    if unix not in _methods_by_unix:
        ours = _Methods.from_buffer_copy(_Methods.from_address(unix))
        assert ours.iVersion == _VERSION, "SQLite's unix files have shared memory and memory maps"
        ours.xClose = _keep(_CloseCall(_close))
        ours.xRead = _keep(_TransferCall(_read))
        ours.xWrite = _keep(_TransferCall(_write))
        ours.xTruncate = _keep(_TruncateCall(_truncate))
        ours.xSync = _keep(_SyncCall(_sync))
        _methods_by_unix[unix] = _keep(ours)
    return _methods_by_unix[unix]


@_answers(apsw.SQLITE_IOERR_DELETE)
def _delete(_vfs: int, name: int, sync_folder: int) -> int:
    _, unix = _linked
    path = os.fsdecode(ctypes.string_at(name))
    medium = _medium_of(path)
    with medium.lock:
        if medium.exists(path):
            medium.unlink(path)
        result = int(unix.xDelete(ctypes.addressof(unix), name, 0))
        if result == apsw.SQLITE_OK and sync_folder:
            medium.sync_folder(str(PurePath(path).parent))
    return result


@_answers(apsw.SQLITE_IOERR_CLOSE)
def _close(file: int) -> int:
    return int(_open_files.pop(file).unix.xClose(file))


@_answers(apsw.SQLITE_IOERR_READ)
def _read(file: int, buffer: int, length: int, offset: int) -> int:
    opened = _open_files[file]
    opened.medium.check()
    return int(opened.unix.xRead(file, buffer, length, offset))


@_answers(apsw.SQLITE_IOERR_WRITE)
def _write(file: int, buffer: int, length: int, offset: int) -> int:
    opened = _open_files[file]
    with opened.medium.lock:
        room = opened.medium.write(opened.image, offset, ctypes.string_at(buffer, length))
        result = int(opened.unix.xWrite(file, buffer, room, offset)) if room else apsw.SQLITE_OK
    return result if room == length else apsw.SQLITE_FULL


@_answers(apsw.SQLITE_IOERR_TRUNCATE)
def _truncate(file: int, size: int) -> int:
    opened = _open_files[file]
    with opened.medium.lock:
        opened.medium.truncate(opened.image, size)
        return int(opened.unix.xTruncate(file, size))


@_answers(apsw.SQLITE_IOERR_FSYNC)
def _sync(file: int, _flags: int) -> int:
    """Sync on the medium only; the real file is nobody's truth.

    The first sync of a journal syncs its folder as well, and forgives when that fails, as the unix VFS does.
    """
    opened = _open_files[file]
    with opened.medium.lock:
        opened.medium.sync(opened.image)
        folder, opened.folder = opened.folder, None
        if folder is not None:
            with suppress(OSError):
                opened.medium.sync_folder(folder)
            opened.medium.check()
    return int(apsw.SQLITE_OK)
