"""Egress: the only door to models; it opens for one dispatched attempt at a time, and in this part to no cloud.

Source:
    scheduler.path.is_single (INV-SCHED-001), 03 §5, §6.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

from handshake.kernel.errors import ConsentRequired, NotFound, ProviderFailed, ProviderTimeout, StateConflict
from handshake.kernel.ids import ModelId, ProviderId
from handshake.kernel.job import Backend, RunTicket
from handshake.ports.model import (
    CallLimits,
    Finished,
    Model,
    ModelCall,
    ModelFault,
    TextPiece,
    ThreadMessage,
    ToolSchema,
    claim_mint,
)

__all__ = ["CallLimits", "Egress", "Finished", "ModelFault", "TextPiece", "ThreadMessage", "ToolSchema"]

_mint = claim_mint()


class Egress:
    """Opens model calls for dispatched runs.

    Args:
        models: the adapters by provider.
        is_running: whether a ticket's attempt is running, not cancelled and not superseded. Whatever it answers
            but `True`, and whatever it raises, is a no.
    """

    def __init__(self, models: Mapping[ProviderId, Model], is_running: Callable[[RunTicket], bool]) -> None:
        self._models = dict(models)
        self._is_running = is_running

    async def backend(self, provider_id: ProviderId, model_id: ModelId) -> Backend:
        """Decide where a model would run, from what its endpoint and engine say now; nobody declares it.

        Raises:
            NotFound: no such provider.
            EndpointBlocked: the endpoint is neither local nor one that a cloud may have.
            ProviderFailed, ProviderTimeout: it cannot be decided.
        """
        try:
            return await self._model(provider_id).backend(model_id)
        except ModelFault as broken:
            fault = broken.fault
            kind = ProviderTimeout if fault.is_timeout else ProviderFailed
            raise kind(
                provider_id=provider_id,
                model_id=model_id,
                fault=fault.kind.value,
                status=fault.status,
                hint="Start the engine, or correct base_url; `handshake doctor` asks every provider.",
            ) from broken

    def render(
        self,
        ticket: RunTicket,
        thread: Sequence[ThreadMessage],
        *,
        max_output_tokens: int | None,
        tools: Sequence[ToolSchema] = (),
    ) -> bytes:
        """Return the exact body that `answer` would send for a thread, and for the tools that the model may ask for.

        Raises:
            NotFound: no such provider.
            InvalidRequest, TooLarge: the thread or the tools have no form at this provider.
        """
        model = self._model(ticket.provider_id)
        return model.render(ticket.model_id, thread, max_output_tokens=max_output_tokens, tools=tools)

    async def answer(
        self, ticket: RunTicket, body: bytes, limits: CallLimits
    ) -> AsyncGenerator[TextPiece | Finished, None]:
        """Send `body` for a running attempt and yield the pieces of its answer; `Finished` is the last one.

        The attempt is checked before anything is opened, again before the body is sent, and before each piece is
        handed on. After `aclose()` the connection is closed.

        Raises:
            StateConflict: the attempt is not running, or stopped running meanwhile.
            NotFound: no such provider.
            ConsentRequired: the model is a cloud's, and nobody can have consented yet.
            EndpointBlocked: the endpoint is not allowed.
            ModelFault: the call failed.
        """
        self._require_running(ticket)
        model = self._model(ticket.provider_id)
        if await model.backend(ticket.model_id) is not Backend.LOCAL:
            raise ConsentRequired(provider_id=ticket.provider_id, model_id=ticket.model_id, job_id=ticket.job_id)
        self._require_running(ticket)
        one = _mint(ticket.job_id, ticket.session_id, ticket.attempt, ticket.provider_id, ticket.model_id)
        pieces = model.answer(one, ModelCall(body, limits))
        try:
            async for piece in pieces:
                self._require_running(ticket)
                yield piece
        finally:
            await pieces.aclose()

    async def close(self) -> None:
        """Close every adapter."""
        for model in self._models.values():
            await model.close()

    def _model(self, provider_id: ProviderId) -> Model:
        model = self._models.get(provider_id)
        if model is None:
            raise NotFound(kind="provider", provider_id=provider_id)
        return model

    def _require_running(self, ticket: RunTicket) -> None:
        try:
            running = self._is_running(ticket)
        except Exception as unknown:
            raise StateConflict(job_id=ticket.job_id, attempt=ticket.attempt, reason="run_unknown") from unknown
        if running is not True:
            raise StateConflict(job_id=ticket.job_id, attempt=ticket.attempt, reason="run_not_running")
