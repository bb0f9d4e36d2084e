"""Recorded events: what the bytes of the log tell, and whether sealing could have written them.

Source:
    recorder.log.verifies, recorder.schema.enforced (06 §1).
"""

from __future__ import annotations

from typing import Any

import msgspec

from handshake.kernel.catalogue import parse
from handshake.kernel.errors import InvalidEvent
from handshake.kernel.event import Context, Place, seal


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """The part of an event that the log's columns and chain repeat."""

    prev_hash: str
    seq: int
    timestamp: str
    type: str
    job_id: str | None = None
    model_session_id: str | None = None


_recorded = msgspec.json.Decoder(Recorded).decode
_ABOUT = Context.__struct_fields__
_PLACE = Place.__struct_fields__


def read(body: bytes) -> Recorded:
    """Return what an event's bytes say about its place; nothing else in them is looked at.

    Raises:
        InvalidEvent: they are no event.
    """
    try:
        return _recorded(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as broken:
        raise InvalidEvent(reason="schema") from broken


def require_sealed(body: bytes) -> None:
    """Refuse bytes that sealing does not write: another form than the canonical one, or not the type's schema.

    Raises:
        InvalidEvent: unknown type; missing, extra or wrongly typed field; other bytes than the canonical ones.
    """
    try:
        whole: dict[str, Any] = msgspec.json.decode(body, type=dict[str, Any])
        payload = parse(whole["type"], whole["payload"])
        context = Context(**{name: whole[name] for name in _ABOUT if name in whole})
        sealed = seal(payload, context, event_id=whole["event_id"], timestamp=whole["timestamp"])
        place = msgspec.convert({name: whole[name] for name in _PLACE}, Place)
        again = sealed.body(place.seq, place.prev_hash)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, LookupError, TypeError, AttributeError) as broken:
        raise InvalidEvent(reason="schema") from broken
    if again != body:
        raise InvalidEvent(reason="not_canonical", event_type=sealed.type)
