"""Capability: the command that tells what the Tool Gate would decide about a call, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from handshake.cli import place
from handshake.cli.command import Invocation, noun, verb
from handshake.cli.rendering import one_line, print_object

if TYPE_CHECKING:
    from handshake.operations.explaining import Explained

capability = noun(
    "capability",
    "Ask what sessions may do.",
    example='handshake capability explain SESSION_ID workspace.file.read --args \'{"path": "README.md"}\'',
)


@verb(
    capability,
    "explain",
    example='handshake capability explain SESSION_ID workspace.file.read --args \'{"path": "README.md"}\'',
)
@click.argument("session_id", metavar="SESSION")
@click.argument("tool_id", metavar="TOOL")
@click.option("--args", "arguments", default="{}", metavar="JSON", help="The arguments of the call; none by default.")
def explain(invocation: Invocation, session_id: str, tool_id: str, arguments: str) -> None:
    """Tell what the gate would decide about a call; nothing is called and nothing recorded.

    It goes by what is stored now and works beside a running process. Tools that a program added are known to that
    program only.
    """
    from handshake.bootstrap import configure, now_us
    from handshake.operations import explaining

    settings = configure(place.find(invocation).root).settings

    def told(*, has_sandbox: bool) -> Explained:
        return place.read(
            invocation,
            lambda reader: explaining.explain(
                reader, settings, session_id, tool_id, arguments, now_us=now_us(), has_sandbox=has_sandbox
            ),
        )

    found = told(has_sandbox=True)
    if found.needs_sandbox:
        found = told(has_sandbox=_has_sandbox())
    if invocation.as_json:
        print_object({name: getattr(found, name) for name in found.__struct_fields__})
    else:
        _show(found)


def _has_sandbox() -> bool:
    """Return whether a command could be confined, as its self-tests say now."""
    from handshake.bootstrap import sandbox_findings
    from handshake.cli.interruption import run_async

    return not all(run_async(lambda interruption: sandbox_findings()).values())


def _show(found: Explained) -> None:
    click.echo(f"{found.decision}: {found.reason}" + (f" ({found.code})" if found.code else ""))
    if found.sentence:
        click.echo(one_line(found.sentence))
    lines = {
        "requires": found.required,
        "missing": found.missing,
        "held": found.held,
        "carried by": found.grants,
        "arguments that nobody stands for": found.arguments,
        "tainted by": found.tainted_by,
    }
    for label, values in lines.items():
        if values:
            click.echo(f"{label}: {', '.join(map(one_line, values))}")
