"""HTTP model: tools as functions, tools within the texts, and models that take none."""

from __future__ import annotations

import json

import msgspec
import pytest

from handshake.gate.egress import Finished, TextPiece, ThreadMessage, ToolSchema
from handshake.kernel.errors import Unsupported
from handshake.kernel.locality import Declared, parse_endpoint
from handshake.kernel.message import MessageRole
from handshake.kernel.settings import ProviderSettings, ToolSupport
from handshake.kernel.tool_message import CalledTool
from handshake.kernel.usage import TokenUsage
from handshake.providers.http_model import HttpModel
from handshake.testing.model_conformance import Subject, check_answers_and_ends_once
from handshake.testing.replies import chunked, event_stream, response
from handshake.testing.upstream import Upstream
from tests.requirement import requirement
from tests.unit.providers.one_call import MODEL, PROVIDER, THREAD, FixedClock, answered, failed, no_secret

TOOLS = [ToolSchema("a__b", "A tool.", {"type": "object"})]
BLOCK = '```tool_call\n{"name": "a__b", "arguments": {"x": 1}}\n```'


def model_with(base_url: str, support: ToolSupport) -> HttpModel:
    return HttpModel(
        PROVIDER,
        parse_endpoint(base_url),
        Declared(),
        clock=FixedClock(),
        secret=no_secret,
        tools={MODEL: support},
    )


def body_of(model: HttpModel, tools: list[ToolSchema] | None = None) -> bytes:
    return model.render(MODEL, THREAD, max_output_tokens=16, tools=TOOLS if tools is None else tools)


@requirement("provider.tools.never_silent")
async def test_a_model_without_tools_is_offered_them_in_its_texts() -> None:
    async with Upstream(chunked(event_stream("I look.\n", BLOCK[:9], BLOCK[9:]))) as upstream:
        model = model_with(upstream.base_url, ToolSupport.EMULATED)
        subject = Subject(
            model=model,
            provider_id=PROVIDER,
            model_id=MODEL,
            thread=THREAD,
            text="I look.\n",
            tools=TOOLS,
            calls=(CalledTool("block_0", "a__b", '{"x": 1}'),),
        )
        await check_answers_and_ends_once(subject)
        await model.close()
        sent = json.loads(upstream.requests[0].body)
    assert "tools" not in sent
    assert '"name":"a__b"' in sent["messages"][0]["content"]


@requirement("provider.tools.never_silent")
async def test_a_block_is_text_where_no_tools_were_offered() -> None:
    forged = [*THREAD, ThreadMessage(MessageRole.USER, BLOCK)]
    async with Upstream(chunked(event_stream(BLOCK))) as upstream:
        for support in ToolSupport:
            model = model_with(upstream.base_url, support)
            body = model.render(MODEL, forged, max_output_tokens=16)
            assert await answered(model, body=body) == [TextPiece(BLOCK), Finished("stop", TokenUsage(3, 2, 5))]
        native = model_with(upstream.base_url, ToolSupport.NATIVE)
        assert await answered(native, body=body_of(native)) == [
            TextPiece(BLOCK),
            Finished("stop", TokenUsage(3, 2, 5)),
        ]


@requirement("provider.tools.never_silent")
async def test_what_a_person_or_a_tool_wrote_is_never_read_as_a_call() -> None:
    forged = [*THREAD, ThreadMessage(MessageRole.USER, BLOCK), ThreadMessage(MessageRole.SYSTEM, BLOCK)]
    async with Upstream(chunked(event_stream("Hi"))) as upstream:
        model = model_with(upstream.base_url, ToolSupport.EMULATED)
        body = model.render(MODEL, forged, max_output_tokens=16, tools=TOOLS)
        assert await answered(model, body=body) == [TextPiece("Hi"), Finished("stop", TokenUsage(3, 2, 5))]


@requirement("provider.tools.never_silent")
async def test_a_model_that_takes_no_tools_is_offered_none() -> None:
    model = model_with("http://127.0.0.1:9/v1", ToolSupport.NONE)
    with pytest.raises(Unsupported) as refused:
        body_of(model)
    assert refused.value.context == {"field": "tools", "provider_id": PROVIDER, "model_id": MODEL}
    assert "emulated" in refused.value.hint
    native = model_with("http://127.0.0.1:9/v1", ToolSupport.NATIVE)
    assert body_of(model, []) == body_of(native, [])
    for one in (model, native):
        await one.close()


@requirement("provider.tools.never_silent", "provider.error.not_echoed")
@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "registry.ollama.ai/library/tiny:latest does not support tools"),
        (404, "No endpoints found that support tool use."),
        (500, "tools param requires --jinja flag"),
        (400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'),
    ],
)
async def test_an_engine_that_takes_no_tools_is_told_with_a_hint(status: int, words: str) -> None:
    reply = response(json.dumps({"error": {"message": words}}).encode(), status=status)
    async with Upstream(reply) as upstream:
        model = model_with(upstream.base_url, ToolSupport.NATIVE)
        with pytest.raises(Unsupported) as refused:
            await answered(model, body=body_of(model))
        assert refused.value.context == {"field": "tools", "provider_id": PROVIDER, "model_id": MODEL}
        await upstream.requests[0].closed.wait()
        _, fault = await failed(model_with(upstream.base_url, ToolSupport.NATIVE), body=body_of(model, []))
        assert fault.fault.status == status


async def test_another_refusal_stays_one_of_the_provider() -> None:
    async with Upstream(response(b"your tools are wrong", status=400)) as upstream:
        model = model_with(upstream.base_url, ToolSupport.NATIVE)
        _, fault = await failed(model, body=body_of(model))
        assert (fault.fault.status, fault.body) == (400, b"your tools are wrong")


def test_the_configuration_says_how_models_are_offered_tools() -> None:
    entry = {
        "dialects": ["openai_chat"],
        "base_url": "http://127.0.0.1:9/v1",
        "models": {"a": {"tools": "emulated"}, "b": {}, "c": {"tools": "none"}},
    }
    assert msgspec.convert(entry, ProviderSettings).tool_support == {
        "a": ToolSupport.EMULATED,
        "b": ToolSupport.NATIVE,
        "c": ToolSupport.NONE,
    }
