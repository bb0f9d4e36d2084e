"""Model conformance: what every adapter of the model port must do, as checks that a test suite runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import cast

import msgspec

from handshake.gate.egress import CallLimits, Egress, Finished, ModelFault, TextPiece, ThreadMessage, ToolSchema
from handshake.kernel.ids import JobId, ModelId, ProviderId, SessionId
from handshake.kernel.job import Backend, RunTicket
from handshake.kernel.message import MessageRole
from handshake.kernel.tool_message import CalledTool, ToolAnswer, answer_content, call_content
from handshake.ports.model import EgressPass, Model, ModelCall

LIMITS = CallLimits(first_byte_ms=20_000, idle_ms=20_000, total_ms=20_000, max_response_bytes=1024 * 1024)

_Piece = TextPiece | Finished


class Subject(msgspec.Struct, frozen=True):
    """An adapter, and what it is known to answer."""

    model: Model
    provider_id: ProviderId
    model_id: ModelId
    thread: Sequence[ThreadMessage]
    text: str
    """The whole answer to `thread`."""
    tools: Sequence[ToolSchema] = ()
    """What the request offers."""
    calls: tuple[CalledTool, ...] = ()
    """What the model asks for with its answer."""

    @property
    def body(self) -> bytes:
        """The body of the request for `thread`."""
        return self.model.render(self.model_id, self.thread, max_output_tokens=16, tools=self.tools)

    @property
    def call(self) -> ModelCall:
        """The call for `thread`."""
        return ModelCall(self.body, LIMITS)


class PassKeeper:
    """A model that answers nothing and keeps the pass it was opened by, for a test of another adapter."""

    def __init__(self) -> None:
        self.passes: list[EgressPass] = []

    async def backend(self, model_id: ModelId) -> Backend:
        """Local: nothing is sent anywhere."""
        return Backend.LOCAL

    def render(
        self,
        model_id: ModelId,
        thread: Sequence[ThreadMessage],
        *,
        max_output_tokens: int | None,
        tools: Sequence[ToolSchema] = (),
    ) -> bytes:
        """Nothing."""
        return b""

    async def answer(self, egress_pass: EgressPass, call: ModelCall) -> AsyncGenerator[_Piece, None]:
        """Keep the pass."""
        self.passes.append(egress_pass)
        yield Finished(None, None)

    async def close(self) -> None:
        """Nothing is open."""


def ticket_for(provider_id: ProviderId, model_id: ModelId) -> RunTicket:
    """Return the ticket of some dispatched attempt."""
    return RunTicket(
        job_id=JobId("018f0000-0000-7000-8000-000000000001"),
        session_id=SessionId("018f0000-0000-7000-8000-000000000002"),
        attempt=1,
        provider_id=provider_id,
        model_id=model_id,
    )


async def fresh_pass(provider_id: ProviderId, model_id: ModelId) -> EgressPass:
    """Return an unspent pass; the gate mints it, as for a dispatched attempt."""
    keeper = PassKeeper()
    egress = Egress({provider_id: keeper}, lambda _: True)
    stream = egress.answer(ticket_for(provider_id, model_id), b"", LIMITS)
    assert [piece async for piece in stream] == [Finished(None, None)]
    return keeper.passes[0]


async def check_same_arguments_give_same_bytes(subject: Subject) -> None:
    """A request has one byte form, and the thread's text is in it."""
    assert subject.body == subject.body
    assert subject.body != subject.model.render(subject.model_id, [*subject.thread] * 2, max_output_tokens=16)


async def check_tools_and_their_results_have_bytes(subject: Subject) -> None:
    """What is offered, asked for and answered is in the request; the order in which tools are named is not."""
    without = msgspec.structs.replace(subject, tools=())
    reverse = msgspec.structs.replace(subject, tools=subject.tools[::-1])
    assert without.body != subject.body == reverse.body
    called = [ThreadMessage(MessageRole.TOOL_CALL, call_content(call).decode()) for call in subject.calls]
    told = [
        ThreadMessage(
            MessageRole.TOOL_RESULT, answer_content(ToolAnswer(call.call_id, "found", is_error=False)).decode()
        )
        for call in subject.calls
    ]
    asked = [*subject.thread, ThreadMessage(MessageRole.ASSISTANT, subject.text), *called]
    bodies = [
        subject.model.render(subject.model_id, thread, max_output_tokens=16, tools=subject.tools)
        for thread in (asked, [*asked, *told], [*asked, *told])
    ]
    assert bodies[0] != bodies[1] == bodies[2]


