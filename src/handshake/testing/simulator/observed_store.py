"""Observed store: the serial store, of which somebody looks at every commit, and which can die in the midst of work."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import apsw

from handshake.kernel.errors import StoreFailed
from handshake.storage.transaction import SqliteReader
from handshake.testing.serial_store import SerialStore

_ID_CHARS = 36
_CHANGING = ("INSERT", "UPDATE", "DELETE")


class ObservedStore(SerialStore):
    """Tells after each commit which ids its statements named."""

    observe: Callable[[SqliteReader, set[str]], None]
    """Called after each commit with a reader, and the ids that changing statements were given."""
    died: Callable[[], bool]
    """Says whether the disk under it is dead."""
    collapse: Callable[[], None]
    """Called when a commit met a dead disk: nothing more may happen."""

    def watch(self) -> None:
        """Begin to look, once `observe`, `died` and `collapse` are set."""
        self._named: set[str] = set()
        self._reader = SqliteReader(self.opened.db, self.opened.artifacts)
        self.opened.db.exec_trace = self._trace

    def crash(self) -> None:
        """End as a process does that dies: nothing more is written, not even a checkpoint."""
        if self._closed:
            return
        self._closed = True
        works, self._pending = self._pending, []
        for work in works:
            if not work.answer.done():
                work.answer.set_exception(StoreFailed(reason="closed"))
        with suppress(apsw.Error):
            self.opened.db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        with suppress(apsw.Error):
            self.opened.db.close()

    def _trace(self, _cursor: object, sql: str, bindings: Any) -> bool:
        if bindings and sql.startswith(_CHANGING):
            given = bindings.values() if isinstance(bindings, dict) else bindings
            self._named.update([one for one in given if isinstance(one, str) and len(one) == _ID_CHARS])
        return True

    def _commit_batch(self, works: Any) -> None:
        if self._closed:
            return
        before = self.commits
        super()._commit_batch(works)
        if self.died():
            self.collapse()
        elif self.commits != before:
            named, self._named = self._named, set()
            self.observe(self._reader, named)
