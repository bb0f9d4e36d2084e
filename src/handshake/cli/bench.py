"""Bench: measures speed and memory on this machine, beside floors and peers, and keeps what it found."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from handshake.cli.command import Invocation, verb
from handshake.cli.rendering import is_terminal, note, print_object

NAMES = ("scheduler", "gate", "recorder", "start", "simulator", "all")
DEFAULT_RESULTS = "handshake-bench"


@verb(
    None,
    "bench",
    example="handshake bench recorder\nhandshake bench scheduler --quick --json\nhandshake bench all --peers",
    in_workspace=False,
)
@click.argument("name", type=click.Choice(NAMES))
@click.option("--peers", is_flag=True, help="Measure other durable queues too, those that are installed in DIR.")
@click.option("--quick", is_flag=True, help="Half a minute for all, and figures to match.")
@click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    default=DEFAULT_RESULTS,
    show_default=True,
    help="Folder in which to measure and to keep results; its disk is what is measured.",
)
def bench(invocation: Invocation, name: str, peers: bool, quick: bool, results: Path) -> int:
    """Measure speed and memory here and now, against floors and goals.

    Where the same work has a floor, what it costs bare, both are measured in turn. The result is kept in
    DIR/NAME.json. Only ratios of one run compare: close what else works on the machine. Needs no workspace, provider
    or network; `all` takes some minutes and two gigabytes of disk. A missed goal is told, and is no failure.
    """
    from handshake.bench.benches import measure
    from handshake.bench.plan import FULL, QUICK
    from handshake.bench.report import text
    from handshake.bench.workbench import Workbench

    _make(results)
    result = measure(name, Workbench(QUICK if quick else FULL, results, _say), with_peers=peers)
    if invocation.as_json:
        print_object(result)
    else:
        click.echo(text(result), nl=False)
        note(f"kept in {results / f'{name}.json'}")
    return 0


def _make(results: Path) -> None:
    """Make the folder for results, before anything is measured.

    Raises:
        InvalidRequest: there can be none of this name.
    """
    from handshake.kernel.errors import InvalidRequest

    try:
        results.mkdir(parents=True, exist_ok=True)
    except OSError as failed:
        said = failed.strerror or type(failed).__name__
        raise InvalidRequest(field="--results", reason="wrong_value", hint=f"no folder can be made: {said}") from failed


def _say(line: str) -> None:
    """Tell a person what is measured next; a line that moved by itself would take time from what is measured."""
    if is_terminal(sys.stderr):
        note(line)
