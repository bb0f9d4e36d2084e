"""Scripted model: an adapter like any other, that does what its script says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from handshake.gate.egress import Finished, ModelFault, TextPiece, ThreadMessage
from handshake.kernel.ids import ModelId, ProviderId
from handshake.kernel.job import Backend
from handshake.kernel.message import MessageRole
from handshake.kernel.retry import Fault, FaultKind
from handshake.kernel.tool_message import CalledTool
from handshake.kernel.usage import TokenUsage
from handshake.ports.model import ModelCall
from handshake.testing import model_conformance
from handshake.testing.model_conformance import LIMITS, Subject, fresh_pass
from handshake.testing.scripted_model import ScriptedModel

PROVIDER = ProviderId("scripted")
MODEL = ModelId("m")
THREAD = [ThreadMessage(MessageRole.USER, "first"), ThreadMessage(MessageRole.USER, "hello")]


def call(model: ScriptedModel) -> ModelCall:
    return ModelCall(model.render(MODEL, THREAD, max_output_tokens=None), LIMITS)


async def test_it_is_local_and_answers_the_last_message() -> None:
    model = ScriptedModel()
    assert await model.backend(MODEL) is Backend.LOCAL
    pieces = [piece async for piece in model.answer(await fresh_pass(PROVIDER, MODEL), call(model))]
    assert pieces == [TextPiece("You said: "), TextPiece("hello"), Finished("stop", TokenUsage(2, 2, 4))]
    assert model.bodies == [call(model).body]
    await model.close()


async def test_it_fails_and_waits_where_the_script_says_so() -> None:
    waiting = asyncio.Event()
    fault = Fault(FaultKind.RESET)
    model = ScriptedModel(lambda text: ("a", waiting, "b", fault))
    answer = model.answer(await fresh_pass(PROVIDER, MODEL), call(model))
    assert await anext(answer) == TextPiece("a")
    following = asyncio.ensure_future(anext(answer))
    await asyncio.sleep(0)
    assert not following.done()
    assert model.open_calls == 1
    waiting.set()
    assert await following == TextPiece("b")
    with pytest.raises(ModelFault) as failed:
        await anext(answer)
    assert failed.value.fault is fault
    assert model.open_calls == 0


@pytest.mark.parametrize(
    "check_adapter",
    [
        model_conformance.check_same_arguments_give_same_bytes,
        model_conformance.check_answers_and_ends_once,
        model_conformance.check_pass_opens_one_call,
        model_conformance.check_only_a_pass_opens,
        model_conformance.check_closing_midway_leaves_it_usable,
    ],
)
async def test_it_conforms(check_adapter: Callable[[Subject], Awaitable[None]]) -> None:
    await check_adapter(Subject(ScriptedModel(provider_id=PROVIDER), PROVIDER, MODEL, THREAD, "You said: hello"))


async def test_it_asks_for_tools() -> None:
    asked = CalledTool("c1", "a__b", "{}")
    model = ScriptedModel(lambda _: ("I look.", asked))
    pieces = [piece async for piece in model.answer(await fresh_pass(PROVIDER, MODEL), call(model))]
    assert pieces == [TextPiece("I look."), Finished("tool_calls", TokenUsage(2, 2, 4), (asked,))]
