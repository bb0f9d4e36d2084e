"""Tools of the Python face: functions of the program that models and callers reach through the gate alone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from handshake.bootstrap import init_workspace
from handshake.kernel.errors import InvalidRequest, UnknownCapability
from handshake.kernel.htc import CallError
from handshake.kernel.ids import ProviderId
from handshake.kernel.tool_message import CalledTool
from handshake.operations import tool_calls
from handshake.testing.scripted_model import ScriptedModel, Step
from handshake.workspace import Workspace, open_workspace
from tests.requirement import requirement

CONFIG = '[providers.desk]\ndialects = ["openai_chat"]\nbase_url = "http://127.0.0.1:9/v1"\n'
NEW: dict[str, Any] = {"role": "coder", "model": "desk/tiny", "memory_policy": "EPHEMERAL"}


def script(text: str) -> Sequence[Step]:
    """Ask for the page that was named, and tell what came of it."""
    if text.startswith("read "):
        arguments = json.dumps({"page": text.removeprefix("read ")})
        return (CalledTool("call_1", "program__read_docs", arguments),)
    answer = json.loads(text)
    return (f"{'failed' if answer['is_error'] else 'found'}: {answer['content']}",)


@pytest.fixture
async def workspace(tmp_path: Path) -> AsyncIterator[Workspace]:
    """Give an open workspace whose model calls tools."""
    init_workspace(tmp_path)
    (tmp_path / ".handshake" / "config.toml").write_text(CONFIG)
    async with open_workspace(tmp_path, models={ProviderId("desk"): ScriptedModel(script)}) as opened:
        yield opened


@requirement("gate.tools.single_door", "capability.args.are_checked")
async def test_a_function_is_reached_by_a_model_whose_session_may(workspace: Workspace) -> None:
    read: list[str] = []

    @workspace.tool(side_effect="READ", capabilities=["fs.read:docs/{page}"])
    async def read_docs(page: str) -> str:
        """Read a page of the documents."""
        read.append(page)
        return f"the text of {page}"

    session = await workspace.sessions.create(**NEW, grants=["fs.read:docs/public/*"])
    found = await (await session.send("read public/a")).result()
    assert "the text of public/a" in (found.text or "")
    denied = await (await session.send("read private/b")).result()
    assert (denied.text or "").startswith("failed: ")
    assert read == ["public/a"]
    assert await read_docs("c") == "the text of c", "it is still a function of the program's own"
    rows = await workspace.runtime.store.read(lambda reader: tool_calls.calls(reader, session.session_id))
    assert [(one.tool_id, one.decision, one.error_code) for one in rows] == [
        ("program.read_docs", "allow", None), ("program.read_docs", "deny", "HSK-403-CAPABILITY")
    ]  # fmt: skip


async def test_a_caller_gets_the_response_of_the_gate(workspace: Workspace) -> None:
    @workspace.tool(side_effect="WRITE", capabilities=["fs.write:{path}"], name="notes.add", timeout_s=5)
    async def add(path: str, words: list[str]) -> int:
        """Add words to a note."""
        return len(words)

    session = await workspace.sessions.create(**NEW, grants=["fs.write:notes/**"])
    given = await workspace.tools.call(session.session_id, "notes.add", {"path": "notes/a", "words": ["b", "c"]})
    assert given.result == {"result": 2}
    refused = await workspace.tools.call(session.session_id, "notes.add", {"path": "notes/a", "words": "b"})
    assert isinstance(refused.error, CallError)
    assert refused.error.details["reason"] == "arguments_invalid"


def test_what_is_no_tool_is_refused_where_it_is_made(workspace: Workspace) -> None:
    async def read(page: str) -> str:
        return page

    with pytest.raises(InvalidRequest):
        workspace.tool(side_effect="LOOK", capabilities=["fs.read"])(read)
    with pytest.raises(InvalidRequest):
        workspace.tool(side_effect="WRITE", capabilities=[])(read)
    with pytest.raises(InvalidRequest):
        workspace.tool(side_effect="READ", capabilities=["fs.read:{path}"])(read)
    with pytest.raises(InvalidRequest):
        workspace.tool(side_effect="READ", capabilities=["fs.read"], name="workspace.read")(read)
    with pytest.raises(UnknownCapability):
        workspace.tool(side_effect="READ", capabilities=["fs.look"])(read)
