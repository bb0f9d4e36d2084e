"""Scripted model: the model port answered by a function, in memory, for tests of everything around a call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

import msgspec

from handshake.kernel.ids import ModelId, ProviderId
from handshake.kernel.job import Backend
from handshake.kernel.retry import Fault
from handshake.kernel.tool_message import CalledTool
from handshake.kernel.usage import TokenUsage
from handshake.ports.model import EgressPass, Finished, ModelCall, ModelFault, TextPiece, ThreadMessage, ToolSchema

Step = str | Fault | asyncio.Event | CalledTool
"""What a model does next: say text, fail, wait until the event is set, or ask for a tool."""
Script = Callable[[str], Sequence[Step]]
"""What a model does about the last message of a thread, of which it gets the stored text."""


def echo(text: str) -> Sequence[Step]:
    """Say what was said, in two pieces."""
    return ("You said: ", text)


class _Said(msgspec.Struct, frozen=True):
    role: str
    text: str


class _Request(msgspec.Struct, frozen=True, omit_defaults=True):
    model: str
    thread: list[_Said]
    max_output_tokens: int | None
    tools: list[str] = []
    """Names of the tools that were offered."""


class ScriptedModel:
    """A local model without an engine. The prompt counts a token per message, the answer one per piece or call.

    Args:
        script: what the model does; an echo if nothing else is said.
        provider_id: the provider whose passes it takes; None for any.
    """

    def __init__(self, script: Script = echo, *, provider_id: ProviderId | None = None) -> None:
        self._script = script
        self._provider_id = provider_id
        self.bodies: list[bytes] = []
        """What was sent, in order."""
        self.open_calls = 0

    async def backend(self, model_id: ModelId) -> Backend:
        """Local: nothing leaves the process."""
        return Backend.LOCAL

    def render(
        self,
        model_id: ModelId,
        thread: Sequence[ThreadMessage],
        *,
        max_output_tokens: int | None,
        tools: Sequence[ToolSchema] = (),
    ) -> bytes:
        """Return the request as JSON of its own form."""
        said = [_Said(message.role.value, message.text) for message in thread]
        return msgspec.json.encode(_Request(model_id, said, max_output_tokens, [tool.name for tool in tools]))

    async def answer(self, egress_pass: EgressPass, call: ModelCall) -> AsyncGenerator[TextPiece | Finished, None]:
        """Follow the script for the last message of the request."""
        if type(egress_pass) is not EgressPass:
            raise TypeError("a call is opened by an EgressPass")
        if self._provider_id not in (None, egress_pass.provider_id):
            raise ValueError("the pass is for another provider")
        egress_pass.spend()
        self.bodies.append(call.body)
        request = msgspec.json.decode(call.body, type=_Request)
        self.open_calls += 1
        said = 0
        called: list[CalledTool] = []
        try:
            for step in self._script(request.thread[-1].text):
                if isinstance(step, Fault):
                    raise ModelFault(step)
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, CalledTool):
                    called.append(step)
                elif step:
                    said += 1
                    yield TextPiece(step)
        finally:
            self.open_calls -= 1
        asked, answered = len(request.thread), said + len(called)
        reason = "tool_calls" if called else "stop"
        yield Finished(reason, TokenUsage(asked, answered, asked + answered), tuple(called))

    async def close(self) -> None:
        """Nothing is open."""
