"""Commands behind the gate: the real door, the real tool and the real sandbox; only where sessions work is a test's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from handshake.kernel.grant import Use
from handshake.kernel.htc import CallError, ToolResponse
from handshake.kernel.lane import Lane
from handshake.kernel.tool_registry import ToolSource
from handshake.kernel.tools.process import DEFINITIONS, RUN
from handshake.ports.tool import Tool
from handshake.tools.process import ProcessTool
from handshake.tools.sandbox.sandbox import BACKENDS, Sandbox
from tests.gating import Door
from tests.requirement import requirement

GRANTS = ("proc.exec", "fs.write:build/**")


class Workplace(Door):
    """A door behind which commands run in one folder."""

    folder: Path

    async def room(self, session_id: str, writes: bool) -> str:
        """Return the folder."""
        return str(self.folder)

    async def run(self, session: str, *argv: str, **changes: Any) -> ToolResponse:
        """Run a command as a session."""
        return await self.call(session, {"argv": list(argv)}, tool_id=RUN, **changes)


async def workplace(folder: Path, tool: Tool | None = None) -> Workplace:
    door = await Workplace.open()
    assert isinstance(door, Workplace)
    door.folder = folder
    for one in ("build", "docs", ".handshake"):
        (folder / one).mkdir()
    for definition in DEFINITIONS:
        door.registry.register(definition, ToolSource.RUNTIME)
        door.gate.attach(definition.tool_id, tool or ProcessTool(Sandbox()))
    return door


def code(response: ToolResponse) -> str:
    assert isinstance(response.error, CallError), response
    return response.error.code


@requirement("gate.workspace.destructive_denied")
@pytest.mark.parametrize(
    "argv",
    [
        ("git", "reset", "--hard"),
        ("git", "-C", ".", "clean", "-fdx"),
        ("git", "rebase", "-i", "HEAD~2"),
        ("rm", "-rf", "docs"),
        ("sh", "-c", "true; rm -rf docs"),
    ],
)
async def test_destructive_commands_of_background_sessions_ask_each_time(tmp_path: Path, argv: tuple[str, ...]) -> None:
    door = await workplace(tmp_path)
    session = await door.stage.create(lane=Lane.BACKGROUND)
    door.policy.grant(session, *GRANTS)
    asked = await door.run(session, *argv, tool_call_id="one")
    assert code(asked) == "approval_required"
    assert isinstance(asked.error, CallError)
    [(question, verdict)] = door.policy.questions
    assert verdict.reason == "destructive"
    door.policy.approve(question, str(asked.error.details["approval_id"]))
    assert (await door.run(session, *argv, tool_call_id="one")).ok
    assert code(await door.run(session, *argv)) == "approval_required"
    assert (tmp_path / "docs").is_dir()  # approved or not, it is outside of the write scope


@requirement("gate.workspace.destructive_denied")
async def test_other_commands_and_the_sessions_of_people_are_not_asked_about(tmp_path: Path) -> None:
    door = await workplace(tmp_path)
    background = await door.stage.create(lane=Lane.BACKGROUND)
    door.policy.grant(background, *GRANTS)
    assert (await door.run(background, "rm", "-rf", "build/old")).ok
    assert code(await door.run(background, "cat", ".handshake/config.toml")) == "HSK-403-CAPABILITY"
    primary = await door.session("proc.exec")  # the write scope is the other one's while it lives
    assert (await door.run(primary, "git", "clean", "-n")).ok
    assert (await door.run(primary, "rm", "-rf", "docs")).ok
    assert (tmp_path / "docs").is_dir()


@requirement("gate.sandbox.fail_closed")
async def test_without_a_sandbox_a_command_is_denied_with_its_evidence(tmp_path: Path) -> None:
    door = await workplace(tmp_path, ProcessTool(Sandbox(backends=())))
    session = await door.session(*GRANTS)
    door.has_sandbox = False
    denied = await door.run(session, "touch", "build/made")
    assert isinstance(denied.error, CallError)
    assert denied.error.details["reason"] == "sandbox_missing"
    assert not (tmp_path / "build/made").exists()
    assert [one["ok"] for one in door.told("tool_call")] == [False]


@requirement("gate.sandbox.fail_closed")
async def test_what_the_gate_takes_for_a_sandbox_and_is_none_runs_nothing(tmp_path: Path) -> None:
    door = await workplace(tmp_path, ProcessTool(Sandbox(backends=())))
    failed = await door.run(await door.session(*GRANTS), "touch", "build/made")
    assert code(failed) == "sandbox_missing"
    assert not (tmp_path / "build/made").exists()


@requirement("gate.sandbox.fail_closed")
async def test_only_the_grant_for_the_host_runs_a_command_where_there_is_no_sandbox(tmp_path: Path) -> None:
    door = await workplace(tmp_path, ProcessTool(Sandbox(backends=())))
    door.has_sandbox = False
    session = await door.session(*GRANTS, "proc.exec:host")
    assert (await door.run(session, "touch", "made")).ok
    assert (tmp_path / "made").exists()


@requirement("gate.sandbox.fail_closed")
async def test_a_program_of_that_name_is_no_grant_for_the_host(tmp_path: Path) -> None:
    door = await workplace(tmp_path)
    session = await door.stage.create()
    door.policy.grant(session, "proc.exec:host", use=Use.ASK)
    asked = await door.run(session, "host", tool_call_id="one")
    assert isinstance(asked.error, CallError)
    [(question, _)] = door.policy.questions
    door.policy.approve(question, str(asked.error.details["approval_id"]))
    program = tmp_path / ".venv/bin/host"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    done = await door.run(session, "host", tool_call_id="one")
    assert isinstance(done.result, dict)
    assert done.result["sandbox"] in BACKENDS


@requirement("gate.sandbox.confines")
async def test_a_command_writes_where_its_session_may(tmp_path: Path) -> None:
    door = await workplace(tmp_path)
    done = await door.run(await door.session(*GRANTS), "sh", "-c", "echo a > build/made; echo a > docs/made")
    assert done.ok
    assert (tmp_path / "build/made").exists()
    assert not (tmp_path / "docs/made").exists()
