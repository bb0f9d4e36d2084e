"""`capability explain` beside whoever holds the workspace, as a person and as a program use it."""

from __future__ import annotations

import pytest

from handshake.testing.upstream import Upstream
from tests.e2e.command_line import NEW_SESSION, CommandLine, configure
from tests.requirement import requirement

READ = "workspace.file.read"


async def created(handshake: CommandLine, *more: str) -> str:
    """Create a session and return its id."""
    assert handshake.folder is not None
    async with Upstream() as upstream:
        configure(handshake.folder, upstream.base_url)
        made = await handshake("session", "create", *NEW_SESSION, *more, "--json")
    return str(made.json["session_id"])


@requirement("capability.explain.equals_gate")
async def test_a_person_is_told_what_the_gate_would_say_and_why(handshake: CommandLine) -> None:
    session = await created(handshake, "--grant", "fs.read:docs/**")
    explain = ("capability", "explain", session, READ, "--args")

    allowed = await handshake(*explain, '{"path": "docs/a.md"}', "--json")
    assert (allowed.code, allowed.json["decision"], allowed.json["reason"]) == (0, "allow", "granted")
    assert allowed.json["required"] == ["fs.read:docs/a.md"]
    denied = await handshake(*explain, '{"path": "src/a.py"}', "--json")
    assert (denied.json["decision"], denied.json["code"]) == ("deny", "HSK-403-CAPABILITY")
    assert (denied.json["missing"], denied.json["held"]) == (["fs.read:src/a.py"], ["fs.read:docs/**"])
    told = (await handshake(*explain, '{"path": "src/a.py"}')).out
    assert told.splitlines()[0] == "deny: not_granted (HSK-403-CAPABILITY)"
    assert "missing: fs.read:src/a.py" in told
    assert "held: fs.read:docs/**" in told
    events = await handshake("events", "list", "--type", "capability.decision", "--json")
    assert events.lines == []


@pytest.mark.parametrize(
    ("tool", "arguments", "reason"),
    [
        ("workspace.file.erase", "{}", "tool_unknown"),
        (READ, "{", "arguments_unreadable"),
        (READ, '{"path": 5}', "arguments_invalid"),
        (READ, '{"path": "../a"}', "arguments_invalid"),
    ],
)
async def test_call_that_is_none_is_told_as_the_gate_tells_it(
    handshake: CommandLine, tool: str, arguments: str, reason: str
) -> None:
    session = await created(handshake)
    told = await handshake("capability", "explain", session, tool, "--args", arguments, "--json")
    assert (told.code, told.json["decision"], told.json["reason"]) == (0, "deny", reason)


async def test_session_that_nobody_made_is_unknown(handshake: CommandLine) -> None:
    nobody = "018f0000-0000-7000-8000-000000000001"
    told = await handshake("capability", "explain", nobody, READ, "--json")
    assert (told.code, told.json["decision"], told.json["reason"]) == (0, "deny", "session_unknown")


@requirement("capability.explain.equals_gate")
async def test_whether_a_command_could_be_confined_is_tried(handshake: CommandLine) -> None:
    session = await created(handshake, "--grant", "proc.exec:true")
    told = await handshake("capability", "explain", session, "process.run", "--args", '{"argv": ["true"]}', "--json")
    doctor = await handshake("doctor", "--json")
    (found,) = [one for one in doctor.json["findings"] if one["subject"] == "sandbox"]
    reason = "granted" if found["verdict"] == "ok" else "sandbox_missing"
    assert (told.json["needs_sandbox"], told.json["reason"]) == (True, reason)
