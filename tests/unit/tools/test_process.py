from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from handshake.kernel.tools.process import DEFINITIONS
from handshake.ports.tool import Reach, ToolFailed
from handshake.tools.process import ProcessTool
from handshake.tools.sandbox.orders import HOST
from handshake.tools.sandbox.sandbox import Sandbox
from tests.requirement import requirement
from tests.unit.tools.one_call import called, context

(RUN,) = DEFINITIONS
PYTHON = os.path.realpath(sys.executable)
WRITING = Reach(write=("src/**",), hidden=("private",))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for one in ("src", "private", ".handshake"):
        (tmp_path / one).mkdir()
    (tmp_path / "private/key").write_text("secret")
    (tmp_path / "out").symlink_to("/usr")
    return tmp_path


async def answer(root: Path, tool: ProcessTool | None = None, reach: Reach = WRITING, **args: Any) -> dict[str, Any]:
    result = await called(tool or ProcessTool(Sandbox()), RUN, args, context(str(root), reach))
    return dict(result.value)


@requirement("gate.sandbox.confines")
async def test_a_command_runs_within_its_reach_and_tells_all_of_its_end(root: Path) -> None:
    script = "cat; echo made > made; cat ../private/key; echo $TZ; pwd; exit 4"
    found = await answer(root, argv=["sh", "-c", script], stdin="given ", env={"TZ": "UTC"}, cwd="src/.")
    assert found["stdout"] == f"given UTC\n{root}/src\n"
    assert "private/key" in found["stderr"]
    assert (found["exit_code"], found["signal"], found["ended_by"]) == (4, None, "itself")
    assert (root / "src/made").read_text() == "made\n"


async def test_no_shell_puts_words_together(root: Path) -> None:
    found = await answer(root, argv=["echo", "$HOME; id", "*"])
    assert found["stdout"] == "$HOME; id *\n"


async def test_programs_of_the_workspace_are_found_before_those_of_the_system(root: Path) -> None:
    folder = root / ".venv/bin"
    folder.mkdir(parents=True)
    (folder / "ls").write_text("#!/bin/sh\necho mine\n")
    (folder / "ls").chmod(0o755)
    assert (await answer(root, argv=["ls"]))["stdout"] == "mine\n"


async def test_what_is_no_text_is_still_told(root: Path) -> None:
    found = await answer(root, argv=["printf", "\\377\\000"])
    assert found["stdout"] == "\ufffd\0"


async def test_time_that_is_over_is_a_result(root: Path) -> None:
    found = await answer(root, argv=["sh", "-c", "echo so far; sleep 60"], timeout_ms=300)
    assert (found["stdout"], found["ended_by"], found["exit_code"]) == ("so far\n", "timeout", None)


@requirement("gate.sandbox.fail_closed")
@pytest.mark.parametrize("backends", [(), (HOST,)])
async def test_without_a_sandbox_nothing_is_run(root: Path, backends: tuple[str, ...]) -> None:
    with pytest.raises(ToolFailed) as failed:
        await answer(root, ProcessTool(Sandbox(backends=backends)), argv=["touch", "src/made"])
    assert failed.value.code == "sandbox_missing"
    assert not (root / "src/made").exists()


@requirement("gate.sandbox.fail_closed")
async def test_only_an_explicit_grant_runs_commands_without_one(root: Path) -> None:
    reach = Reach(host_execution=True)
    found = await answer(root, ProcessTool(Sandbox(backends=())), reach, argv=["touch", "made"])
    assert (found["exit_code"], found["sandbox"]) == (0, HOST)
    assert (root / "made").exists()


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ({"argv": ["no-such-program"]}, "program_missing"),
        ({"argv": ["a\0b"]}, "command_invalid"),
        ({"argv": ["ls"], "cwd": "missing"}, "cwd_missing"),
        ({"argv": ["ls"], "cwd": "../x"}, "cwd_invalid"),
        ({"argv": ["ls"], "cwd": "/etc"}, "cwd_invalid"),
        ({"argv": ["ls"], "cwd": "out"}, "cwd_invalid"),
        ({"argv": ["ls"], "cwd": ".handshake"}, "cwd_invalid"),
        ({"argv": ["ls"], "cwd": "src/../.Handshake"}, "cwd_invalid"),
    ],
)
async def test_what_cannot_be_run_is_a_coded_failure(root: Path, args: dict[str, Any], code: str) -> None:
    with pytest.raises(ToolFailed) as failed:
        await answer(root, **args)
    assert failed.value.code == code


@pytest.mark.parametrize("name", ["LD_PRELOAD", "PATH", "PYTHONPATH", "GIT_SSH_COMMAND", "BASH_ENV", "HOME"])
def test_no_variable_makes_another_program_of_it(name: str) -> None:
    assert not jsonschema_rs.validator_for(RUN.input_schema).is_valid({"argv": ["ls"], "env": {name: "x"}})


@requirement("gate.sandbox.confines")
async def test_dependencies_beside_a_worktree_are_seen_unless_they_are_links(root: Path, tmp_path: Path) -> None:
    work, kept = tmp_path / "work", tmp_path / "kept"
    work.mkdir()
    kept.mkdir()
    (kept / "module").write_text("there")
    (tmp_path / "linked").symlink_to(root / "private")
    for one in ("kept", "linked"):
        (work / one).symlink_to(tmp_path / one)
    tool = ProcessTool(Sandbox(), dependencies=(str(kept), str(tmp_path / "linked"), str(tmp_path / "gone")))
    found = await answer(work, tool, argv=["sh", "-c", "cat kept/module linked/key; echo x > kept/module"])
    assert found["stdout"] == "there"
    assert (kept / "module").read_text() == "there"


async def test_what_the_operator_declared_is_there(root: Path) -> None:
    tool = ProcessTool(Sandbox(), environment=(("DECLARED", "yes"),))
    assert (await answer(root, tool, argv=["sh", "-c", "echo $DECLARED"]))["stdout"] == "yes\n"


async def test_nothing_of_the_runtime_s_environment_arrives(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "secret")
    found = await answer(root, argv=[PYTHON, "-I", "-c", "import os; print(sorted(os.environ))"])
    assert "API_KEY" not in found["stdout"]
    assert "PATH" in found["stdout"]
