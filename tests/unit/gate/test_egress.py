"""Egress: the one door opens for a running attempt only, and only to a local model."""

from __future__ import annotations

import copy
import pickle
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import msgspec
import pytest

from handshake.gate.egress import CallLimits, Egress, Finished, ModelFault, TextPiece, ThreadMessage, ToolSchema
from handshake.kernel.errors import ConsentRequired, EndpointBlocked, NotFound, StateConflict
from handshake.kernel.ids import ModelId, ProviderId
from handshake.kernel.job import Backend
from handshake.kernel.message import MessageRole
from handshake.kernel.retry import Fault, FaultKind
from handshake.ports.model import EgressPass, ModelCall, claim_mint
from handshake.testing.model_conformance import LIMITS, fresh_pass, ticket_for
from tests.requirement import requirement

PROVIDER = ProviderId("desk")
MODEL = ModelId("tiny")
TICKET = ticket_for(PROVIDER, MODEL)
BODY = b'{"model":"tiny"}'
PIECES = (TextPiece("a"), TextPiece("b"), Finished("stop", None))


class Adapter:
    """A model that tells what it was asked and whether its stream was closed."""

    def __init__(self, place: Backend | Exception = Backend.LOCAL) -> None:
        self.place = place
        self.opened: list[tuple[EgressPass, ModelCall]] = []
        self.streams_closed = 0
        self.closed = False

    async def backend(self, model_id: ModelId) -> Backend:
        if isinstance(self.place, Exception):
            raise self.place
        return self.place

    def render(
        self,
        model_id: ModelId,
        thread: Sequence[ThreadMessage],
        *,
        max_output_tokens: int | None,
        tools: Sequence[ToolSchema] = (),
    ) -> bytes:
        return f"{model_id} {[message.text for message in thread]} {max_output_tokens}".encode()

    async def answer(self, egress_pass: EgressPass, call: ModelCall) -> AsyncGenerator[TextPiece | Finished, None]:
        self.opened.append((egress_pass, call))
        try:
            for piece in PIECES:
                yield piece
        finally:
            self.streams_closed += 1

    async def close(self) -> None:
        self.closed = True


def is_running(_: object) -> bool:
    return True


async def pieces_of(egress: Egress) -> list[TextPiece | Finished]:
    return [piece async for piece in egress.answer(TICKET, BODY, LIMITS)]


@requirement("scheduler.path.is_single")
async def test_a_running_attempt_gets_a_pass_of_its_own() -> None:
    adapter = Adapter()
    egress = Egress({PROVIDER: adapter}, is_running)
    for _ in range(2):
        assert await pieces_of(egress) == list(PIECES)
    (first, call), (second, _) = adapter.opened
    assert call == ModelCall(BODY, LIMITS)
    assert first is not second
    given = (first.job_id, first.session_id, first.attempt, first.provider_id, first.model_id)
    assert given == (TICKET.job_id, TICKET.session_id, TICKET.attempt, PROVIDER, MODEL)


@requirement("scheduler.path.is_single")
@pytest.mark.parametrize("answer", [False, None, 0, 1, "yes", [True], object(), NotImplemented])
async def test_what_is_not_a_plain_yes_is_a_no(answer: Any) -> None:
    adapter = Adapter()
    with pytest.raises(StateConflict):
        await pieces_of(Egress({PROVIDER: adapter}, lambda _: answer))
    assert adapter.opened == []


@requirement("scheduler.path.is_single")
@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("x"), OSError("x"), StateConflict()])
async def test_a_guard_that_fails_says_no(error: Exception) -> None:
    def broken(_: object) -> bool:
        raise error

    adapter = Adapter()
    with pytest.raises(StateConflict) as refused:
        await pieces_of(Egress({PROVIDER: adapter}, broken))
    assert refused.value.context == {"job_id": TICKET.job_id, "attempt": 1, "reason": "run_unknown"}
    assert adapter.opened == []


