"""Command: `python -m bench` measures here and now, and writes what it found."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import click
import msgspec

from bench import recorder, report, scheduler, start
from bench.figure import TABLE, Figure, Result
from bench.machine import RESULTS, machine
from bench.peers import environment
from bench.peers.environment import PeerRuns
from bench.plan import FULL, QUICK, Plan

BENCHES: dict[str, Callable[[Plan, Mapping[str, PeerRuns]], dict[str, Figure]]] = {
    "scheduler": scheduler.measure,
    "recorder": lambda plan, peers: recorder.measure(plan),
    "start": lambda plan, peers: start.measure(plan),
}


class Menu(click.Group):
    """A group that measures everything when it is given no command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `all` before options that stand alone."""
        if not args or (args[0].startswith("-") and args[0] != "--help"):
            args = ["all", *args]
        return super().parse_args(ctx, args)


@click.group(cls=Menu)
def main() -> None:
    """Measure speed and memory beside floors; a bench asserts nothing."""


def _command(name: str) -> click.Command:
    @click.option("--json", "json_file", type=click.Path(path_type=Path, allow_dash=True, dir_okay=False))
    @click.option("--peers", "with_peers", is_flag=True, help="Run the peers too, where they are installed.")
    @click.option("--quick", is_flag=True, help="Ten seconds instead of a minute, and figures to match.")
    def command(json_file: Path | None, with_peers: bool, quick: bool) -> None:
        result = measure(name, QUICK if quick else FULL, with_peers=with_peers, say=_say)
        told = report.as_json(result)
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_bytes(told)
        if json_file is not None and str(json_file) != "-":
            json_file.write_bytes(told)
        click.echo(told.decode() if str(json_file) == "-" else report.text(result), nl=False)

    helped = "Measure everything." if name == "all" else f"Measure the {name} figures."
    return click.command(name, help=f"{helped} The result is kept in bench/results/{name}.json.")(command)


for _name in (*BENCHES, "all"):
    main.add_command(_command(_name))


@main.command("peers-install")
def peers_install() -> None:
    """Install the peers, each in an environment of its own below bench/results."""
    environment.install(_say)


@main.command("report")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def write_report(file: Path) -> None:
    """Write the figures of FILE into docs/performance.md."""
    try:
        result = report.read(file)
    except msgspec.MsgspecError as broken:
        raise click.ClickException(f"{file} is no result of a bench: {broken}") from broken
    report.PAGE.write_text(report.page(result, report.PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    _say(f"wrote {report.PAGE.name}")


def measure(name: str, plan: Plan, *, with_peers: bool, say: Callable[[str], None]) -> Result:
    """Run one bench, or all of them, and return its figures in the order of the table."""
    notes: list[str] = []
    chosen = [one for one in BENCHES if name in ("all", one)]
    peers: dict[str, PeerRuns] = {}
    if with_peers and "scheduler" in chosen:
        say("measuring peers")
        peers = environment.measure(plan, notes.append)
    found: dict[str, Figure] = {}
    for one in chosen:
        say(f"measuring {one}")
        found |= BENCHES[one](plan, peers)
    figures = {key: found[key] for key in TABLE if key in found}
    return Result(bench=name, machine=machine(), figures=figures, notes=tuple(notes))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(prog_name="python -m bench")
