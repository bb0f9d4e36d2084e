"""Artifacts: large content as files named by their hash, durable before any row refers to them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from handshake.kernel.ids import ArtifactId
from handshake.kernel.settings import MAX_ARTIFACT_BYTES, MAX_INLINE_ARTIFACT_BYTES
from handshake.kernel.units import Bytes
from handshake.ports.files import Files
from handshake.ports.store import Content


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

        Raises:
            OSError: it cannot be written; nothing refers to what may be left.
        """
        artifact_id = ArtifactId(hashlib.sha256(data).hexdigest())
        if len(data) <= MAX_INLINE_ARTIFACT_BYTES:
            return Content(artifact_id, len(data), media_type, data)
        final = self.path(artifact_id)
        if not self._files.exists(final):
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
        """Return the bytes of an artifact's file, or None if there is none."""
        try:
            return self._files.read(self.path(artifact_id), max_bytes=Bytes(MAX_ARTIFACT_BYTES))
        except FileNotFoundError:
            return None
