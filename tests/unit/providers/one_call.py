"""One call: a model on a scripted upstream, opened through the gate as a dispatched run opens it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

from handshake.gate.egress import CallLimits, Egress, Finished, ModelFault, TextPiece, ThreadMessage
from handshake.kernel.ids import JobId, ModelId, ProviderId, SessionId
from handshake.kernel.job import RunTicket
from handshake.kernel.locality import Declared, parse_endpoint
from handshake.kernel.message import MessageRole
from handshake.kernel.units import Microseconds
from handshake.ports.model import Model
from handshake.providers.http_model import HttpModel
from handshake.providers.locality import Lookup, system_lookup

NOW_US = Microseconds(784_111_777_000_000)
"""Sun, 06 Nov 1994 08:49:37 GMT."""
PROVIDER = ProviderId("desk")
MODEL = ModelId("tiny")
TICKET = RunTicket(
    job_id=JobId("018f0000-0000-7000-8000-000000000001"),
    session_id=SessionId("018f0000-0000-7000-8000-000000000002"),
    attempt=1,
    provider_id=PROVIDER,
    model_id=MODEL,
)
LIMITS = CallLimits(first_byte_ms=20_000, idle_ms=20_000, total_ms=20_000, max_response_bytes=1024 * 1024)
SHORT_MS = 100
"""A limit that is meant to be reached."""
THREAD = [ThreadMessage(MessageRole.USER, "Grüße")]

Piece = TextPiece | Finished


class FixedClock:
    """A clock that stands still; nothing waits on it."""

    def now_us(self) -> Microseconds:
        return NOW_US

    def monotonic_us(self) -> Microseconds:
        return Microseconds(0)

    async def sleep_us(self, span_us: Microseconds) -> None:
        raise AssertionError(f"nobody asked to sleep {span_us}")


def no_secret(reference: str) -> str:
    raise LookupError(reference)


def model_at(
    base_url: str,
    *,
    declared: Declared | None = None,
    lookup: Lookup = system_lookup,
    secret: Callable[[str], str] = no_secret,
    credential_ref: str | None = None,
) -> HttpModel:
    """Return the adapter of a provider at `base_url`."""
    return HttpModel(
        PROVIDER,
        parse_endpoint(base_url),
        declared or Declared(),
        clock=FixedClock(),
        secret=secret,
        credential_ref=credential_ref,
        lookup=lookup,
    )


def opened(
    model: Model, *, body: bytes | None = None, limits: CallLimits = LIMITS, ticket: RunTicket = TICKET
) -> AsyncGenerator[Piece, None]:
    """Return the answer of a model to a running attempt."""
    sent = model.render(ticket.model_id, THREAD, max_output_tokens=16) if body is None else body
    return Egress({PROVIDER: model}, lambda _: True).answer(ticket, sent, limits)


async def answered(model: Model, *, body: bytes | None = None, limits: CallLimits = LIMITS) -> list[Piece]:
    """Return all pieces of one call, and close the model."""
    try:
        return [piece async for piece in opened(model, body=body, limits=limits)]
    finally:
        await model.close()


async def failed(
    model: Model, *, body: bytes | None = None, limits: CallLimits = LIMITS
) -> tuple[list[Piece], ModelFault]:
    """Return the pieces that came before a call failed, and the fault; close the model."""
    pieces: list[Piece] = []
    try:
        async for piece in opened(model, body=body, limits=limits):
            pieces.append(piece)  # noqa: PERF401  (what came before the fault counts)
    except ModelFault as fault:
        return pieces, fault
    finally:
        await model.close()
    raise AssertionError(f"the call did not fail: {pieces}")


def texts(pieces: list[Piece]) -> list[str]:
    """Return the texts among pieces."""
    return [piece.text for piece in pieces if isinstance(piece, TextPiece)]
