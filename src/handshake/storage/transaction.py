"""Transaction: what a unit of work sees of SQLite, and what a reader sees."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, cast

import apsw

from handshake.kernel.errors import IntegrityBroken
from handshake.kernel.event import Context, Payload, Sealed, redacted, seal
from handshake.kernel.ids import ArtifactId, successors
from handshake.kernel.redaction import KnownValues
from handshake.kernel.units import Microseconds
from handshake.ports.store import Content, Parameters, Row
from handshake.storage.artifacts import ArtifactFiles
from handshake.storage.queries import ADDED_TOGETHER, compiled, touching_added


class SqliteReader:
    """Queries by name on one connection."""

    def __init__(self, db: apsw.Connection, artifacts: ArtifactFiles) -> None:
        self._db = db
        self._cursor = db.cursor()
        """One for all queries: each is read to its end before the next, and a new one would cost as much as a query."""
        self._artifacts = artifacts
        self._queries = compiled()

    def row(self, query: str, parameters: Parameters = {}) -> Row | None:  # noqa: B006  (never changed)
        """Return the first row of a query, or None."""
        text, bind = self._queries[query]
        found = cast(
            "list[Row]", self._cursor.execute(text, bind(parameters)).fetchall()
        )  # a statement is not left open
        return found[0] if found else None

    def rows(self, query: str, parameters: Parameters = {}) -> list[Row]:  # noqa: B006  (never changed)
        """Return all rows of a query."""
        text, bind = self._queries[query]
        return cast("list[Row]", self._cursor.execute(text, bind(parameters)).fetchall())

    def artifact(self, artifact_id: ArtifactId) -> bytes | None:
        """Return an artifact's bytes, checked against its hash; None if there is none.

        Raises:
            IntegrityBroken: the bytes are missing or do not have this hash.
        """
        found = self.row("artifact_get", {"sha256": artifact_id})
        if found is None:
            return None
        data = cast("bytes | None", found[2])
        if data is None:
            data = self._artifacts.read(artifact_id)
        if data is None or hashlib.sha256(data).hexdigest() != artifact_id:
            raise IntegrityBroken(subject="artifact", artifact_id=artifact_id)
        return data


class SqliteTx(SqliteReader):
    """A unit's view of the writer's transaction; events and rows of `ADDED_TOGETHER` wait until the batch ends."""

    def __init__(
        self, db: apsw.Connection, artifacts: ArtifactFiles, new_id: Callable[[], str], known: KnownValues
    ) -> None:
        super().__init__(db, artifacts)
        self._new_id = new_id
        self._event_ids = successors(new_id())
        self._known = known
        self.sealed: list[Sealed] = []
        self._artifacts_added: list[tuple[Any, ...]] = []
        self._messages_added: list[tuple[Any, ...]] = []
        self._events_before = self._artifacts_before = self._messages_before = self._rows_before = 0
        """How far the batch was when the unit began."""
        self._touching = touching_added()
        self.sign_now = False
        self._now_us = Microseconds(0)
        self.timestamp = ""

    @property
    def now_us(self) -> Microseconds:
        """The moment of the batch."""
        return self._now_us

    def begin(self, now_us: Microseconds, timestamp: str) -> None:
        """Start over for a new batch."""
        self._now_us = now_us
        self.timestamp = timestamp
        self._event_ids = successors(self._new_id())
        self.sealed = []
        self._artifacts_added = []
        self._messages_added = []
        self.sign_now = False

    def begin_unit(self) -> None:
        """Remember how far the batch is, so that the unit that begins can be undone."""
        self._events_before = len(self.sealed)
        self._artifacts_before = len(self._artifacts_added)
        self._messages_before = len(self._messages_added)
        self._rows_before = self._db.total_changes()

    def undo_unit(self) -> bool:
        """Forget what the unit has added; return False if it has changed rows, which this does not undo."""
        if self._db.total_changes() != self._rows_before:
            return False
        del self.sealed[self._events_before :]
        del self._artifacts_added[self._artifacts_before :]
        del self._messages_added[self._messages_before :]
        return True

    def write_added(self) -> None:
        """Write the rows that wait; those of units before this one are no change of this one."""
        artifacts, messages = self._artifacts_added, self._messages_added
        if not (artifacts or messages):
            return
        own = (len(artifacts), len(messages)) != (self._artifacts_before, self._messages_before)
        before = self._db.total_changes()
        for query, rows in zip(ADDED_TOGETHER, (artifacts, messages), strict=True):
            if rows:
                self._cursor.executemany(self._queries[query].text, rows)
                rows.clear()
        self._artifacts_before = self._messages_before = 0
        if not own:
            self._rows_before += self._db.total_changes() - before

    def row(self, query: str, parameters: Parameters = {}) -> Row | None:  # noqa: B006  (never changed)
        """Return the first row of a query, or None."""
        if query in self._touching:
            self.write_added()
        return super().row(query, parameters)

    def rows(self, query: str, parameters: Parameters = {}) -> list[Row]:  # noqa: B006  (never changed)
        """Return all rows of a query."""
        if query in self._touching:
            self.write_added()
        return super().rows(query, parameters)

    def run(self, query: str, parameters: Parameters) -> int:
        """Change rows; return how many."""
        if query in self._touching:
            self.write_added()
        text, bind = self._queries[query]
        self._cursor.execute(text, bind(parameters))
        return self._db.changes()

    def add(self, query: str, parameters: Parameters) -> None:
        """Add a row by the end of the batch."""
        assert query == "message_insert", "what waits for the end of a batch is named in `ADDED_TOGETHER`"
        self._messages_added.append(self._queries[query].bind(parameters))

    def insert(self, query: str, parameters: Parameters) -> int:
        """Add a row whose key the store numbers; return its number."""
        if query in self._touching:
            self.write_added()
        text, bind = self._queries[query]
        self._cursor.execute(text, bind(parameters))
        return self._db.last_insert_rowid()

    def run_all(self, query: str, parameters: Sequence[Parameters]) -> int:
        """Change rows once for each of `parameters`; return how many rows in all."""
        if query in self._touching:
            self.write_added()
        text, bind = self._queries[query]
        before = self._db.total_changes()
        self._cursor.executemany(text, map(bind, parameters))
        return self._db.total_changes() - before

    def put(self, content: Content) -> None:
        """Add an artifact's row; a large one's bytes are a durable file already."""
        put = {
            "sha256": content.artifact_id,
            "bytes": content.size_bytes,
            "media_type": content.media_type,
            "created_at_us": self._now_us,
            "data": content.inline,
        }
        self._artifacts_added.append(self._queries["artifact_put"].bind(put))

    def append(self, payload: Payload, context: Context) -> None:
        """Validate and redact an event and add it to the batch; an invalid one fails the unit."""
        sealed = seal(payload, context, event_id=next(self._event_ids), timestamp=self.timestamp)
        self.sealed.append(redacted(sealed, self._known.clean) if self._known else sealed)

    def sign_checkpoint(self) -> None:
        """Sign the log before COMMIT, whoever else is in the batch."""
        self.sign_now = True
