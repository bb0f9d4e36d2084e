"""HTTP model: what leaves, what comes back, and what never opens."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Sequence

import pytest

from handshake.gate.egress import CallLimits, Finished, ModelFault, TextPiece
from handshake.kernel.errors import (
    ConsentRequired,
    EndpointBlocked,
    HandshakeError,
    InvalidConfig,
    InvalidRequest,
    TooLarge,
)
from handshake.kernel.job import Backend
from handshake.kernel.locality import Declared
from handshake.kernel.retry import Fault, FaultKind
from handshake.kernel.settings import MAX_ERROR_BODY_BYTES, MAX_REQUEST_BYTES
from handshake.kernel.usage import TokenUsage
from handshake.ports.model import ModelCall
from handshake.providers import http_model
from handshake.providers.http_model import HttpModel
from handshake.testing.model_conformance import fresh_pass
from handshake.testing.replies import (
    CLOSE,
    RESET,
    Endless,
    Hold,
    Reply,
    chunked,
    event_stream,
    head,
    response,
    whole_answer,
)
from handshake.testing.upstream import Upstream
from tests.requirement import requirement
from tests.unit.providers.one_call import (
    LIMITS,
    MODEL,
    PROVIDER,
    SHORT_MS,
    THREAD,
    answered,
    failed,
    model_at,
    opened,
    texts,
)

ANSWER = chunked(event_stream("Grü", "ße"))
SECRET = "sk-live-0123456789abcdef"
REMOTE_LISTING = response(json.dumps({"models": [{"name": "tiny:latest", "remote_host": "https://far"}]}).encode())


class Names:
    """A resolver that gives its answers one after the other."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        return self.answers.pop(0)


async def test_a_streamed_answer_arrives_in_pieces() -> None:
    async with Upstream(ANSWER) as upstream:
        pieces = await answered(model_at(upstream.base_url))
    assert pieces == [TextPiece("Grü"), TextPiece("ße"), Finished("stop", TokenUsage(3, 2, 5))]


async def test_an_answer_that_is_not_streamed_is_one_piece() -> None:
    async with Upstream(response(whole_answer("Grüße"))) as upstream:
        pieces = await answered(model_at(upstream.base_url))
    assert pieces == [TextPiece("Grüße"), Finished("stop", TokenUsage(3, 2, 5))]


async def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    reply: Reply = [head(200, content_type="text/event-stream") + event_stream("Hi")]
    async with Upstream(reply) as upstream:
        assert texts(await answered(model_at(upstream.base_url))) == ["Hi"]


async def test_head_and_body_are_exact() -> None:
    async with Upstream(ANSWER) as upstream:
        model = model_at(upstream.base_url, secret=lambda _: SECRET, credential_ref="env:KEY")
        body = model.render(MODEL, THREAD, max_output_tokens=16)
        await answered(model, body=body)
        seen = upstream.requests[0]
        assert seen.body == body
        assert seen.head == (
            b"POST /v1/chat/completions HTTP/1.1\r\n"
            b"Host: 127.0.0.1:%d\r\n"
            b"accept: text/event-stream, application/json\r\n"
            b"content-type: application/json\r\n"
            b"authorization: Bearer %b\r\n"
            b"Content-Length: %d\r\n"
            b"Connection: close\r\n\r\n" % (upstream.port, SECRET.encode(), len(body))
        )


async def test_bytes_that_are_no_canonical_form_leave_as_they_are() -> None:
    body = b'{ "model" : "tiny",\n"x":1.0e0, "text": "e\xcc\x81\\u00e9" }'
    async with Upstream(ANSWER) as upstream:
        await answered(model_at(upstream.base_url), body=body)
        assert upstream.requests[0].body == body


async def test_a_large_body_leaves_whole() -> None:
    body = b'{"model":"tiny","pad":"' + b"0123456789abcdef" * 256 * 1024 + b'"}'
    async with Upstream(ANSWER) as upstream:
        await answered(model_at(upstream.base_url), body=body)
        assert upstream.requests[0].body == body


async def test_every_call_has_a_connection_that_is_closed_with_it() -> None:
    async with Upstream(ANSWER, response(whole_answer("Hi")), response(b"", status=500)) as upstream:
        model = model_at(upstream.base_url)
        for expected in (["Grü", "ße"], ["Hi"]):
            assert texts([piece async for piece in opened(model)]) == expected
        with pytest.raises(ModelFault):
            await anext(opened(model))
        assert upstream.accepted == len(upstream.received) == 4
        for seen in upstream.received:
            await seen.closed.wait()
            assert not seen.was_reset
        await model.close()


