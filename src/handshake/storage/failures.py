"""Failures: what SQLite and the disk report, as coded errors."""

from __future__ import annotations

import errno

import apsw

from handshake.kernel.errors import HandshakeError, IntegrityBroken, StateConflict, StoreFailed

_BROKEN = (apsw.CorruptError, apsw.NotADBError, apsw.FormatError)
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def coded(failure: BaseException) -> HandshakeError:
    """Return the coded error that a failure of the store stands for."""
    if isinstance(failure, HandshakeError):
        return failure
    if isinstance(failure, _BROKEN):
        return IntegrityBroken(subject="database", reason=type(failure).__name__)
    if isinstance(failure, apsw.ConstraintError):
        return StateConflict(reason="constraint")
    if isinstance(failure, apsw.FullError) or (isinstance(failure, OSError) and failure.errno in _DISK_FULL):
        return StoreFailed(reason="disk_full")
    if isinstance(failure, apsw.Error | OSError):
        return StoreFailed(reason=type(failure).__name__)
    return StoreFailed(reason="internal", kind=type(failure).__name__)


def is_storage(failure: BaseException) -> bool:
    """Return whether the store or the disk failed, rather than the unit of work."""
    return isinstance(failure, apsw.Error | OSError) and not isinstance(failure, apsw.ConstraintError)
