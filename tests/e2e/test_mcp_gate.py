"""MCP through the gate: real servers, pinned definitions, the operator's mapping, the same decision on every way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from handshake.gate.tool_gate import Origin
from handshake.kernel.catalogue.tools import Transport
from handshake.kernel.htc import CallError, ToolResponse
from handshake.kernel.mcp_pin import shown_sha256
from handshake.kernel.mcp_settings import McpServerSettings, McpToolSettings
from handshake.kernel.tool import OutputTrust
from handshake.kernel.tool_call import ToolCallState
from handshake.operations import mcp_pins
from handshake.operations.mcp_servers import McpServers
from handshake.tools.mcp_client import McpClient
from tests.e2e.mcp_desk import CLOCK, Desk, friendly, hostile
from tests.gating import Door
from tests.requirement import requirement

MAPPED = {
    "echo": McpToolSettings(side_effect="READ", risk="LOW", idempotency="IDEMPOTENT", sinks=()),
    "system": McpToolSettings(side_effect="READ", risk="LOW", sinks=()),
    "tool": McpToolSettings(side_effect="READ", risk="LOW", sinks=()),
    "add": McpToolSettings(side_effect="READ", risk="LOW", sinks=()),
}


class Bench:
    """A gate to whose registry real MCP servers bring their tools."""

    def __init__(self, door: Door, **commands: list[str]) -> None:
        self.door = door
        self.desk = Desk(**commands)
        settings = {name: McpServerSettings(command=tuple(one), tools=MAPPED) for name, one in commands.items()}
        self.servers = McpServers(door.store, door.registry, settings, self.attach)
        self.client = McpClient(self.desk.transport, self.servers.approved, self.servers.listed, CLOCK)

    def attach(self, tool_id: str) -> None:
        """Let the client carry out one more tool."""
        self.door.gate.attach(tool_id, self.client)

    async def approve(self, server: str = "s") -> None:
        """Look at a server and approve all of it, as a person does."""
        waiting, _ = await self.servers.look(server, self.client)
        await self.servers.approve(server, shown=shown_sha256([one.pin for one in waiting]), by="ada")

    async def call(self, session_id: str | None, tool_id: str, args: Any = None, **changes: Any) -> ToolResponse:
        """Call a tool of the newest version through the gate."""
        known = self.door.registry.find(tool_id)
        version = "1.0.0" if known is None else known.definition.tool_version
        return await self.door.call(session_id, args or {}, tool_id=tool_id, tool_version=version, **changes)


def fault(response: ToolResponse) -> tuple[str, str, object]:
    """Return the code, the kind and the reason of a refusal."""
    assert isinstance(response.error, CallError)
    return response.error.code, response.error.kind.value, response.error.details.get("reason")


@pytest.fixture
async def benches() -> AsyncIterator[list[Bench]]:
    """Give a list whose benches are closed with the test."""
    made: list[Bench] = []
    yield made
    for one in made:
        await one.client.close()


async def bench_with(benches: list[Bench], **commands: list[str]) -> Bench:
    one = Bench(await Door.open(), **commands)
    benches.append(one)
    return one


@requirement("gate.mcp.definition_pinned")
async def test_nothing_is_called_that_nobody_approved(benches: list[Bench]) -> None:
    bench = await bench_with(benches, s=friendly())
    session = await bench.door.session("mcp.s.*")
    waiting, refused = await bench.servers.look("s", bench.client)
    assert (len(waiting), refused) == (9, [])
    assert fault(await bench.call(session, "mcp.s.echo", {"text": "x"}))[2] == "definition_not_approved"
    await bench.approve()
    done = await bench.call(session, "mcp.s.echo", {"text": "Grüße"})
    assert done.result == {"content": [{"type": "text", "text": "Grüße"}], "truncated": False}


@requirement("gate.mcp.definition_pinned")
async def test_a_changed_definition_is_blocked_until_a_person_approves_it_again(
    benches: list[Bench], tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    bench = await bench_with(benches, s=hostile("changes", flag))
    session = await bench.door.session("mcp.s.tool")
    await bench.approve()
    assert (await bench.call(session, "mcp.s.tool")).ok
    flag.touch()
    first = await bench.call(session, "mcp.s.tool")
    assert fault(first)[0] == "mcp_definition_changed", "between the gate's look and the call"
    assert fault(await bench.call(session, "mcp.s.tool"))[2] == "definition_changed"
    flag.unlink()
    assert fault(await bench.call(session, "mcp.s.tool"))[2] == "definition_changed", "going back does not help"
    await bench.client.list("s")
    assert fault(await bench.call(session, "mcp.s.tool"))[2] == "definition_changed"
    told = bench.door.told("security_violation")
    assert [(one["trigger"], one["violation_type"]) for one in told] == [("mcp.s.tool", "definition_changed")]
    await bench.approve()
    assert (await bench.call(session, "mcp.s.tool")).ok
    assert [one["error"]["code"] for one in bench.door.told("tool_call") if not one["ok"]] == [
        "mcp_definition_changed",
        *["HSK-403-CAPABILITY"] * 3,
    ]


@requirement("gate.mcp.unmapped_asks")
async def test_a_tool_of_which_the_operator_says_nothing_executes_is_high_and_asks_at_every_call(
    benches: list[Bench],
) -> None:
    bench = await bench_with(benches, s=friendly())
    await bench.approve()
    known = bench.door.registry.find("mcp.s.env")
    assert known is not None
    assert (known.definition.side_effect.value, known.definition.risk_level.value) == ("EXECUTE", "HIGH")
    session = await bench.door.session("mcp.s.*")
    for _ in range(2):
        asked = await bench.call(session, "mcp.s.env")
        assert fault(asked)[0] == "approval_required"
    question, _ = bench.door.policy.questions[-1]
    bench.door.policy.approve(question, "018f0000-0000-7000-8000-0000000000bb")
    assert (await bench.call(session, "mcp.s.env")).ok
    assert fault(await bench.call(session, "mcp.s.env"))[0] == "approval_required", "an approval is for one call"
    (executed,) = [one for one in bench.door.told("tool_call") if one["ok"]]
    assert executed["side_effect"] == "EXECUTE"


@requirement("capability.default.denies")
async def test_a_session_without_a_grant_for_it_calls_no_tool_of_a_server(benches: list[Bench]) -> None:
    bench = await bench_with(benches, s=friendly())
    await bench.approve()
    for grants in ((), ("fs.read",), ("mcp.other.*",), ("mcp.s.add",)):
        session = await bench.door.session(*grants)
        refused = await bench.call(session, "mcp.s.echo", {"text": "x"})
        assert fault(refused)[:2] == ("HSK-403-CAPABILITY", "capability")
        assert refused.error.details["missing"] == ["mcp.s.echo"]  # type: ignore[union-attr]


@requirement("gate.decision.same_on_every_transport")
@pytest.mark.parametrize("grants", [(), ("mcp.s.echo",), ("mcp.s.*",)])
async def test_the_same_call_has_the_same_answer_whichever_way_it_came(
    benches: list[Bench], grants: tuple[str, ...]
) -> None:
    bench = await bench_with(benches, s=friendly())
    await bench.approve()
    session = await bench.door.session(*grants)
    answers = set()
    for transport in Transport:
        for tool_id, args in (("mcp.s.echo", {"text": "x"}), ("mcp.s.env", {})):
            response = await bench.call(session, tool_id, args, origin=Origin(transport=transport))
            answers.add((tool_id, response.ok, "" if response.ok else fault(response)[0]))
    assert len(answers) == 2
    decisions = bench.door.told("tool_call")
    assert {one["transport"] for one in decisions} == {one.value for one in Transport}


@requirement("trust.system.only_runtime")
async def test_what_pretends_to_be_the_runtime_comes_back_as_untrusted_content_of_a_tool(
    benches: list[Bench],
) -> None:
    bench = await bench_with(benches, s=friendly())
    await bench.approve()
    session = await bench.door.session("mcp.s.*")
    done = await bench.call(session, "mcp.s.system")
    assert done.ok
    (row,) = bench.door.rows(session)
    assert row.state is ToolCallState.ENDED
    known = bench.door.registry.find("mcp.s.system")
    assert known is not None
    assert known.definition.output_trust is OutputTrust.UNTRUSTED
    messages = await bench.door.store.read(
        lambda reader: reader.rows("message_evidence", {"session_id": session, "after": 0, "after_row": 0, "limit": 9})
    )
    assert messages == []


async def test_schemas_that_lead_elsewhere_or_do_not_compile_bring_no_tool(benches: list[Bench]) -> None:
    bench = await bench_with(benches, s=hostile("schemas"))
    waiting, refused = await bench.servers.look("s", bench.client)
    assert {one.pin.name for one in waiting} == {"remote", "file", "pattern", "broken", "good"}
    assert {one.name for one in refused} >= {"remote", "file", "broken", "hidden"}
    await bench.approve()
    session = await bench.door.session("mcp.s.*")
    for name in ("remote", "file", "broken", "hidden"):
        assert fault(await bench.call(session, f"mcp.s.{name}", {"x": "y"}))[2] == "tool_unknown"
    assert fault(await bench.call(session, "mcp.s.good"))[0] == "approval_required"


async def test_pins_are_taken_in_when_a_workspace_opens_and_no_server_is_asked(benches: list[Bench]) -> None:
    first = await bench_with(benches, s=friendly())
    await first.approve()
    again = Bench(first.door, s=hostile("silent"))
    benches.append(again)
    await again.servers.load()
    assert again.servers.approved("mcp.s.echo") is not None
    assert again.desk.processes == []
    pins = await first.door.store.read(mcp_pins.pins)
    assert len(pins) == 9


async def test_a_server_that_is_not_configured_is_not_asked(benches: list[Bench]) -> None:
    from handshake.kernel.errors import NotFound

    bench = await bench_with(benches, files=friendly())
    with pytest.raises(NotFound) as missing:
        await bench.servers.look("file", bench.client)
    assert missing.value.hint == "Did you mean files?"