async def test_the_head_of_a_closed_stream_is_not_believed() -> None:
    promise = [("keep-alive", "timeout=5, max=100")]
    reply: Reply = [*chunked(event_stream("Hi"), headers=promise), CLOSE]
    async with Upstream(reply) as upstream:
        model = model_at(upstream.base_url)
        for _ in range(20):
            assert texts([piece async for piece in opened(model)]) == ["Hi"]
        await model.close()


async def test_a_path_of_the_base_url_is_kept() -> None:
    async with Upstream(ANSWER) as upstream:
        await answered(model_at(f"{upstream.origin}/a%20b/v1"))
        assert [one.path for one in upstream.received] == ["/a%20b/api/tags", "/a%20b/v1/chat/completions"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_localhost_is_either_loopback_address(host: str) -> None:
    async with Upstream(ANSWER, host=host) as upstream:
        assert texts(await answered(model_at(f"http://localhost:{upstream.port}/v1"))) == ["Grü", "ße"]
        assert texts(await answered(model_at(upstream.base_url))) == ["Grü", "ße"]


async def test_a_credential_is_resolved_for_every_call() -> None:
    keys = iter(["sk-1", "sk-2", "sk-3"])
    asked: list[str] = []

    def secret(reference: str) -> str:
        asked.append(reference)
        return next(keys)

    async with Upstream(ANSWER) as upstream:
        model = model_at(upstream.base_url, secret=secret, credential_ref="env:KEY")
        for _ in range(2):
            assert len([piece async for piece in opened(model)]) == 3
        await model.close()
        sent = [one.headers["authorization"] for one in upstream.received]
    assert sent == ["Bearer sk-1", "Bearer sk-2", "Bearer sk-3"]
    assert asked == ["env:KEY"] * 3


@requirement("provider.secret.never_leaks")
@pytest.mark.parametrize("value", [None, "sk-live\r\nx-admin: 1"])
async def test_a_credential_that_cannot_be_used_stops_the_call(value: str | None) -> None:
    def secret(reference: str) -> str:
        if value is None:
            raise KeyError(reference)
        return value

    async with Upstream(ANSWER) as upstream:
        with pytest.raises(InvalidConfig) as refused:
            await answered(model_at(upstream.base_url, secret=secret, credential_ref="env:KEY"))
        assert upstream.received == []
    assert "sk-live" not in "".join(traceback.format_exception(refused.value))


@requirement("provider.error.not_echoed", "provider.secret.never_leaks")
async def test_an_error_body_is_kept_apart_and_without_the_credential() -> None:
    echo = f'{{"error": {{"message": "wrong key {SECRET} given"}}}}'.encode()
    async with Upstream(response(echo, status=401, headers=[("x-echo", SECRET)])) as upstream:
        model = model_at(upstream.base_url, secret=lambda _: SECRET, credential_ref="env:KEY")
        _, fault = await failed(model)
    assert fault.fault == Fault(FaultKind.STATUS, status=401, sent=True)
    assert fault.body == b'{"error": {"message": "wrong key [REDACTED:secrets] given"}}'
    shown = "".join(traceback.format_exception(fault)) + repr(fault) + repr(fault.fault)
    assert SECRET not in shown
    assert "wrong key" not in shown


@requirement("provider.secret.never_leaks")
async def test_a_credential_at_the_cut_of_an_error_body_is_not_kept_in_part() -> None:
    hold = Hold()
    echo = b"x" * (MAX_ERROR_BODY_BYTES - 5) + SECRET.encode()
    reply: Reply = [head(500), echo[:MAX_ERROR_BODY_BYTES], hold, echo[MAX_ERROR_BODY_BYTES:], CLOSE]
    async with Upstream(reply) as upstream, asyncio.TaskGroup() as group:
        model = model_at(upstream.base_url, secret=lambda _: SECRET, credential_ref="env:KEY")
        call = group.create_task(failed(model))
        await hold.reached.wait()
        for _ in range(20):
            await asyncio.sleep(0)  # the client takes what is there
        hold.release()
        _, fault = await call
    assert len(fault.body) == MAX_ERROR_BODY_BYTES
    assert fault.body.endswith(b"x[REDA")


@requirement("provider.error.not_echoed", "provider.secret.never_leaks")
async def test_an_error_inside_a_stream_is_kept_apart_too() -> None:
    events = event_stream("Hi", finish_reason=None, usage=None, done=False)
    error = b'data: {"error": {"message": "key %b", "code": 503}}\n\n' % SECRET.encode()
    async with Upstream(chunked(events + error)) as upstream:
        model = model_at(upstream.base_url, secret=lambda _: SECRET, credential_ref="env:KEY")
        pieces, fault = await failed(model)
    assert texts(pieces) == ["Hi"]
    assert fault.fault == Fault(FaultKind.STATUS, status=503, sent=True, consumed=True)
    assert fault.body == b'{"error": {"message": "key [REDACTED:secrets]", "code": 503}}'


@pytest.mark.parametrize(
    ("value", "wait_ms"), [("7", 7_000), ("Sun, 06 Nov 1994 08:50:37 GMT", 60_000), ("soon", None)]
)
async def test_a_wait_that_the_provider_asks_for_is_told(value: str, wait_ms: int | None) -> None:
    async with Upstream(response(b"slow down", status=429, headers=[("retry-after", value)])) as upstream:
        _, fault = await failed(model_at(upstream.base_url))
    assert fault.fault == Fault(FaultKind.STATUS, status=429, retry_after_ms=wait_ms, sent=True)
    assert fault.body == b"slow down"


@requirement("provider.ssrf.blocked")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    async with Upstream(ANSWER) as trap:
        there = [("location", f"{trap.base_url}/chat/completions")]
        moved = response(b"", status=status, headers=there)
        async with Upstream(moved, listing=moved) as upstream:
            _, fault = await failed(model_at(upstream.base_url))
        assert trap.accepted == 0
    assert fault.fault == Fault(FaultKind.STATUS, status=status, sent=True)


@pytest.mark.parametrize(
    "reply",
    [
        [head(200, headers=[("content-length", "0")])],
        response(whole_answer("a"), headers=[("content-encoding", "gzip")]),
        response(whole_answer("a"), content_type="text/html"),
        chunked(event_stream("a"), content_type="application/octet-stream"),
        response(b"no JSON"),
        response(b""),
    ],
)
async def test_answers_in_other_forms_are_garbage(reply: Reply) -> None:
    async with Upstream(reply) as upstream:
        pieces, fault = await failed(model_at(upstream.base_url))
    assert pieces == []
    assert fault.fault == Fault(FaultKind.GARBAGE, sent=True)


@pytest.mark.parametrize("status", [201, 204, 400, 404, 418, 500, 503, 599])
async def test_every_other_status_is_a_fault(status: int) -> None:
    async with Upstream(response(b"" if status == 204 else b"no", status=status)) as upstream:
        _, fault = await failed(model_at(upstream.base_url))
    assert fault.fault == Fault(FaultKind.STATUS, status=status, sent=True)


@requirement("provider.limits.bound_memory")
async def test_an_endless_error_body_is_cut() -> None:
    reply: Reply = [head(500, content_type="text/plain"), Endless(b"error " * 1_000)]
    async with Upstream(reply) as upstream:
        _, fault = await failed(model_at(upstream.base_url))
        await upstream.requests[0].closed.wait()
    assert fault.fault.status == 500
    assert len(fault.body) == MAX_ERROR_BODY_BYTES


async def test_a_body_must_be_of_the_passs_model() -> None:
    async with Upstream(ANSWER) as upstream:
        for body in (b'{"model":"tiny:120b-cloud"}', b"{}", b"no JSON"):
            with pytest.raises(InvalidRequest):
                await answered(model_at(upstream.base_url), body=body)
        assert upstream.requests == []


async def test_a_body_over_the_bound_is_not_sent() -> None:
    async with Upstream(ANSWER) as upstream:
        with pytest.raises(TooLarge):
            await answered(model_at(upstream.base_url), body=b" " * (MAX_REQUEST_BYTES + 1))
        assert upstream.requests == []


@requirement("provider.local.never_public")
async def test_a_remote_model_behind_a_local_engine_is_not_called() -> None:
    async with Upstream(ANSWER, listing=REMOTE_LISTING) as upstream:
        model = model_at(upstream.base_url)
        assert await model.backend(MODEL) is Backend.CLOUD
        with pytest.raises(ConsentRequired):
            await answered(model)
        assert upstream.requests == []


@requirement("provider.local.is_decided", "provider.local.never_public")
async def test_a_forwarder_on_loopback_is_not_called() -> None:
    async with Upstream(ANSWER) as upstream:
        model = model_at(upstream.base_url, declared=Declared(forwards_to_cloud=True))
        assert await model.backend(MODEL) is Backend.CLOUD
        with pytest.raises(ConsentRequired):
            await answered(model)
        assert upstream.accepted == 0


@requirement("provider.local.is_decided")
@pytest.mark.parametrize(
    ("listing", "kind"),
    [
        ([b"no HTTP\r\n\r\n"], FaultKind.GARBAGE),
        (response(b"", status=503), FaultKind.STATUS),
        (response(b"{"), FaultKind.GARBAGE),
        (response(b"{}", headers=[("content-encoding", "gzip")]), FaultKind.GARBAGE),
        ([RESET], FaultKind.RESET),
        ([head(200), RESET], FaultKind.GARBAGE),
        ([head(200, headers=[("content-length", "9")]), b"{}", CLOSE], FaultKind.INCOMPLETE),
        ([head(200), Endless(b" " * 4096)], FaultKind.TOO_LARGE),
        ([Hold()], FaultKind.TIMEOUT_FIRST_BYTE),
        ([head(200), b"{", Hold()], FaultKind.TIMEOUT_IDLE),
    ],
)
async def test_an_engine_that_does_not_answer_the_question_is_not_called(
    listing: Reply, kind: FaultKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    if any(isinstance(action, Hold) for action in listing):
        brief = CallLimits(first_byte_ms=SHORT_MS, idle_ms=SHORT_MS, total_ms=20_000, max_response_bytes=100)
        monkeypatch.setattr(http_model, "PROBE_LIMITS", brief)
    async with Upstream(ANSWER, listing=listing) as upstream:
        _, fault = await failed(model_at(upstream.base_url))
        assert upstream.requests == []
        await upstream.received[0].closed.wait()
    assert fault.fault.kind in {kind, FaultKind.RESET, FaultKind.INCOMPLETE} if RESET in listing else {kind}
    assert not fault.fault.sent


async def refusal(model: HttpModel) -> HandshakeError:
    """Return how the adapter itself refuses a call for which no gate asked where the model runs."""
    call = ModelCall(model.render(MODEL, THREAD, max_output_tokens=16), LIMITS)
    try:
        with pytest.raises(HandshakeError) as refused:
            await anext(model.answer(await fresh_pass(PROVIDER, MODEL), call))
        return refused.value
    finally:
        await model.close()


@requirement("provider.ssrf.blocked")
@pytest.mark.parametrize(
    ("found", "code"),
    [
        (["8.8.8.8"], "HSK-403-CLOUD-CONSENT-REQUIRED"),
        (["192.168.1.9"], "HSK-403-SSRF-BLOCKED"),
        (["127.0.0.1", "169.254.169.254"], "HSK-403-SSRF-BLOCKED"),
        (["::ffff:127.0.0.1"], "HSK-403-SSRF-BLOCKED"),
    ],
)
async def test_the_adapter_itself_connects_to_local_addresses_only(found: list[str], code: str) -> None:
    refused = await refusal(model_at("https://engine.lan/v1", lookup=Names(found, found)))
    assert refused.code == code


@requirement("provider.ssrf.blocked")
async def test_a_name_that_is_bound_anew_after_the_check_is_blocked() -> None:
    async with Upstream(ANSWER) as upstream:
        base_url = f"http://engine.lan:{upstream.port}/v1"
        for later in (["192.168.1.9"], ["127.0.0.1", "10.0.0.1"]):
            for lookups_before in (1, 2):
                names = Names(*[["127.0.0.1"]] * lookups_before, later)
                with pytest.raises(EndpointBlocked):
                    await answered(model_at(base_url, lookup=names))
        assert upstream.requests == []
        assert texts(await answered(model_at(base_url, lookup=Names(*[["127.0.0.1"]] * 3)))) == ["Grü", "ße"]
        assert upstream.requests[0].headers["host"] == f"engine.lan:{upstream.port}"


@requirement("provider.local.never_public")
async def test_the_adapter_itself_calls_no_remote_model_and_no_forwarder() -> None:
    async with Upstream(ANSWER, listing=REMOTE_LISTING) as upstream:
        assert isinstance(await refusal(model_at(upstream.base_url)), ConsentRequired)
        forwarder = model_at(upstream.base_url, declared=Declared(forwards_to_cloud=True))
        assert isinstance(await refusal(forwarder), ConsentRequired)
        assert upstream.requests == []
        assert upstream.accepted == 1
