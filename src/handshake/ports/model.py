"""Model port: what a provider adapter offers, and the pass without which none can be opened.

Only `gate.egress` and the providers import this module (import contract "one door to models").
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Never, Protocol, SupportsIndex

import msgspec

from handshake.kernel.ids import JobId, ModelId, ProviderId, SessionId
from handshake.kernel.job import Backend
from handshake.kernel.message import MessageRole
from handshake.kernel.retry import Fault
from handshake.kernel.tool_message import CalledTool
from handshake.kernel.usage import TokenUsage


class EgressPass:
    """Proof that the scheduler dispatched one attempt of one run; good for one call.

    It has no public constructor: `claim_mint` gives the only maker away once, to `gate.egress`.

    Source:
        scheduler.path.is_single (INV-SCHED-001).
    """

    __slots__ = ("_spent", "attempt", "job_id", "model_id", "provider_id", "session_id")

    job_id: JobId
    session_id: SessionId
    attempt: int
    provider_id: ProviderId
    model_id: ModelId
    _spent: bool

    def __init__(self) -> None:
        raise TypeError("an EgressPass is made by gate.egress for a dispatched run only")

    def __init_subclass__(cls) -> None:
        raise TypeError("there is one kind of EgressPass")

    def __reduce_ex__(self, protocol: SupportsIndex) -> Never:
        """Refuse to be copied or stored: a copy would open a second call."""
        raise TypeError("an EgressPass is not copied")

    def spend(self) -> None:
        """Use the pass; a second use is a bug in the adapter and raises."""
        if self._spent:
            raise RuntimeError("an EgressPass opens one call")
        self._spent = True


type_of_mint = Callable[[JobId, SessionId, int, ProviderId, ModelId], EgressPass]
_mint_given = False


def claim_mint() -> type_of_mint:
    """Give the maker of passes to the first caller, which is `gate.egress` at import; nobody else gets one."""
    global _mint_given
    if _mint_given:
        raise RuntimeError("the mint of egress passes is taken")
    _mint_given = True

    def mint(
        job_id: JobId, session_id: SessionId, attempt: int, provider_id: ProviderId, model_id: ModelId
    ) -> EgressPass:
        one = object.__new__(EgressPass)
        one.job_id = job_id
        one.session_id = session_id
        one.attempt = attempt
        one.provider_id = provider_id
        one.model_id = model_id
        one._spent = False
        return one

    return mint


class CallLimits(msgspec.Struct, frozen=True, gc=False):
    """Bounds of one provider call: times in milliseconds, sizes in bytes."""

    first_byte_ms: int
    idle_ms: int
    total_ms: int
    max_response_bytes: int


class ModelCall(msgspec.Struct, frozen=True, gc=False):
    """One request: the exact body bytes, and the bounds under which they may be sent."""

    body: bytes
    limits: CallLimits


class ThreadMessage(msgspec.Struct, frozen=True, gc=False):
    """One message of a thread as a request is built from it."""

    role: MessageRole
    text: str
    """The content as it is stored; of TOOL_CALL and TOOL_RESULT, what `kernel.tool_message` writes."""


class ToolSchema(msgspec.Struct, frozen=True, gc=False):
    """A tool as a model is told of it; generated from the registry."""

    name: str
    """As `kernel.tool_name.wire_name` spells its id."""
    description: str
    input_schema: Mapping[str, Any]
    """JSON Schema of an object; its members are sent in the order that they have here."""


class TextPiece(msgspec.Struct, frozen=True, gc=False):
    """Text that the model added."""

    text: str


class Finished(msgspec.Struct, frozen=True, gc=False):
    """The model stopped; always the last piece, exactly once."""

    finish_reason: str | None
    """A token of the wire form's closed vocabulary, `other` for words outside it, None if none was given."""
    usage: TokenUsage | None
    tool_calls: tuple[CalledTool, ...] = ()
    """What the model asked for, in its order; ids are unique in one answer, names and arguments as it wrote them."""


class ModelFault(Exception):
    """A provider call failed; `fault` says how, `body` holds the provider's (bounded) error body for an artifact."""

    def __init__(self, fault: Fault, body: bytes = b"") -> None:
        super().__init__(fault.kind.value)
        self.fault = fault
        self.body = body


class Model(Protocol):
    """A provider adapter: opened by a pass, it streams pieces, and closes its connection with the generator."""

    async def backend(self, model_id: ModelId) -> Backend:
        """Decide where `model_id` would run, from what the endpoint resolves to now and what its engine says.

        Raises:
            EndpointBlocked: the endpoint is neither local nor one that a cloud may have (03 §7).
            ModelFault: it cannot be decided: no address, or no answer from the engine.
        """
        ...

    def render(
        self,
        model_id: ModelId,
        thread: Sequence[ThreadMessage],
        *,
        max_output_tokens: int | None,
        tools: Sequence[ToolSchema] = (),
    ) -> bytes:
        """Return the exact body of a request, a pure function of its arguments (03 §2, runtime form)."""
        ...

    def answer(self, egress_pass: EgressPass, call: ModelCall) -> AsyncGenerator[TextPiece | Finished, None]:
        """Send `call.body` and yield pieces as they arrive.

        The generator ends with one `Finished` or raises `ModelFault`. After `aclose()` returns, the
        connection is confirmed closed.

        Raises:
            ModelFault: the provider could not be reached, refused, broke off, or broke its protocol.
            ConsentRequired: the model is a cloud's; before any byte of the body is sent.
            EndpointBlocked: the endpoint is not allowed (03 §7); before any byte of the body is sent.
        """
        ...

    async def close(self) -> None:
        """Close everything that is open."""
        ...
