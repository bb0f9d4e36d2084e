"""`handshake mcp`: real processes from the configuration to the answer, with the official SDK's server and client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from handshake.testing.plain_process import PlainProcess
from handshake.testing.upstream import Upstream
from tests.e2e.command_line import NEW_SESSION, PROGRAM, CommandLine, configure
from tests.e2e.mcp_desk import free_port, friendly
from tests.requirement import requirement

SERVERS = """
[mcp.servers.docs]
url = "http://127.0.0.1:{port}/mcp"
[mcp.servers.docs.tools.echo]
side_effect = "READ"
risk = "LOW"
idempotency = "IDEMPOTENT"
sinks = []
"""


@pytest.fixture
async def work(handshake: CommandLine) -> AsyncIterator[CommandLine]:
    """Give a workspace whose configuration names a real MCP server over HTTP."""
    server = await PlainProcess.start(friendly("http"), {})
    port = int(await server.read(100))
    assert handshake.folder is not None
    async with Upstream() as upstream:
        configure(handshake.folder, upstream.base_url, SERVERS.format(port=port))
        yield handshake
    await server.close()


@asynccontextmanager
async def client(work: CommandLine, session_id: str, mode: str = "auto") -> AsyncIterator[Client]:
    """Give an unmodified client of `handshake mcp serve`."""
    command = StdioServerParameters(
        command=str(PROGRAM), args=["mcp", "serve", "--session", session_id], env=work.environment(), cwd=str(work.home)
    )
    async with Client(command, mode=mode) as one:
        yield one


async def session(work: CommandLine, *grants: str) -> str:
    options = [part for one in grants for part in ("--grant", one)]
    return str((await work("session", "create", *NEW_SESSION, *options, "--json")).json["session_id"])


def said(answer: Any) -> str:
    return str(answer.content[0].text)


async def approve(work: CommandLine) -> None:
    asked = (await work("mcp", "approve", "docs", "--json")).json
    approved = await work("mcp", "approve", "docs", "--shown", asked["sha256"])
    assert approved.code == 0, approved.err


@requirement("gate.mcp.definition_pinned")
async def test_a_person_looks_at_definitions_and_approves_them_by_their_hash(work: CommandLine) -> None:
    before = await work("mcp", "list", "--json")
    assert before.lines == [{"server": "docs", "tool": None, "state": "not_asked"}]
    asked = (await work("mcp", "approve", "docs", "--json")).json
    assert [one["tool_id"] for one in asked["tools"]][:2] == ["mcp.docs.add", "mcp.docs.echo"]
    assert asked["tools"][1]["definition"]["description"] == "Says what it is told."
    shown = await work("mcp", "approve", "docs")
    assert asked["sha256"] in shown.out
    assert '"Says what it is told."' in shown.out
    wrong = await work("mcp", "approve", "docs", "--shown", "0" * 64, "--json")
    assert (wrong.code, wrong.error["code"]) == (5, "HSK-409-CONFLICT")
    one = (await work("mcp", "approve", "docs", "--tool", "echo", "--json")).json
    done = await work("mcp", "approve", "docs", "--tool", "echo", "--shown", one["sha256"], "--json")
    assert [(pin["tool"], pin["state"], pin["approved_by"]) for pin in done.lines] == [("echo", "approved", "operator")]
    listed = {one["tool"]: one for one in (await work("mcp", "list", "--json")).lines}
    assert (listed["echo"]["state"], listed["echo"]["side_effect"], listed["echo"]["mapped"]) == (
        "approved",
        "READ",
        True,
    )
    assert (listed["env"]["state"], listed["env"]["side_effect"], listed["env"]["risk"]) == ("new", "EXECUTE", "HIGH")
    table = await work("mcp", "list")
    assert "mcp.docs.echo" in table.out


async def test_a_server_that_is_unknown_or_away_is_told_with_a_code(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    configure(handshake.folder, "http://127.0.0.1:9/v1", SERVERS.format(port=free_port()))
    away = await handshake("mcp", "approve", "docs", "--json")
    assert (away.code, away.error["code"], away.error["details"]["server"]) == (1, "HSK-502-PROVIDER", "docs")
    unknown = await handshake("mcp", "approve", "doc", "--json")
    assert (unknown.code, unknown.error["hint"]) == (4, "Did you mean docs?")
    missing = await handshake("mcp", "serve", "--session", "018f0000-0000-7000-8000-000000000001", "--json")
    assert (missing.code, missing.error["code"]) == (4, "HSK-404-NOT-FOUND")


@requirement("gate.decision.same_on_every_transport", "gate.provider_schemas.generated")
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_an_unmodified_client_lists_and_calls_what_the_sessions_grants_allow(
    work: CommandLine, mode: str
) -> None:
    await approve(work)
    assert work.folder is not None
    (work.folder / "a.txt").write_text("Grüße")
    session_id = await session(work, "fs.read:a.txt", "mcp.docs.echo")
    async with client(work, session_id, mode) as one:
        listed = (await one.list_tools()).tools
        names = [tool.name for tool in listed]
        assert names == sorted(names)
        assert {"workspace.file.read", "mcp.docs.echo"} <= set(names)
        assert not {"workspace.file.write", "http.request", "mcp.docs.env"} & set(names)
        read = await one.call_tool("workspace.file.read", {"path": "a.txt"})
        assert not read.is_error
        assert "Grüße" in said(read)
        echoed = await one.call_tool("mcp.docs.echo", {"text": "hello"})
        assert echoed.structured_content == {"content": [{"type": "text", "text": "hello"}], "truncated": False}
        refused = await one.call_tool("workspace.file.read", {"path": "b.txt"})
        assert refused.is_error
        assert said(refused).startswith("HSK-403-CAPABILITY")
        unknown = await one.call_tool("no.such_tool", {})
        assert said(unknown).startswith("HSK-404-NOT-FOUND")
    told = (await work("events", "list", "--type", "tool_call", "--json")).lines
    assert [(one["payload"]["transport"], one["payload"]["ok"]) for one in told] == [
        ("mcp", True),
        ("mcp", True),
        ("mcp", False),
        ("mcp", False),
    ]


@requirement("gate.mcp.unmapped_asks", "gate.approval.bound_to_call")
async def test_a_call_that_waits_names_its_approval_and_goes_through_once_a_person_approved_it(
    work: CommandLine,
) -> None:
    await approve(work)
    session_id = await session(work, "mcp.docs.*")
    async with client(work, session_id) as one:
        waits = await one.call_tool("mcp.docs.add", {"a": 2, "b": 3})
        assert waits.is_error
        assert waits.meta is not None
        approval = waits.meta["handshake/error"]["details"]["approval_id"]
        assert approval in said(waits)
        (item,) = (await work("desk", "list", "--json")).lines
        assert item["item_id"] == approval
        answered = await work("desk", "approve", approval, "--shown", item["sha256"])
        assert answered.code == 0, answered.err
        other = await one.call_tool("mcp.docs.add", {"a": 2, "b": 4})
        assert other.is_error, "an approval is for the call that was shown"
        done = await one.call_tool("mcp.docs.add", {"a": 2, "b": 3})
        assert done.structured_content == {"sum": 5}
        assert (await one.call_tool("mcp.docs.add", {"a": 2, "b": 3})).is_error, "and for one"


@requirement("capability.default.denies")
async def test_a_session_without_grants_offers_nothing_and_calls_nothing(work: CommandLine) -> None:
    await approve(work)
    async with client(work, await session(work)) as one:
        assert [tool.name for tool in (await one.list_tools()).tools if tool.name != "artifact.get"] == [
            "handshake.tools.get",
            "handshake.tools.search",
        ]
        refused = await one.call_tool("mcp.docs.echo", {"text": "x"})
    assert said(refused).startswith("HSK-403-CAPABILITY")


async def test_a_client_that_goes_away_ends_the_command_and_a_flood_does_too(work: CommandLine) -> None:
    session_id = await session(work)
    command = [str(PROGRAM), "mcp", "serve", "--session", session_id]
    for words in (b"", b'{"jsonrpc":"2.0","method":"notifications/x"}\n' * 2_000, b"x" * (9 * 1024 * 1024)):
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=work.environment(),
            cwd=Path(work.home),
        )
        async with asyncio.timeout(60):
            out, err = await process.communicate(words)
        assert (process.returncode, out) == (0, b""), err
