"""Events: the envelope, the registry of types, and sealing: validation at ingestion, and canonical bytes.

An event is sealed in two steps. `seal` validates it and encodes all that is known when it is appended;
`Sealed.body` adds its place in the log (`seq`, `prev_hash`) when the batch commits. No byte is encoded twice.

Source:
    recorder.schema.enforced, recorder.session.correlated (06 §1–2).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from enum import StrEnum
from operator import attrgetter
from typing import Any, TypeVar

import msgspec
from msgspec.structs import astuple

from handshake.kernel.canonical import require_provable
from handshake.kernel.errors import InvalidEvent
from handshake.kernel.fields import SHA256_PATTERN, UUID_PATTERN, Count, Id, Name, Sha256, Timestamp, Token
from handshake.kernel.shape import are_hex, are_uuids, matches, patterned, without_patterns

FIRST_PREV_HASH = "0" * 64
"""`prev_hash` of the first event of a log."""


class Actor(StrEnum):
    """Who caused an event."""

    HUMAN = "human"
    AGENT = "agent"
    SYSTEM = "system"


class Retention(StrEnum):
    """How long events of a type are kept (06 §5)."""

    AUDIT = "audit"
    RUN = "run"
    VOLUME = "volume"


class Payload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """Base of all payloads; subclasses list their fields in alphabetical order, which makes them canonical."""


class Context(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an event is about, besides its payload."""

    activity_span_id: Id | None = None
    actor: Actor = Actor.SYSTEM
    actor_id: Name | None = None
    capability_id: Name | None = None
    job_id: Id | None = None
    model_id: Name | None = None
    model_session_id: Id | None = None
    mt_id: Name | None = None
    policy_decision_id: Id | None = None
    session_span_id: Id | None = None
    trace_id: Id | None = None
    wp_id: str | None = None


class _Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """The envelope up to `prev_hash`, in canonical order."""

    activity_span_id: Id | None = None
    actor: Actor
    actor_id: Name | None = None
    capability_id: Name | None = None
    event_id: Id
    fr_id: Token | None = None
    job_id: Id | None = None
    model_id: Name | None = None
    model_session_id: Id | None = None
    mt_id: Name | None = None
    payload: Any
    policy_decision_id: Id | None = None