async def check_answers_and_ends_once(subject: Subject) -> None:
    """Pieces make the answer; `Finished` comes once, last, with the calls that the model asks for."""
    for _ in range(2):
        pieces = await _pieces(subject, await fresh_pass(subject.provider_id, subject.model_id))
        assert "".join(piece.text for piece in pieces if isinstance(piece, TextPiece)) == subject.text
        assert [isinstance(piece, Finished) for piece in pieces] == [False] * (len(pieces) - 1) + [True]
        assert all(piece.text for piece in pieces if isinstance(piece, TextPiece))
        assert [piece.tool_calls for piece in pieces if isinstance(piece, Finished)] == [subject.calls]


async def check_pass_opens_one_call(subject: Subject) -> None:
    """A pass that was used opens nothing, whether its call ended or broke off."""
    one = await fresh_pass(subject.provider_id, subject.model_id)
    assert len(await _pieces(subject, one)) > 1
    await _expect_refusal(subject, one, RuntimeError)
    cut = await fresh_pass(subject.provider_id, subject.model_id)
    stream = subject.model.answer(cut, subject.call)
    assert isinstance(await anext(stream), TextPiece)
    await stream.aclose()
    await _expect_refusal(subject, cut, RuntimeError)


async def check_only_a_pass_opens(subject: Subject) -> None:
    """Nothing that only looks like a pass opens a call, and no pass of another provider does."""
    await _expect_refusal(subject, cast(EgressPass, _LooksLikeOne(subject)), TypeError)
    other = await fresh_pass(ProviderId("somebody-else"), subject.model_id)
    await _expect_refusal(subject, other, Exception)


async def check_closing_midway_leaves_it_usable(subject: Subject) -> None:
    """A call may be closed before its first piece, after it, and twice; the next one is whole."""
    unused = subject.model.answer(await fresh_pass(subject.provider_id, subject.model_id), subject.call)
    await unused.aclose()
    cut = subject.model.answer(await fresh_pass(subject.provider_id, subject.model_id), subject.call)
    assert isinstance(await anext(cut), TextPiece)
    await cut.aclose()
    await cut.aclose()
    await check_answers_and_ends_once(subject)


async def check_fault_is_numbers_only(subject: Subject, call: ModelCall) -> None:
    """A call that fails raises `ModelFault`, whose text is the kind of fault and nothing else."""
    one = await fresh_pass(subject.provider_id, subject.model_id)
    fault: ModelFault | None = None
    try:
        async for _ in subject.model.answer(one, call):
            pass
    except ModelFault as raised:
        fault = raised
    assert fault is not None, "the call did not fail"
    assert str(fault) == fault.fault.kind.value


class _LooksLikeOne:
    """Has all that a pass has, but was not minted."""

    def __init__(self, subject: Subject) -> None:
        ticket = ticket_for(subject.provider_id, subject.model_id)
        self.job_id, self.session_id, self.attempt = ticket.job_id, ticket.session_id, ticket.attempt
        self.provider_id, self.model_id = ticket.provider_id, ticket.model_id

    def spend(self) -> None:
        """Be used as often as anybody likes."""


async def _pieces(subject: Subject, egress_pass: EgressPass) -> list[_Piece]:
    return [piece async for piece in subject.model.answer(egress_pass, subject.call)]


async def _expect_refusal(subject: Subject, egress_pass: EgressPass, kind: type[Exception]) -> None:
    try:
        pieces = await _pieces(subject, egress_pass)
    except kind:
        return
    raise AssertionError(f"the call was opened: {len(pieces)} pieces")
