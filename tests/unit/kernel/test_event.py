"""Events are refused at ingestion unless they match their schema, and sealed as one canonical record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from handshake.kernel.catalogue import (
    CascadeCancel,
    LlmInference,
    PolicyChanged,
    SchedulerDispatch,
    SessionCreated,
    SessionStateChange,
    SpawnRejected,
    SpawnRejection,
    SystemInjectionRejected,
    TokenFigures,
    parse,
    registry,
)
from handshake.kernel.errors import InvalidEvent
from handshake.kernel.event import Actor, Context, Payload, Place, Retention, Sealed, event, seal
from handshake.kernel.job import Backend
from handshake.kernel.lane import Lane
from handshake.kernel.session import MemoryPolicy, SessionState
from handshake.kernel.units import MAX_SAFE_INTEGER
from tests.requirement import requirement

SESSION = "01890000-0000-7000-8000-000000000001"
OTHER = "01890000-0000-7000-8000-000000000002"
EVENT = "01890000-0000-7000-8000-00000000000e"
HASH = "ab" * 32
NOW = "2026-01-02T03:04:05.000006Z"
IN_SESSION = Context(model_session_id=SESSION)


def sealed(payload: Payload, context: Context = IN_SESSION, *, event_id: str = EVENT, timestamp: str = NOW) -> Sealed:
    return seal(payload, context, event_id=event_id, timestamp=timestamp)


def refused(payload: Any, context: Context = IN_SESSION, **envelope: Any) -> InvalidEvent:
    with pytest.raises(InvalidEvent) as caught:
        sealed(payload, context, **envelope)
    return caught.value


def dispatch(**changed: Any) -> SchedulerDispatch:
    given: dict[str, Any] = {
        "attempt": 1,
        "job_id": OTHER,
        "lane": Lane.PRIMARY,
        "queue_wait_ms": 3,
        "session_id": SESSION,
    }
    return SchedulerDispatch(**(given | changed))


def created(**changed: Any) -> SessionCreated:
    given: dict[str, Any] = {
        "backend": Backend.LOCAL,
        "memory_policy": MemoryPolicy.EPHEMERAL,
        "model_id": "qwen/qwen3:8b@q4 +x",
        "mt_id": None,
        "role": "rolepack:demo/reader",
        "session_id": SESSION,
        "spawn_depth": 0,
        "wp_id": None,
    }
    return SessionCreated(**(given | changed))


def cancelled(**changed: Any) -> CascadeCancel:
    given: dict[str, Any] = {
        "cancelled_session_ids": (SESSION,),
        "reason": "operator",
        "root_session_id": SESSION,
        "skipped_session_ids": (),
    }
    return CascadeCancel(**(given | changed))


def inferred(**changed: Any) -> LlmInference:
    given: dict[str, Any] = {
        "attempt": 1,
        "latency_ms": 12,
        "model_id": "m",
        "prompt_hash": HASH,
        "token_usage": None,
        "trace_id": OTHER,
    }
    return LlmInference(**(given | changed))


def body(one: Sealed) -> dict[str, Any]:
    return msgspec.json.decode(one.body(7, HASH), type=dict[str, Any])


def test_a_sealed_event_is_one_record_in_canonical_order() -> None:
    context = Context(actor=Actor.HUMAN, actor_id="ada", job_id=OTHER, model_session_id=SESSION, trace_id=OTHER)
    one = sealed(dispatch(session_state_after=SessionState.ACTIVE), context)
    assert one.body(7, HASH) == (
        b'{"actor":"human","actor_id":"ada","event_id":"%b","fr_id":"FR-EVT-SESS-SCHED-002","job_id":"%b",'
        b'"model_session_id":"%b","payload":{"attempt":1,"job_id":"%b","lane":"PRIMARY","queue_wait_ms":3,'
        b'"session_id":"%b","session_state_after":"ACTIVE"},"prev_hash":"%b","schema_version":1,"seq":7,'
        b'"timestamp":"%b","trace_id":"%b","type":"session_scheduler.dispatch"}'
        % tuple(text.encode() for text in (EVENT, OTHER, SESSION, OTHER, SESSION, HASH, NOW, OTHER))
    )
    assert (one.type, one.session_id, one.job_id, one.version) == ("session_scheduler.dispatch", SESSION, OTHER, 1)


def test_the_place_in_the_log_is_a_record_of_its_own() -> None:
    fields = body(sealed(dispatch()))
    place = {name: fields[name] for name in Place.__struct_fields__}
    assert msgspec.convert(place, Place) == Place(prev_hash=HASH, schema_version=1, seq=7)


def test_what_is_optional_is_left_out_and_what_may_be_null_is_written() -> None:
    assert body(sealed(inferred()))["payload"] == {
        "attempt": 1,
        "latency_ms": 12,
        "model_id": "m",
        "prompt_hash": HASH,
        "token_usage": None,
        "trace_id": OTHER,
    }
    unreported = sealed(inferred(token_usage=TokenFigures(prompt_tokens=0)))
    assert body(unreported)["payload"]["token_usage"] == {"prompt_tokens": 0}


def test_a_field_may_have_a_name_that_is_a_word_of_the_language() -> None:
    one = sealed(PolicyChanged(from_=None, key="approvals", to="present", user_id="ada"), Context())
    assert body(one)["payload"] == {"from": None, "key": "approvals", "to": "present", "user_id": "ada"}


NAMES = ['quoted "name"', "back\\slash", "Zoë", "山田\u3000太郎", "non\u00a0breaking", "👩\u200d🚀", "x" * 200]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_people_are_taken_as_they_are(name: str) -> None:
    assert body(sealed(created(model_id=name)))["payload"]["model_id"] == name


def test_names_are_kept_in_one_normal_form() -> None:
    assert body(sealed(created(model_id="e\u0301"), Context(actor_id="e\u0301", model_session_id=SESSION))) == body(
        sealed(created(model_id="\u00e9"), Context(actor_id="\u00e9", model_session_id=SESSION))
    )


@pytest.mark.parametrize("field", ["wp_id", "mt_id", "actor_id"])
def test_a_name_that_is_too_long_in_its_normal_form_is_refused(field: str) -> None:
    """Else the log would hold an event that nobody can read again."""
    grows = "\u0958"  # two characters in normal form
    fits: dict[str, Any] = {field: grows * 100}
    longer: dict[str, Any] = {field: grows * 101}
    sealed(dispatch(), Context(model_session_id=SESSION, **fits))
    assert refused(dispatch(), Context(model_session_id=SESSION, **longer)).code == "HSK-400-INVALID-EVENT"


class Unregistered(Payload, frozen=True, kw_only=True):
    """A record that no type of the catalogue has."""

    attempt: int


class Wider(SchedulerDispatch, frozen=True, kw_only=True):
    """A record that adds to a type of the catalogue."""

    zeal: int


@requirement("recorder.schema.enforced")
@pytest.mark.parametrize("payload", [Unregistered(attempt=1), {"attempt": 1}, "words", None, TokenFigures()])
def test_an_unknown_type_is_refused(payload: object) -> None:
    assert refused(payload).context == {"reason": "unknown_type"}


@requirement("recorder.schema.enforced")
def test_an_extra_field_is_refused() -> None:
    fields = {name: getattr(dispatch(), name) for name in SchedulerDispatch.__struct_fields__}
    assert refused(Wider(zeal=1, **fields)).context == {"reason": "unknown_type"}


LOOPED: list[Any] = []
LOOPED.append(LOOPED)

BAD: dict[str, Callable[[], Payload]] = {
    "a number for a word": lambda: dispatch(lane=3),
    "a word outside the vocabulary": lambda: dispatch(lane="EXPRESS"),
    "a word for a number": lambda: dispatch(attempt="1"),
    "a truth value for a number": lambda: dispatch(attempt=True),
    "a fraction": lambda: dispatch(attempt=1.5),
    "a whole fraction": lambda: dispatch(attempt=1.0),
    "not a number": lambda: dispatch(attempt=float("nan")),
    "not a number where null may stand": lambda: inferred(time_to_first_token_ms=float("nan")),
    "a negative count": lambda: dispatch(attempt=-1),
    "an integer that not every reader keeps": lambda: dispatch(attempt=MAX_SAFE_INTEGER + 1),
    "an integer beyond 64 bits": lambda: dispatch(attempt=2**80),
    "null where it may not stand": lambda: dispatch(attempt=None),
    "an object": lambda: dispatch(attempt=object()),
    "bytes": lambda: created(model_id=b"m"),
    "an id in capitals": lambda: dispatch(job_id=EVENT.upper()),
    "an id that is none": lambda: dispatch(job_id="job-1"),
    "a hash that is too short": lambda: inferred(prompt_hash=HASH[:-2]),
    "a token with a space": lambda: created(role="two words"),
    "a token over its length": lambda: created(role="r" * 65),
    "a token that ends its line": lambda: created(role="worker\n"),
    "an empty token": lambda: created(role=""),
    "a name over its length": lambda: created(model_id="m" * 201),
    "an empty name": lambda: created(model_id=""),
    "a name of two lines": lambda: created(model_id="one\ntwo"),
    "a name with a separator of lines": lambda: created(model_id="one\u2028two"),
    "a name with a next-line sign": lambda: created(model_id="one\u0085two"),
    "a name with a delete sign": lambda: created(model_id="one\x7ftwo"),
    "a name with an escape sign": lambda: created(model_id="\x1b[31mred"),
    "a lone surrogate": lambda: created(model_id="\ud800"),
    "a record as a dict": lambda: inferred(token_usage={"total_tokens": 1, "prompt_tokens": 1}),
    "a list without order": lambda: cancelled(cancelled_session_ids={SESSION, OTHER}),
    "a list of another kind": lambda: cancelled(cancelled_session_ids=("one",)),
    "a list over its length": lambda: cancelled(skipped_session_ids=(SESSION,) * 10_001),
    "a word for a list": lambda: cancelled(cancelled_session_ids=SESSION),
    "a list without an end": lambda: cancelled(cancelled_session_ids=LOOPED),
    "a record of another kind": lambda: inferred(token_usage=dispatch()),
}


@requirement("recorder.schema.enforced")
@pytest.mark.parametrize("make", BAD.values(), ids=BAD)
def test_a_payload_that_does_not_match_is_refused(make: Callable[[], Payload]) -> None:
    assert refused(make()).context["reason"] in {"schema", "not_one_line"}


@requirement("recorder.schema.enforced")
@pytest.mark.parametrize("length", [0, 1])
def test_a_refusal_tells_the_type_and_never_the_value(length: int) -> None:
    told = refused(created(model_id=("planted\n", "planted" * 60)[length]))
    assert told.context["event_type"] == "session.created"
    assert "planted" not in str(told)


BAD_ENVELOPES: dict[str, tuple[Context, dict[str, Any]]] = {
    "event id": (IN_SESSION, {"event_id": "1"}),
    "event id of another type": (IN_SESSION, {"event_id": 1}),
    "timestamp": (IN_SESSION, {"timestamp": "2026-01-02T03:04:05Z"}),
    "timestamp of another type": (IN_SESSION, {"timestamp": None}),
    "actor": (Context(actor="robot", model_session_id=SESSION), {}),  # type: ignore[arg-type]
    "actor id": (Context(actor_id="a\nb", model_session_id=SESSION), {}),
    "job id": (Context(job_id="j", model_session_id=SESSION), {}),
    "trace id": (Context(trace_id="t", model_session_id=SESSION), {}),
    "work packet": (Context(wp_id="w" * 201, model_session_id=SESSION), {}),
    "surrogate": (Context(wp_id="\udfff", model_session_id=SESSION), {}),
    "span": (Context(session_span_id=SESSION[:-1], model_session_id=SESSION), {}),
}


@requirement("recorder.schema.enforced")
@pytest.mark.parametrize(("context", "envelope"), BAD_ENVELOPES.values(), ids=BAD_ENVELOPES)
def test_an_envelope_that_does_not_match_is_refused(context: Context, envelope: dict[str, Any]) -> None:
    assert refused(dispatch(), context, **envelope).context["reason"] in {"schema", "not_one_line"}


@requirement("recorder.session.correlated")
def test_an_event_of_a_session_is_refused_without_it() -> None:
    assert refused(dispatch(), Context()).context["reason"] == "session_missing"
    spawn = SpawnRejected(
        active_children_count=4,
        rejection_reason=SpawnRejection.CHILDREN_CAP_REACHED,
        requester_session_id=SESSION,
        spawn_depth=1,
    )
    assert refused(spawn, Context()).context["reason"] == "session_missing"
    assert body(sealed(spawn))["model_session_id"] == SESSION


@requirement("recorder.session.correlated")
def test_an_event_of_one_session_is_refused_under_another() -> None:
    assert refused(dispatch(), Context(model_session_id=OTHER)).context["reason"] == "session_mismatch"


@requirement("recorder.session.correlated")
def test_where_a_session_may_be_unknown_it_is_demanded_once_it_is_known() -> None:
    known = SystemInjectionRejected(content_hash=HASH, session_id=SESSION, source_kind="api")
    unknown = SystemInjectionRejected(content_hash=HASH, session_id=None, source_kind="api")
    assert refused(known, Context()).context["reason"] == "session_mismatch"
    assert body(sealed(known))["model_session_id"] == SESSION
    assert "model_session_id" not in body(sealed(unknown, Context()))


@requirement("recorder.session.correlated")
def test_every_type_of_a_session_is_refused_without_it() -> None:
    for kind in registry().values():
        blank = kind.payload(**dict.fromkeys(kind.payload.__struct_fields__))
        reason = refused(blank, Context()).context["reason"]
        assert (reason == "session_missing") is kind.in_session, kind.name


LOOSE: dict[str, Any] = {"from_state": "IDLE", "reason": "paused", "session_id": SESSION, "to_state": "PAUSED"}


def test_loose_values_become_the_payload_of_their_type() -> None:
    assert parse("session.state_change", LOOSE) == SessionStateChange(
        from_state=SessionState.IDLE, reason="paused", session_id=SESSION, to_state=SessionState.PAUSED
    )


@requirement("recorder.schema.enforced")
@pytest.mark.parametrize("name", ["session.exploded", "", "FR-EVT-SESS-002", "SESSION.STATE_CHANGE"])
def test_loose_values_of_an_unknown_type_are_refused(name: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        parse(name, LOOSE)
    assert caught.value.context == {"reason": "unknown_type"}


@requirement("recorder.schema.enforced")
@pytest.mark.parametrize(
    "loose",
    [
        {},
        {name: value for name, value in LOOSE.items() if name != "reason"},
        LOOSE | {"note": "x"},
        LOOSE | {"from_state": "idle"},
        LOOSE | {"reason": 1},
        LOOSE | {"reason": "r" * 65},
        LOOSE | {"session_id": "\ud800"},
        LOOSE | {"session_id": None},
    ],
    ids=["empty", "missing", "extra", "vocabulary", "type", "length", "surrogate", "null"],
)
def test_loose_values_that_do_not_match_are_refused(loose: dict[str, Any]) -> None:
    with pytest.raises(InvalidEvent) as caught:
        parse("session.state_change", loose)
    assert caught.value.context == {"reason": "schema", "event_type": "session.state_change"}


class Fresh(Payload, frozen=True, kw_only=True):
    """A record with nothing against it."""

    attempt: int


class Unordered(Payload, frozen=True, kw_only=True):
    """A record whose bytes would not be canonical."""

    zeal: int
    attempt: int


class Renamed(Payload, frozen=True, kw_only=True):
    """A record whose bytes would not be canonical, although its fields are in order."""

    attempt: int = msgspec.field(name="zeal")
    lane: int


class Prose(Payload, frozen=True, kw_only=True):
    """A record with a place for content."""

    body_text: str


@requirement("recorder.registry.no_duplicates")
@pytest.mark.parametrize(
    ("name", "fr_id", "payload"),
    [
        ("session.created", None, Fresh),
        ("session.created_again", "FR-EVT-SESS-001", Fresh),
        ("test.unordered", None, Unordered),
        ("test.renamed", None, Renamed),
        ("test.prose", None, Prose),
    ],
)
def test_a_type_that_would_break_the_registry_is_not_registered(
    name: str, fr_id: str | None, payload: type[Payload]
) -> None:
    before = registry()
    with pytest.raises(TypeError):
        event(name, fr_id=fr_id, retention=Retention.RUN)(payload)
    assert registry() == before
