"""Read-only store: queries over a workspace that another process may be writing to.

Source:
    recorder.read.while_writing (06 §1).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

import apsw

from handshake.kernel.errors import HandshakeError, NotFound
from handshake.kernel.ids import ArtifactId
from handshake.ports.files import Files
from handshake.ports.store import Reader
from handshake.storage.artifacts import ArtifactFiles
from handshake.storage.failures import coded
from handshake.storage.schema import open_reader, require_schema
from handshake.storage.sqlite_store import Place
from handshake.storage.transaction import SqliteReader

T = TypeVar("T")


def _no_names() -> str:
    raise RuntimeError("a reader makes no files")


class ReadOnlyStore:
    """The reading half of the Store port."""

    def __init__(self, place: Place, *, files: Files, any_age: bool = False) -> None:
        """Open the workspace's database for reading.

        Args:
            place: where it lies.
            files: the way to its artifacts.
            any_age: whether an older schema, which this program brings up to date when it works in it, will do; only
                for what every schema has.

        Raises:
            NotFound: there is none.
            IntegrityBroken: it is not one of this program's schema.
        """
        self._artifacts = ArtifactFiles(files, place.artifacts, _no_names)
        if place.vfs is None and not place.database.exists():
            raise NotFound(kind="database")
        self._turn = threading.Lock()
        try:
            self._db = open_reader(place.database, vfs=place.vfs)
            try:
                require_schema(self._db, any_age=any_age)
            except BaseException:
                self._db.close()
                raise
        except apsw.Error as failure:
            raise coded(failure) from failure

    def read_now(self, query: Callable[[Reader], T]) -> T:
        """Run `query` over one consistent state; one after the other, from whatever thread."""
        try:
            with self._turn:
                self._db.execute("BEGIN").close()
                try:
                    return query(SqliteReader(self._db, self._artifacts))
                finally:
                    self._db.execute("COMMIT").close()
        except HandshakeError:
            raise
        except (apsw.Error, OSError) as failure:
            raise coded(failure) from failure

    async def read(self, query: Callable[[Reader], T]) -> T:
        """Run `query` over one consistent state, away from the event loop."""
        return await asyncio.to_thread(self.read_now, query)

    def artifact(self, artifact_id: ArtifactId) -> bytes | None:
        """Return an artifact's bytes, checked against its hash."""
        return self.read_now(lambda reader: reader.artifact(artifact_id))

    def shut(self) -> None:
        """Close the connection."""
        self._db.close()
