"""Artifacts: large content as files named by their hash, durable before any row refers to them."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from handshake.kernel.errors import IntegrityBroken
from handshake.kernel.ids import ArtifactId
from handshake.kernel.settings import MAX_ARTIFACT_BYTES, MAX_INLINE_ARTIFACT_BYTES
from handshake.kernel.units import Bytes
from handshake.ports.files import Files
from handshake.ports.store import Content

_NOT_AS_WRITTEN = frozenset({errno.EFBIG, errno.ELOOP, errno.EISDIR, errno.ENOTDIR})
"""What is said of a file that someone made larger, or replaced by a link or a folder."""


class ArtifactFiles:
    """The folder `artifacts/`: `ab/cdef…` holds the bytes whose SHA-256 is `abcdef…`."""

    def __init__(self, files: Files, folder: Path, new_name: Callable[[], str]) -> None:
        self._files = files
        self._folder = folder
        self._new_name = new_name

    def path(self, artifact_id: ArtifactId) -> Path:
        """Return where the artifact's file is, if it is one."""
        return self._folder / artifact_id[:2] / artifact_id[2:]

    def keep(self, data: bytes, media_type: str) -> Content:
        """Hash `data`; write it as a durable file if it is too large for the store.

        A file of that name that does not hold `data` any more is replaced: what is kept now can be read later.

        Raises:
            OSError: it cannot be written; nothing refers to what may be left.
        """
        artifact_id = ArtifactId(hashlib.sha256(data).hexdigest())
        if len(data) <= MAX_INLINE_ARTIFACT_BYTES:
            return Content(artifact_id, len(data), media_type, data)
        final = self.path(artifact_id)
        if not self._holds(final, data):
            self._files.make_folder(final.parent)
            draft = final.parent / f"{self._new_name()}.new"
            try:
                self._files.write_new(draft, data)
                self._files.rename(draft, final)
            except OSError:
                with suppress(FileNotFoundError):
                    self._files.unlink(draft)
                raise
        self._files.sync_folder(final.parent)
        return Content(artifact_id, len(data), media_type, None)

    def read(self, artifact_id: ArtifactId) -> bytes | None:
        """Return the bytes of an artifact's file, or None if there is none; whether they fit is for the caller to see.

        Raises:
            IntegrityBroken: what has its name is too large, or not a file.
            OSError: it cannot be read.
        """
        try:
            return self._files.read(self.path(artifact_id), max_bytes=Bytes(MAX_ARTIFACT_BYTES))
        except FileNotFoundError:
            return None
        except OSError as failure:
            if failure.errno in _NOT_AS_WRITTEN:
                raise IntegrityBroken(subject="artifact", artifact_id=artifact_id, errno=failure.errno) from failure
            raise

    def _holds(self, path: Path, data: bytes) -> bool:
        try:
            return self._files.read(path, max_bytes=Bytes(len(data))) == data
        except FileNotFoundError:
            return False
        except OSError as failure:
            if failure.errno in _NOT_AS_WRITTEN:
                return False
            raise
