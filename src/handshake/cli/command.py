"""Command: what all commands have in common: --json and --workspace, an example under the help, and suggestions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec

import click

from handshake.kernel.errors import InvalidRequest
from handshake.kernel.suggestion import suggest

P = ParamSpec("P")

SETTINGS = {"help_option_names": ["-h", "--help"]}
WORKSPACE_HELP = "Folder of the workspace; else HANDSHAKE_HOME, else the current folder or one above it."


class Invocation(NamedTuple):
    """What every command is told: how to print, and where the workspace is."""

    as_json: bool
    workspace: Path | None


Function = Callable[Concatenate[Invocation, P], int | None]
"""A command's own code; it returns the exit code, None for 0."""


class Noun(click.Group):
    """A group of commands that suggests what an unknown word was meant to be."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that `args` begin with.

        Raises:
            InvalidRequest: there is none of this name; with a suggestion.
        """
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            near = suggest(name, self.list_commands(ctx))
            meant = f"did you mean {ctx.command_path} {near}?" if near else f"see {ctx.command_path} --help"
            raise InvalidRequest(field="command", reason="unknown_command", hint=meant)
        return super().resolve_command(ctx, args)


def noun(name: str, help_text: str, *, example: str) -> Noun:
    """Return a new group of commands."""
    return Noun(name, help=help_text, epilog=_shown(example), context_settings=SETTINGS)


def verb(
    group: click.Group | None, name: str, *, example: str, in_workspace: bool = True
) -> Callable[[Function[P]], click.Command]:
    """Make a command of the decorated function; its docstring is the help, its first line what it is for.

    Args:
        group: the group that the command is in; None for one that `cli.main` adds.
        name: what people type.
        example: lines that work as they stand, shown under the help.
        in_workspace: whether the command takes a workspace.
    """

    def decorate(function: Function[P]) -> click.Command:
        @functools.wraps(function)
        @click.pass_context
        def run(
            context: click.Context, /, *args: Any, as_json: bool, workspace: Path | None = None, **kwargs: Any
        ) -> int | None:
            given = workspace or context.find_root().params.get("workspace")
            return function(Invocation(as_json, given), *args, **kwargs)

        text = inspect.cleandoc(function.__doc__ or "")
        own: list[click.Parameter] = list(reversed(getattr(function, "__click_params__", [])))
        command = click.Command(
            name,
            callback=run,
            params=[*own, *([workspace_option()] if in_workspace else []), _json_option()],
            help=text,
            short_help=text.split("\n")[0],
            epilog=_shown(example),
            context_settings=SETTINGS,
        )
        if group is not None:
            group.add_command(command)
        return command

    return decorate


def workspace_option() -> click.Option:
    """Return the option that names a workspace."""
    return click.Option(["-w", "--workspace"], type=click.Path(path_type=Path), metavar="DIR", help=WORKSPACE_HELP)


def _shown(example: str) -> str:
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in example.splitlines())


def _json_option() -> click.Option:
    return click.Option(
        ["--json", "as_json"], is_flag=True, help="Print JSON: one object, or one per line for lists and streams."
    )
