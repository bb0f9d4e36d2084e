"""Audit: what people and programs read of the log: events, the last checkpoint, and signing one now."""

from __future__ import annotations

from typing import Any

import msgspec

from handshake.kernel.catalogue import registry
from handshake.kernel.errors import IntegrityBroken, InvalidRequest, NotFound
from handshake.kernel.ids import SessionId
from handshake.kernel.merkle import leaf_hash
from handshake.kernel.suggestion import suggest
from handshake.kernel.units import MAX_SAFE_INTEGER
from handshake.operations import records
from handshake.operations.views import page_limit
from handshake.ports.store import Reader, Row, Tx


class EventView(msgspec.Struct, frozen=True):
    """An event as it stands in the log: the columns that lists show, and the whole of it in `event`."""

    seq: int
    type: str
    at: str
    """RFC 3339 in UTC with six decimal places."""
    session_id: str | None
    job_id: str | None
    hash: str
    """RFC 6962 leaf hash, in hex."""
    event: dict[str, Any]


def events(
    reader: Reader,
    *,
    after: int = 0,
    limit: int | None = None,
    session_id: SessionId | None = None,
    type: str | None = None,
    since_us: int | None = None,
    newest_first: bool = False,
) -> list[EventView]:
    """Return a page of the log, which a caller that follows the log asks for again with the last `seq` it has.

    Args:
        reader: the state to read.
        after: the last number that the caller has, 0 for none; with `newest_first` the page goes down from it.
        limit: events of the page.
        session_id: only events of this session.
        type: only events of this type.
        since_us: only events from this moment on, in microseconds since 1970.
        newest_first: whether the page goes from the end of the log to its start.

    Raises:
        InvalidRequest: `after`, `limit` or `since_us` is out of range, or no such type; with a suggestion.
        NotFound: no such session.
        IntegrityBroken: the bytes of an event do not have their hash.
    """
    _require_number("after", after)
    _require_number("since_us", since_us or 0)
    if type is not None:
        _require_type(type)
    filters: dict[str, object] = {"type": type, "since_us": since_us or 0, "limit": page_limit(limit)}
    if session_id is not None:
        filters["session_id"] = records.session(reader, session_id).session_id
    of_session = session_id is not None
    if newest_first:
        filters["before"] = after or None
        query = "event_page_before_of_session" if of_session else "event_page_before"
    else:
        filters["after"] = after
        query = "event_page_of_session" if of_session else "event_page"
    return [_view(row) for row in reader.rows(query, filters)]


def event(reader: Reader, seq: int) -> EventView:
    """Return one event.

    Raises:
        NotFound: the log has none of this number.
        IntegrityBroken: its bytes do not have their hash.
    """
    return _view(event_row(reader, seq))


def event_row(reader: Reader, seq: int) -> Row:
    """Return the row of one event.

    Raises:
        NotFound: the log has none of this number.
    """
    row = reader.row("event_by_seq", {"seq": seq}) if 0 < seq <= MAX_SAFE_INTEGER else None
    if row is None:
        raise NotFound(kind="event", seq=seq)
    return row


def end(reader: Reader) -> int:
    """Return the number of the last event, 0 for an empty log: where a tail begins."""
    row: Any = reader.row("log_state")
    return int(row[0])


def last_checkpoint(reader: Reader) -> bytes | None:
    """Return the note of the last checkpoint, ready to be exported, or None if nothing was signed yet."""
    row: Any = reader.row("checkpoint_last")
    return None if row is None else str(row[3]).encode()


def sign_checkpoint(tx: Tx) -> None:
    """Sign the log as it ends with this batch; nothing is done if nothing is unsigned."""
    tx.sign_checkpoint()


def _require_number(field: str, number: int) -> None:
    if not 0 <= number <= MAX_SAFE_INTEGER:
        raise InvalidRequest(field=field, reason="out_of_range", low=0, high=MAX_SAFE_INTEGER)


def _require_type(name: str) -> None:
    known = registry()
    if name not in known:
        near = suggest(name, known)
        hint = f"did you mean {near}?" if near else None
        raise InvalidRequest(field="type", reason="unknown_event_type", hint=hint)


def _view(row: Row) -> EventView:
    columns: Any = row
    seq, name, session_id, job_id, _, digest, body = columns
    if leaf_hash(body) != digest:
        raise IntegrityBroken(subject="event", seq=seq)
    try:
        content = msgspec.json.decode(body, type=dict[str, Any])
        at = str(content["timestamp"])
    except (msgspec.MsgspecError, KeyError) as broken:
        raise IntegrityBroken(subject="event", seq=seq) from broken
    return EventView(seq, name, at, session_id, job_id, digest.hex(), content)
