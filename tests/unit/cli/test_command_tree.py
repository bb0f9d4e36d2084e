"""Every command of the tree: options, help, examples, and no way around the checks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from handshake.cli.main import root
from handshake.kernel.layer import RESERVED_VARIABLES, known_keys
from tests.requirement import requirement
from tests.structure.tree import name_of, source_files, text

BUILT = {
    "approval approve", "approval deny", "approval grants", "approval list", "approval revoke", "approval show",
    "audit checkpoint", "audit prove", "audit verify", "bench",
    "capability explain", "demo", "desk approve", "desk deny", "desk list", "desk show", "doctor", "events list",
    "events show", "events tail", "init", "job artifacts", "job cancel", "job list", "job show", "mcp approve",
    "mcp list", "mcp serve", "policy trust", "queue run", "queue show", "session cancel", "session complete",
    "session create", "session debug", "session list", "session merge", "session messages", "session pause",
    "session resume", "session send", "session show", "simulate", "status", "version",
}  # fmt: skip
"""The commands of this part; a new one is added here with its tests."""
AROUND = re.compile(
    r"bypass|skip|force|unsafe|insecure|disable|ignore|override|god|sudo|danger|unlock|no[-_]?(?:auth|check|consent|"
    r"gate|lock|limit|policy|sandbox|sign|tls|verify)|allow[-_]?all|trust[-_]?all|without[-_]?consent|auto[-_]?approve"
)
"""What a switch that goes around checks would be called."""
VARIABLE = re.compile(r"\bHANDSHAKE_[A-Z0-9_]+\b")


def commands(group: click.Group = root, path: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its path, groups left out."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


def options(command: click.Command) -> list[click.Option]:
    """Return the options of a command."""
    return [one for one in command.params if isinstance(one, click.Option)]


COMMANDS = dict(commands())


def test_exactly_the_built_commands_are_there() -> None:
    assert set(COMMANDS) == BUILT


@requirement("face.cli.json")
@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_has_json_help_and_an_example(path: str) -> None:
    command = COMMANDS[path]
    assert "--json" in {name for one in options(command) for name in one.opts}
    summary = (command.help or "").split("\n")[0]
    assert summary.endswith(".")
    assert len(summary) <= 100
    assert all(one.help for one in options(command))
    assert command.epilog is not None
    assert f"handshake {path}" in command.epilog


@pytest.mark.parametrize("path", COMMANDS)
def test_every_example_is_understood(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoint.txt").touch()
    lines = (COMMANDS[path].epilog or "").splitlines()[2:]
    assert lines
    for line in lines:
        program, *arguments = shlex.split(line.rpartition("|")[2].partition(">")[0])
        assert program == "handshake"
        context = root.make_context(program, list(arguments), resilient_parsing=False)
        group: click.Group = root
        rest = arguments
        while True:
            name, command, rest = group.resolve_command(context, rest)
            assert name is not None
            assert command is not None
            if isinstance(command, click.Group):
                group = command
                continue
            with command.make_context(name, rest, parent=context):
                pass
            break


@requirement("trust.bypass.none")
def test_no_option_variable_or_key_goes_around_the_checks() -> None:
    switches = {name for command in (root, *COMMANDS.values()) for one in options(command) for name in one.opts}
    variables = {name for path in source_files() for name in VARIABLE.findall(text(path))} | RESERVED_VARIABLES
    by_click = {one.envvar for command in COMMANDS.values() for one in command.params if isinstance(one.envvar, str)}
    keys = {key.name for key in known_keys()}
    assert "--json" in switches
    assert "HANDSHAKE_HOME" in variables
    assert "policy.automation_level" in keys
    named = {*switches, *variables, *by_click, *keys}
    assert {name for name in named if AROUND.search(name.lower())} == set()


@requirement("trust.bypass.none")
def test_the_environment_is_read_in_a_few_named_places() -> None:
    reading = {name_of(path) for path in source_files() if re.search(r"(?<!/)\benviron\b", text(path))}
    assert reading == {
        "src/handshake/bootstrap/runtime.py",  # the layer of HANDSHAKE_* keys
        "src/handshake/bootstrap/toolbox.py",  # variables that the operator declared for commands
        "src/handshake/cli/border.py",  # HANDSHAKE_LOG
        "src/handshake/cli/place.py",  # HANDSHAKE_HOME
        "src/handshake/cli/rendering.py",  # TERM
        "src/handshake/storage/secrets.py",  # credentials by reference
        "src/handshake/tools/sandbox/probe.py",  # its own, in which nothing of the caller's may be
    }