class Tail(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """The envelope after `seq`, in canonical order."""

    session_span_id: Id | None = None
    timestamp: Timestamp
    trace_id: Id | None = None
    type: Token
    wp_id: Name | None = None


class Place(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """The part of the envelope that the log decides."""

    prev_hash: Sha256
    schema_version: Count
    seq: Count


class EventType(msgspec.Struct, frozen=True):
    """One type of the catalogue."""

    name: str
    fr_id: str | None
    version: int
    payload: type[Payload]
    retention: Retention
    in_session: bool
    summary: str
    heads: msgspec.json.Decoder[Any]
    """Decodes the whole head of an event, patterns included; for events that were written earlier."""
    plain_heads: msgspec.json.Decoder[Any]
    """Decodes a head without its patterns, for events that are being written; `kernel.shape` does the rest."""
    ids: Callable[[Payload], tuple[Any, ...]]
    hashes: Callable[[Payload], tuple[Any, ...]]
    words: Callable[[Payload], tuple[Any, ...]]
    """Give the values of the payload's patterned fields: ids, hashes, and others."""
    patterns: tuple[str, ...]
    """What the values of `words` must match, in their order."""


class Sealed(msgspec.Struct, frozen=True, gc=False):
    """A validated event that waits for its place in the log."""

    type: str
    session_id: str | None
    job_id: str | None
    head: bytes
    version: int
    tail: bytes

    def body(self, seq: int, prev_hash: str) -> bytes:
        """Return the canonical bytes of the whole event, the leaf of the log."""
        return b'%b,"prev_hash":"%b","schema_version":%d,"seq":%d,%b' % (
            self.head,
            prev_hash.encode(),
            self.version,
            seq,
            self.tail,
        )


_registry: dict[str, EventType] = {}
_by_payload: dict[type[Payload], EventType] = {}
_encode = msgspec.json.Encoder().encode
_whole_tails = msgspec.json.Decoder(Tail).decode
_tails = msgspec.json.Decoder(without_patterns(Tail, bases=())).decode
_PlainHead = without_patterns(_Head, bases=())
_context_ids = attrgetter(
    "job_id", "model_session_id", "trace_id", "activity_span_id", "policy_decision_id", "session_span_id"
)
_TIMESTAMP = dict(patterned(Tail))["timestamp"]
_P = TypeVar("_P", bound=Payload)
_BREAKS_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_FIXED = frozenset({UUID_PATTERN, SHA256_PATTERN})
FORBIDDEN_KEYS = frozenset({"body", "body_text", "raw_body", "prompt", "content", "text"})


def event(
    name: str,
    *,
    fr_id: str | None = None,
    version: int = 1,
    retention: Retention = Retention.RUN,
    in_session: bool | None = None,
) -> Callable[[type[_P]], type[_P]]:
    """Register the decorated payload as the schema of event type `name`.

    Args:
        name: the registry's key.
        fr_id: the origin's id where one exists; no two types share one.
        version: `schema_version` of the envelope.
        retention: how long such events are kept.
        in_session: whether `model_session_id` is mandatory; by default it is if the payload has a `session_id`.
    """

    def register(payload: type[_P]) -> type[_P]:
        fields = payload.__struct_encode_fields__
        if name in _registry or (fr_id is not None and any(known.fr_id == fr_id for known in _registry.values())):
            raise TypeError(f"event type or id registered twice: {name}, {fr_id}")
        if list(fields) != sorted(fields) or FORBIDDEN_KEYS.intersection(fields):
            raise TypeError(f"payload fields of {name} must be alphabetical and hold no content")
        require_provable(payload, declared_order=True)
        head = _head_of(_Head, payload)
        plain = _head_of(_PlainHead, without_patterns(payload, bases=()))
        shapes = patterned(payload)
        kind = EventType(
            name=name,
            fr_id=fr_id,
            version=version,
            payload=payload,
            retention=retention,
            in_session="session_id" in fields if in_session is None else in_session,
            summary=(payload.__doc__ or "").split("\n")[0],
            heads=msgspec.json.Decoder(head),
            plain_heads=msgspec.json.Decoder(plain),
            ids=_values_of(one.name for one in shapes if one.pattern == UUID_PATTERN),
            hashes=_values_of(one.name for one in shapes if one.pattern == SHA256_PATTERN),
            words=_values_of(one.name for one in shapes if one.pattern not in _FIXED),
            patterns=tuple(one.pattern for one in shapes if one.pattern not in _FIXED),
        )
        _registry[name] = kind
        _by_payload[payload] = kind
        return payload

    return register


def registry() -> dict[str, EventType]:
    """Return every registered type by name; taken from `kernel.catalogue`, which registers them, it is complete."""
    return dict(_registry)


def seal(payload: Payload, context: Context, *, event_id: str, timestamp: str) -> Sealed:
    """Validate an event and encode all but its place in the log.

    Raises:
        InvalidEvent: unknown type; missing, extra or wrongly typed field; over-long or multi-line string;
            no session where the type demands one, or another than the payload's.
    """
    kind = _by_payload.get(type(payload))
    if kind is None:
        raise InvalidEvent(reason="unknown_type")
    if kind.in_session and context.model_session_id is None:
        raise InvalidEvent(reason="session_missing", event_type=kind.name)
    if (getattr(payload, "session_id", None) or context.model_session_id) != context.model_session_id:
        raise InvalidEvent(reason="session_mismatch", event_type=kind.name)
    try:
        head = _encode(
            _Head(
                activity_span_id=context.activity_span_id,
                actor=context.actor,
                actor_id=context.actor_id,
                capability_id=context.capability_id,
                event_id=event_id,
                fr_id=kind.fr_id,
                job_id=context.job_id,
                model_id=context.model_id,
                model_session_id=context.model_session_id,
                mt_id=context.mt_id,
                payload=payload,
                policy_decision_id=context.policy_decision_id,
            )
        )
        tail = _encode(
            Tail(
                session_span_id=context.session_span_id,
                timestamp=timestamp,
                trace_id=context.trace_id,
                type=kind.name,
                wp_id=context.wp_id,
            )
        )
        # Equality refuses what encodes like the right type and is not: a dict in any order, a set, a float NaN.
        if astuple(kind.plain_heads.decode(head).payload) != astuple(payload):
            raise InvalidEvent(reason="schema", event_type=kind.name)
        _tails(tail)
        if not _is_patterned(kind, payload, context, event_id, timestamp):
            raise InvalidEvent(reason="schema", event_type=kind.name)
        both = head + tail
        if not both.isascii():
            head, tail = _nfc(head), _nfc(tail)
            kind.heads.decode(head)
            _whole_tails(tail)
            _refuse_control_characters(head, tail, kind.name)
        elif b"\\" in both or b"\x7f" in both:
            _refuse_control_characters(head, tail, kind.name)
    except (msgspec.MsgspecError, RecursionError, TypeError, OverflowError, ValueError) as broken:
        raise InvalidEvent(reason="schema", event_type=kind.name) from broken
    return Sealed(kind.name, context.model_session_id, context.job_id, head[:-1], kind.version, tail[1:])


def _is_patterned(kind: EventType, payload: Payload, context: Context, event_id: str, timestamp: str) -> bool:
    """Return whether every patterned text matches; the decoders have seen to kinds and lengths."""
    return (
        all(map(matches, kind.words(payload), kind.patterns))
        and matches(timestamp, _TIMESTAMP)
        and are_uuids((event_id, *_context_ids(context), *kind.ids(payload)))
        and are_hex(kind.hashes(payload))
    )


def _values_of(fields: Iterable[str]) -> Callable[[Payload], tuple[Any, ...]]:
    names = tuple(fields)
    if not names:
        return lambda payload: ()
    get: Callable[[Payload], Any] = attrgetter(*names)
    return get if len(names) > 1 else lambda payload: (get(payload),)


def _head_of(base: type[msgspec.Struct], payload: type[msgspec.Struct]) -> type[msgspec.Struct]:
    return msgspec.defstruct(
        "Head",
        [("payload", payload)],
        bases=(base,),
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
        omit_defaults=True,
    )


def redacted(sealed: Sealed, clean: Callable[[bytes], bytes]) -> Sealed:
    """Return the event with every secret that `clean` knows replaced; `sealed` itself if there is none.

    Raises:
        InvalidEvent: a secret stands where no text may be replaced, as in an id.
    """
    head, tail = clean(sealed.head), clean(sealed.tail)
    if head is sealed.head and tail is sealed.tail:
        return sealed
    try:
        _registry[sealed.type].heads.decode(head + b"}")
        _whole_tails(b"{" + tail)
    except msgspec.MsgspecError as broken:
        raise InvalidEvent(reason="secret_in_id", event_type=sealed.type) from broken
    return msgspec.structs.replace(sealed, head=head, tail=tail)


def parse(name: str, payload: dict[str, Any]) -> Payload:
    """Return the payload of type `name` from loose values, as a file or a test holds them.

    Raises:
        InvalidEvent: unknown type or id; missing, extra or wrongly typed field; over-long string.
    """
    kind = registry().get(name)
    if kind is None:
        raise InvalidEvent(reason="unknown_type")
    try:
        return msgspec.convert(payload, kind.payload)
    except (msgspec.MsgspecError, UnicodeError) as broken:
        raise InvalidEvent(reason="schema", event_type=name) from broken


def is_one_line(text: str) -> bool:
    """Return whether `text` holds no control character and no line or paragraph separator."""
    return _BREAKS_LINE.search(text) is None


def _nfc(encoded: bytes) -> bytes:
    return unicodedata.normalize("NFC", encoded.decode()).encode()


def _refuse_control_characters(head: bytes, tail: bytes, name: str) -> None:
    pending: list[object] = [msgspec.json.decode(head), msgspec.json.decode(tail)]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, str) and not is_one_line(value):
            raise InvalidEvent(reason="not_one_line", event_type=name)
