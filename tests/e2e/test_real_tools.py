"""Tools at a real llama.cpp server: it takes what we send of them, and what it writes in our form is read as a call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from handshake.gate.egress import Egress, Finished, TextPiece, ThreadMessage, ToolSchema
from handshake.kernel.ids import ModelId
from handshake.kernel.locality import Declared, parse_endpoint
from handshake.kernel.message import MessageRole
from handshake.kernel.settings import ToolSupport
from handshake.kernel.tool_message import CalledTool, ToolAnswer, answer_content, call_content
from handshake.providers.http_model import HttpModel
from handshake.testing.llama_server import LlamaServer
from handshake.testing.model_conformance import LIMITS, ticket_for
from handshake.testing.tiny_model import write_tiny_model
from tests.requirement import requirement
from tests.unit.providers.one_call import PROVIDER, FixedClock, no_secret

PATH = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
TOOLS = [ToolSchema("workspace__file__read", "Read a file.", PATH), ToolSchema("process__run", "Run.", {})]
USER = ThreadMessage(MessageRole.USER, "What does it say? Briefly.")
CALLS = [
    CalledTool("c1", "workspace__file__read", '{ "path": "a.txt" }'),
    CalledTool("c2", "no such tool", "{oops"),
    CalledTool("c3", "process__run", "{}"),
]
ANSWERS = [ToolAnswer("c1", "It says: hello.", is_error=False), ToolAnswer("c2", "no such tool", is_error=True)]
THREAD = [
    USER,
    ThreadMessage(MessageRole.ASSISTANT, ""),
    *(ThreadMessage(MessageRole.TOOL_CALL, call_content(call).decode()) for call in CALLS),
    *(ThreadMessage(MessageRole.TOOL_RESULT, answer_content(told).decode()) for told in ANSWERS),
]
GRAMMAR = r"""
root ::= "I look.\n```tool_call\n{\"name\": \"workspace__file__read\", \"arguments\": {\"path\": \"" file "\"}}\n```"
file ::= [a-c] ".txt"
"""


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    write_tiny_model(path, seed=1)
    return path


@pytest.fixture
async def server(model_path: Path) -> AsyncIterator[LlamaServer]:
    async with LlamaServer(model_path) as running:
        yield running


async def told_by(
    server: LlamaServer, support: ToolSupport, thread: list[ThreadMessage], **more: object
) -> tuple[str, Finished]:
    """Return text and end of the engine's answer; `more` is added to the body, as an engine's own settings."""
    model_id = ModelId(server.model_id)
    model = HttpModel(
        PROVIDER,
        parse_endpoint(server.base_url),
        Declared(),
        clock=FixedClock(),
        secret=no_secret,
        tools={model_id: support},
    )
    body = model.render(model_id, thread, max_output_tokens=120, tools=TOOLS)
    sent = msgspec.json.encode({**msgspec.json.decode(body), **more}) if more else body
    pieces = [
        piece
        async for piece in Egress({PROVIDER: model}, lambda _: True).answer(
            ticket_for(PROVIDER, model_id), sent, LIMITS
        )
    ]
    await model.close()
    assert isinstance(pieces[-1], Finished)
    return "".join(piece.text for piece in pieces if isinstance(piece, TextPiece)), pieces[-1]


@pytest.mark.parametrize("thread", [[USER], THREAD], ids=["offered", "called"])
async def test_it_takes_tools_calls_and_results_as_functions(server: LlamaServer, thread: list[ThreadMessage]) -> None:
    text, finished = await told_by(server, ToolSupport.NATIVE, thread)
    assert text
    assert finished.finish_reason in ("stop", "length")
    assert finished.tool_calls == ()


@requirement("provider.tools.never_silent")
@pytest.mark.parametrize("thread", [[USER], THREAD], ids=["offered", "called"])
async def test_it_takes_tools_calls_and_results_within_texts(server: LlamaServer, thread: list[ThreadMessage]) -> None:
    text, finished = await told_by(server, ToolSupport.EMULATED, thread)
    assert text
    assert finished.usage is not None
    assert finished.usage.prompt_tokens is not None
    assert finished.usage.prompt_tokens > 100, "the tools were read"


@requirement("provider.tools.never_silent")
async def test_what_it_writes_in_our_form_is_a_call(server: LlamaServer) -> None:
    text, finished = await told_by(server, ToolSupport.EMULATED, [USER], grammar=GRAMMAR)
    assert text == "I look.\n"
    assert finished.finish_reason == "tool_calls"
    (call,) = finished.tool_calls
    assert (call.call_id, call.name) == ("block_0", "workspace__file__read")
    assert msgspec.json.decode(call.arguments)["path"] in ("a.txt", "b.txt", "c.txt")