@requirement("scheduler.path.is_single")
async def test_an_attempt_that_ended_while_the_model_was_placed_opens_nothing() -> None:
    answers = iter([True, False])
    adapter = Adapter()
    with pytest.raises(StateConflict):
        await pieces_of(Egress({PROVIDER: adapter}, lambda _: next(answers)))
    assert adapter.opened == []


async def test_an_attempt_that_ends_midway_gets_no_further_piece() -> None:
    answers = iter([True, True, True, False])
    adapter = Adapter()
    stream = Egress({PROVIDER: adapter}, lambda _: next(answers)).answer(TICKET, BODY, LIMITS)
    assert await anext(stream) == TextPiece("a")
    with pytest.raises(StateConflict):
        await anext(stream)
    assert adapter.streams_closed == 1


async def test_closing_the_answer_closes_the_adapters() -> None:
    adapter = Adapter()
    stream = Egress({PROVIDER: adapter}, is_running).answer(TICKET, BODY, LIMITS)
    assert await anext(stream) == TextPiece("a")
    await stream.aclose()
    assert adapter.streams_closed == 1


@requirement("scheduler.path.is_single")
async def test_a_cloud_model_is_not_opened() -> None:
    adapter = Adapter(Backend.CLOUD)
    with pytest.raises(ConsentRequired) as refused:
        await pieces_of(Egress({PROVIDER: adapter}, is_running))
    assert refused.value.context == {"provider_id": "desk", "model_id": "tiny", "job_id": TICKET.job_id}
    assert adapter.opened == []


@pytest.mark.parametrize("error", [EndpointBlocked(reason="private"), ModelFault(Fault(FaultKind.CONNECT))])
async def test_a_model_that_cannot_be_placed_is_not_opened(error: Exception) -> None:
    adapter = Adapter(error)
    with pytest.raises(type(error)):
        await pieces_of(Egress({PROVIDER: adapter}, is_running))
    assert adapter.opened == []


async def test_an_unknown_provider_is_not_found() -> None:
    egress = Egress({}, is_running)
    with pytest.raises(NotFound):
        await pieces_of(egress)
    with pytest.raises(NotFound):
        await egress.backend(PROVIDER, MODEL)
    with pytest.raises(NotFound):
        egress.render(TICKET, [], max_output_tokens=None)


async def test_the_adapter_places_renders_and_closes() -> None:
    adapter = Adapter(Backend.CLOUD)
    egress = Egress({PROVIDER: adapter}, is_running)
    assert await egress.backend(PROVIDER, MODEL) is Backend.CLOUD
    thread = [ThreadMessage(MessageRole.USER, "x")]
    assert egress.render(TICKET, thread, max_output_tokens=7) == b"tiny ['x'] 7"
    await egress.close()
    assert adapter.closed


@requirement("scheduler.path.is_single")
def test_the_mint_is_taken() -> None:
    with pytest.raises(RuntimeError):
        claim_mint()


@requirement("scheduler.path.is_single")
async def test_a_pass_cannot_be_made_and_is_used_once() -> None:
    with pytest.raises(TypeError):
        EgressPass()
    with pytest.raises(AttributeError):
        object.__new__(EgressPass).spend()
    with pytest.raises(TypeError):
        type("Own", (EgressPass,), {})
    one = await fresh_pass(PROVIDER, MODEL)
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            duplicate(one)
    one.spend()
    with pytest.raises(RuntimeError):
        one.spend()


async def test_limits_reach_the_adapter() -> None:
    adapter = Adapter()
    limits = CallLimits(1, 2, 3, 4)
    stream = Egress({PROVIDER: adapter}, is_running).answer(TICKET, BODY, limits)
    assert [piece async for piece in stream] == list(PIECES)
    assert msgspec.structs.astuple(adapter.opened[0][1].limits) == (1, 2, 3, 4)
