"""Main: the command `handshake` with all its nouns."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from handshake.cli import (
    approval,
    audit,
    bench,
    capability,
    demo,
    desk,
    doctor,
    events,
    jobs,
    mcp,
    merging,
    policy,
    queue,
    relaxing,
    sessions,
    simulate,
    workspaces,
)
from handshake.cli.border import run
from handshake.cli.command import SETTINGS, Noun, workspace_option

HELP = """Handshake: a governed runtime for many language-model sessions on one workspace.

Begin with `handshake demo`, or make a workspace here with `handshake init`. Reading commands work beside a running
process; commands that change something need the workspace to themselves. Exit codes: 0 ok, 1 failed work, 2 usage,
3 denied, 4 not found, 5 conflict, 6 integrity failure, 130 interrupted.
"""


def _version_option() -> click.Option:
    def tell(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
        if wanted and not context.resilient_parsing:
            import handshake

            click.echo(f"handshake {handshake.__version__}")
            context.exit()

    return click.Option(
        ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=tell, help="Print the version."
    )


@click.pass_context
def _root(context: click.Context, workspace: Path | None) -> None:
    """Hold what every command is told; `cli.command` reads it."""


root = Noun(
    "handshake",
    callback=_root,
    params=[workspace_option(), _version_option()],
    help=HELP,
    epilog="\b\nExample:\n  handshake demo",
    context_settings=SETTINGS,
)

assert {merging.merge.name, relaxing.debug.name} <= {*sessions.session.commands}, "importing adds them to their noun"

for _command in (
    workspaces.init,
    demo.demo,
    workspaces.status,
    doctor.doctor,
    workspaces.version,
    sessions.session,
    jobs.job,
    queue.queue,
    desk.desk,
    approval.approval,
    capability.capability,
    policy.policy,
    events.events,
    mcp.mcp,
    audit.audit,
    simulate.simulate,
    bench.bench,
):
    root.add_command(_command)


def main() -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(run(root, sys.argv[1:]))
