"""Model: every adapter passes the suite that `handshake.testing` ships."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from handshake.gate.egress import ThreadMessage, ToolSchema
from handshake.kernel.ids import ModelId, ProviderId
from handshake.kernel.message import MessageRole
from handshake.kernel.tool_message import CalledTool
from handshake.ports.model import Model, ModelCall
from handshake.providers.cassette import CassetteModel, RecordingModel, load_cassette
from handshake.testing.model_conformance import (
    LIMITS,
    Subject,
    check_answers_and_ends_once,
    check_closing_midway_leaves_it_usable,
    check_fault_is_numbers_only,
    check_only_a_pass_opens,
    check_pass_opens_one_call,
    check_same_arguments_give_same_bytes,
    check_tools_and_their_results_have_bytes,
)
from handshake.testing.replies import chunked, event_stream, response, whole_answer
from handshake.testing.upstream import Upstream
from tests.requirement import requirement
from tests.unit.providers.one_call import model_at

PROVIDER = ProviderId("desk")
MODEL = ModelId("tiny")
THREAD = (ThreadMessage(MessageRole.SYSTEM, "Be brief."), ThreadMessage(MessageRole.USER, "Grüße"))
TOOLS = [ToolSchema(name, "A tool.", {"type": "object"}) for name in ("workspace__file__read", "process__run")]
CALLS = (
    CalledTool("c1", "process__run", '{"command": "Grüße"}'),
    CalledTool("c2", "workspace__file__read", '{"path": "a.txt"}'),
)
STREAM = chunked(event_stream("Grü", "ße", calls=CALLS, finish_reason="tool_calls"))
WHOLE = response(whole_answer("Grüße", calls=CALLS, finish_reason="tool_calls"))


def subject_of(model: Model, text: str = "Grüße") -> Subject:
    return Subject(
        model=model, provider_id=PROVIDER, model_id=MODEL, thread=THREAD, text=text, tools=TOOLS, calls=CALLS
    )


@pytest.fixture(params=["stream", "whole", "recording", "cassette"])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    reply = WHOLE if request.param == "whole" else STREAM
    async with Upstream(reply) as upstream:
        model: Model = model_at(upstream.base_url)
        if request.param in {"recording", "cassette"}:
            model = RecordingModel(model, tmp_path / "cassette.jsonl")
        if request.param == "cassette":
            await check_answers_and_ends_once(subject_of(model))
            await model.close()
            model = CassetteModel(PROVIDER, load_cassette(tmp_path / "cassette.jsonl").exchanges)
        yield subject_of(model)
        await model.close()


async def test_same_arguments_give_same_bytes(subject: Subject) -> None:
    await check_same_arguments_give_same_bytes(subject)


async def test_tools_and_their_results_have_bytes(subject: Subject) -> None:
    await check_tools_and_their_results_have_bytes(subject)


async def test_answers_and_ends_once(subject: Subject) -> None:
    await check_answers_and_ends_once(subject)


@requirement("scheduler.path.is_single")
async def test_pass_opens_one_call(subject: Subject) -> None:
    await check_pass_opens_one_call(subject)


@requirement("scheduler.path.is_single")
async def test_only_a_pass_opens(subject: Subject) -> None:
    await check_only_a_pass_opens(subject)


async def test_closing_midway_leaves_it_usable(subject: Subject) -> None:
    await check_closing_midway_leaves_it_usable(subject)


@requirement("provider.error.not_echoed")
@pytest.mark.parametrize("status", [400, 500])
async def test_fault_of_a_provider_is_numbers_only(status: int) -> None:
    async with Upstream(response(b"your words: Gruesse", status=status)) as upstream:
        model = model_at(upstream.base_url)
        subject = subject_of(model)
        await check_fault_is_numbers_only(subject, subject.call)
        await model.close()


async def test_fault_of_a_cassette_is_numbers_only() -> None:
    model = CassetteModel(PROVIDER, {})
    await check_fault_is_numbers_only(subject_of(model), ModelCall(b'{"model":"tiny"}', LIMITS))


async def test_suite_catches_an_adapter_that_forgets() -> None:
    async with Upstream(STREAM) as upstream:
        model = model_at(upstream.base_url)
        with pytest.raises(AssertionError):
            await check_answers_and_ends_once(subject_of(model, "another answer"))
        await model.close()
