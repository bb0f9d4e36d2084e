"""Commands: the reference of the command line, from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator

import click

from scripts.reading import table

LINE_CHARS = 100


def commands_page(root: click.Command, name: str) -> str:
    """Return usage, description, options and examples of `root` and of every command below it that is not hidden."""
    parts = ["# Commands", "<!-- written by `make docs`; do not edit -->"]
    for context in _contexts(click.Context(root, info_name=name, terminal_width=LINE_CHARS)):
        parts += _command(context)
    return "\n\n".join(parts) + "\n"


def _contexts(context: click.Context) -> Iterator[click.Context]:
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            if command is not None and not command.hidden:
                yield from _contexts(click.Context(command, parent=context, info_name=name))


def _command(context: click.Context) -> list[str]:
    command = context.command
    parts = [f"## `{context.command_path}`", f"```\n{command.get_usage(context)}\n```", _prose(command.help)]
    rows = [record for one in command.get_params(context) if (record := one.get_help_record(context))]
    parts.append(table(("option", "meaning"), [(f"`{option}`", meaning) for option, meaning in rows]) if rows else "")
    parts.append(_prose(command.epilog))
    return [part for part in parts if part]


def _prose(text: str | None) -> str:
    """Return help text as Markdown; a block that click must not wrap becomes a block of code."""
    paragraphs = (text or "").replace("\r", "").strip().split("\n\n")
    return "\n\n".join(
        f"```\n{one.lstrip().removeprefix(chr(8)).strip(chr(10))}\n```" if one.lstrip().startswith("\b") else one
        for one in paragraphs
    )
