"""Recorded events: bytes that sealing writes are taken back, and no others."""

from __future__ import annotations

import pytest

from handshake.kernel.catalogue import SecurityViolation, SessionMessage
from handshake.kernel.errors import InvalidEvent
from handshake.kernel.event import FIRST_PREV_HASH, Actor, Context, Payload, seal
from handshake.kernel.message import MessageRole
from handshake.kernel.recorded import read, require_sealed
from tests.requirement import requirement

ID = "01890000-0000-7000-8000-00000000000a"
AT = "2026-01-01T00:00:00.000001Z"
HASH = "ab" * 32
MESSAGE = SessionMessage(
    content_artifact_id=HASH, content_hash=HASH, message_id=ID, role=MessageRole.USER, session_id=ID,
    source_kind="operator", token_count=None, trusted=True,
)  # fmt: skip
VIOLATION = SecurityViolation(action_taken="refused", guard_name="test", trigger="count", violation_type="none")
IN_SESSION = Context(
    actor=Actor.HUMAN, actor_id="Zo\u00eb, operator", job_id=ID, model_session_id=ID, trace_id=ID, wp_id="a \\ b"
)


def body(payload: Payload = MESSAGE, context: Context = IN_SESSION, seq: int = 7, prev: str = HASH) -> bytes:
    return seal(payload, context, event_id=ID, timestamp=AT).body(seq, prev)


def test_place_of_an_event_is_read_back() -> None:
    event = read(body())
    assert (event.seq, event.prev_hash, event.timestamp, event.type) == (7, HASH, AT, "session.message")
    assert (event.model_session_id, event.job_id) == (ID, ID)
    alone = read(body(VIOLATION, Context(), 1, FIRST_PREV_HASH))
    assert (alone.seq, alone.prev_hash, alone.model_session_id, alone.job_id) == (1, FIRST_PREV_HASH, None, None)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b'{"seq":"7"}', b"[" * 100_000])
def test_what_is_no_event_is_refused(data: bytes) -> None:
    for check in (read, require_sealed):
        with pytest.raises(InvalidEvent):
            check(data)


@requirement("recorder.schema.enforced")
@pytest.mark.parametrize("context", [Context(), IN_SESSION])
def test_sealed_bytes_are_taken(context: Context) -> None:
    data = body(VIOLATION, context)
    require_sealed(data)
    assert read(data).seq == 7
    require_sealed(body())


@requirement("recorder.schema.enforced")
@pytest.mark.parametrize(
    ("was", "now"),
    [
        (b'{"actor"', b'{ "actor"'),
        (b'"seq":7', b'"seq":7.0'),
        (b'"seq":7', b'"seq":07'),
        (b'"seq":7', b'"seq":"7"'),
        (b'"seq":7', b'"seq":-7'),
        (b'"schema_version":1', b'"schema_version":2'),
        (b'"fr_id":"FR-EVT-SESS-004",', b""),
        (b'"trusted":true', b'"trusted":1'),
        (b'"trusted":true', b'"trusted":true,"extra":1'),
        (b'"role":"USER"', b'"role":"ROOT"'),
        (b'"role":"USER",', b""),
        (b'"actor":"human"', b'"actor":"robot"'),
        (b'"type":"session.message"', b'"type":"session.massage"'),
        (b'"type":"session.message"', b'"type":"session.completed"'),
        (b'"type":"session.message"', b'"type":["session.message"]'),
        (b'"payload":{', b'"payload":{"body":"x",'),
        (b',"wp_id"', b',"wp":"x","wp_id"'),
        (b"Zo\xc3\xab", b"Zoe\xcc\x88"),
        (b"Zo\xc3\xab", b"Zo\\u00eb"),
        (b'operator"', b'opera\\ntor"'),
        (b'"prev_hash":"ab', b'"prev_hash":"AB'),
    ],
)
def test_other_bytes_are_refused(was: bytes, now: bytes) -> None:
    data = body()
    assert was in data
    with pytest.raises(InvalidEvent):
        require_sealed(data.replace(was, now, 1))


@requirement("recorder.schema.enforced")
def test_session_of_envelope_and_payload_are_one() -> None:
    other = ID.replace("a", "b").encode()
    data = body()
    at = data.index(b'"model_session_id":"') + len(b'"model_session_id":"')
    with pytest.raises(InvalidEvent):
        require_sealed(data[:at] + other + data[at + 36 :])
    with pytest.raises(InvalidEvent):
        require_sealed(data.replace(b'"model_session_id":"%b",' % ID.encode(), b""))
