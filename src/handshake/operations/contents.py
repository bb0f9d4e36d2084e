"""Contents: holds messages to the events that tell of them, and artifacts to their hashes.

Source:
    recorder.atomic (06 §1).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import zip_longest
from typing import Any

import msgspec

from handshake.kernel.catalogue import SessionMessage
from handshake.kernel.errors import IntegrityBroken
from handshake.kernel.ids import ArtifactId
from handshake.kernel.settings import LOG_PAGE_EVENTS, MAX_PAGE_ITEMS
from handshake.operations.verdict import Break, Damage, Read
from handshake.ports.store import Reader

_MESSAGE = "session.message"


class _Told(msgspec.Struct, frozen=True):
    payload: SessionMessage


_told = msgspec.json.Decoder(_Told).decode


def broken(read: Read) -> Break | None:
    """Return the first message or artifact that is not what its evidence says; the log itself is taken as sound."""
    return _first_message(read) or _first_artifact(read)


def _first_message(read: Read) -> Break | None:
    orphan: Any = read(lambda reader: reader.row("event_without_session", {"type": _MESSAGE}))
    if orphan is not None:
        return Break(Damage.STATE_ALTERED, orphan[0], orphan[0], "session")
    after = ""
    while True:
        page = _ids(read, "session_ids", after)
        for session_id in page:
            found = read(partial(_first_unlike, session_id=session_id))
            if found is not None:
                return found
        if not page:
            break
        after = page[-1]
    if read(lambda reader: reader.row("message_astray")) is not None:
        return Break(Damage.STATE_ALTERED, 0, 0, "message")
    if read(lambda reader: reader.row("job_astray")) is not None:  # what is not in its session's chain is not shown
        return Break(Damage.STATE_ALTERED, 0, 0, "job")
    return None


def _first_unlike(reader: Reader, session_id: str) -> Break | None:
    """Return the first message of a session that is not as its event tells, or one of which the other is missing.

    Each has the number of its place: that there is one message to a number is kept by no key.
    """
    seq = 0
    for told, stored in zip_longest(_events(reader, session_id), _messages(reader, session_id)):
        seq, said = told or (seq, None)
        if said != stored:
            return Break(Damage.STATE_ALTERED, seq if told else 0, seq if told else 0, "message")
    return None


def _events(reader: Reader, session_id: str) -> Iterator[tuple[int, tuple[object, ...]]]:
    after = number = 0
    while True:
        filters = {"session_id": session_id, "type": _MESSAGE, "since_us": 0, "after": after, "limit": LOG_PAGE_EVENTS}
        rows: list[Any] = reader.rows("event_page_of_session", filters)
        for row in rows:
            after, number, one = row[0], number + 1, _told(row[6]).payload
            yield after, (
                number, one.message_id, one.role.value, one.content_hash, one.content_artifact_id, one.token_count,
                one.source_kind, one.trusted,
            )  # fmt: skip
        if len(rows) < LOG_PAGE_EVENTS:
            return


def _messages(reader: Reader, session_id: str) -> Iterator[tuple[object, ...]]:
    after = after_row = 0
    while True:
        filters = {"session_id": session_id, "after": after, "after_row": after_row, "limit": LOG_PAGE_EVENTS}
        rows: list[Any] = reader.rows("message_evidence", filters)
        for row, seq, *columns, trusted in rows:
            after, after_row = seq, row
            yield (seq, *columns, bool(trusted))
        if len(rows) < LOG_PAGE_EVENTS:
            return


def _first_artifact(read: Read) -> Break | None:
    missing: Any = read(lambda reader: reader.row("artifact_missing"))
    if missing is not None:
        return Break(Damage.ARTIFACT_BROKEN, 0, 0, "missing", missing[0])
    after = ""
    while True:
        page = _ids(read, "artifact_ids", after)
        for artifact_id in page:
            try:
                read(partial(_look, artifact_id=ArtifactId(artifact_id)))
            except IntegrityBroken:
                return Break(Damage.ARTIFACT_BROKEN, 0, 0, "bytes", artifact_id)
        if not page:
            return None
        after = page[-1]


def _look(reader: Reader, artifact_id: ArtifactId) -> None:
    reader.artifact(artifact_id)


def _ids(read: Read, query: str, after: str) -> list[str]:
    rows: list[Any] = read(lambda reader: reader.rows(query, {"after": after, "limit": MAX_PAGE_ITEMS}))
    return [row[0] for row in rows]
