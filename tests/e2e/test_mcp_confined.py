"""MCP servers in the sandbox: they see the folder and the variables that they are given, and nothing else of ours."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from handshake.kernel.errors import InvalidConfig
from handshake.kernel.mcp_settings import McpServerSettings
from handshake.kernel.redaction import KnownValues
from handshake.ports.tool import ToolFailed
from handshake.providers.web_streams import OutsideStreams
from handshake.storage.secrets import Secrets
from handshake.tools.mcp_client import McpClient
from handshake.tools.mcp_ways import McpWays
from handshake.tools.sandbox.sandbox import Sandbox
from tests.e2e.mcp_desk import CLOCK, SERVERS, Desk

LOOKING = (sys.executable, str(SERVERS / "looking.py"))


class Confined(Desk):
    """A desk whose server is confined by the real sandbox."""

    def __init__(self, root: Path, settings: McpServerSettings, sandbox: Sandbox) -> None:
        super().__init__()
        nowhere = root / ".handshake" / "run" / "nowhere"
        nowhere.mkdir(parents=True, exist_ok=True)
        ways = McpWays({"s": settings}, root, nowhere, sandbox, OutsideStreams(), Secrets(KnownValues()), CLOCK)
        self.client = McpClient(ways, self.approved.get, self.listed, CLOCK)

    async def look(self, path: str) -> Any:
        """Return what the server finds at a path."""
        return json.loads(await self.text("mcp.s.look", path=path))


@pytest.fixture
async def desks() -> AsyncIterator[list[Confined]]:
    made: list[Confined] = []
    yield made
    for one in made:
        await one.client.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("a")
    (tmp_path / "secret.txt").write_text("s")
    (tmp_path / ".handshake" / "keys").mkdir(parents=True)
    return tmp_path


async def confined(desks: list[Confined], root: Path, **settings: Any) -> Confined:
    reads = (sys.prefix, str(SERVERS))
    desk = Confined(root, McpServerSettings(command=LOOKING, **settings), Sandbox(read=reads))
    desks.append(desk)
    await desk.approve("s")
    return desk


async def test_a_server_has_the_variables_that_are_declared_and_no_others(
    desks: list[Confined], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILES_TOKEN", "the-token")
    desk = await confined(desks, root, env={"TOKEN": "env:FILES_TOKEN"})
    found = await desk.look("environment")
    assert found["TOKEN"] == "the-token"
    assert set(found) <= {"TOKEN", "PATH", "LANG", "HOME", "TMPDIR", "LC_CTYPE", "PWD"}


async def test_a_server_sees_nothing_of_the_workspace_unless_it_is_given_a_folder(
    desks: list[Confined], root: Path
) -> None:
    desk = await confined(desks, root)
    assert await desk.look(str(root / "docs")) is None
    assert await desk.look(str(root / "secret.txt")) is None
    assert await desk.look(".") == []


async def test_a_server_reads_its_folder_and_changes_nothing_there(desks: list[Confined], root: Path) -> None:
    desk = await confined(desks, root, cwd="docs")
    assert await desk.look(".") == ["a.txt"]
    assert await desk.look(str(root / "secret.txt")) is None
    assert await desk.text("mcp.s.write", path="b.txt") == "no"
    assert not (root / "docs" / "b.txt").exists()


async def test_a_server_of_the_whole_workspace_does_not_see_the_runtimes_folder(
    desks: list[Confined], root: Path
) -> None:
    desk = await confined(desks, root, cwd=".")
    assert await desk.look("secret.txt") == "s"
    assert await desk.look(".handshake/keys") is None


@pytest.mark.parametrize(("network", "answer"), [(False, "no"), (True, "yes")])
async def test_a_server_reaches_the_network_only_if_the_operator_says_so(
    desks: list[Confined], root: Path, network: bool, answer: str
) -> None:
    import asyncio

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        desk = await confined(desks, root, network=network)
        assert await desk.text("mcp.s.connect", path=str(port)) == answer


@pytest.mark.parametrize("cwd", ["missing", "..", "../..", "/etc", ".handshake", ".handshake/keys", "secret.txt"])
async def test_a_folder_that_is_not_one_of_the_workspace_is_refused(
    desks: list[Confined], root: Path, cwd: str
) -> None:
    with pytest.raises(ToolFailed) as refused:
        await confined(desks, root, cwd=cwd)
    assert refused.value.code == "mcp_cwd"


async def test_a_server_reads_other_places_that_the_operator_names(
    desks: list[Confined], root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("program")
    (other / "data.txt").write_text("data")
    desk = await confined(desks, root, read=(str(other),))
    assert await desk.look(str(other / "data.txt")) == "data"
    assert await desk.look(str(root / "secret.txt")) is None


@pytest.mark.parametrize("read", ["{root}", "{root}/..", "/", "{root}/.handshake", "{root}/.handshake/keys", "docs"])
async def test_a_place_from_which_the_runtimes_folder_is_seen_is_refused(
    desks: list[Confined], root: Path, read: str
) -> None:
    with pytest.raises(ToolFailed) as refused:
        await confined(desks, root, read=(read.format(root=root),))
    assert refused.value.code == "mcp_read"


async def test_without_a_sandbox_no_server_is_started(desks: list[Confined], root: Path) -> None:
    desk = Confined(root, McpServerSettings(command=LOOKING), Sandbox(backends=()))
    desks.append(desk)
    with pytest.raises(ToolFailed) as refused:
        await desk.client.list("s")
    assert refused.value.code == "mcp_not_confined"


async def test_a_variable_that_cannot_be_read_is_named_by_its_reference(desks: list[Confined], root: Path) -> None:
    with pytest.raises(InvalidConfig) as refused:
        await confined(desks, root, env={"TOKEN": "env:NOT_SET_ANYWHERE"})
    assert refused.value.context["credential"] == "env:NOT_SET_ANYWHERE"
