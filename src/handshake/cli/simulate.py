"""Simulate: runs the real runtime on virtual time with faults, seed by seed, and tells which promise did not hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from handshake.cli.border import EXIT_FAILED
from handshake.cli.command import Invocation, verb
from handshake.cli.rendering import note, print_object, print_objects, print_table

if TYPE_CHECKING:
    from handshake.cli.shapes import Shape
    from handshake.testing.simulator import Verdict

DEFAULT_SEEDS = 20
MAX_SEEDS = 1_000_000
DEFAULT_KEEP = "handshake-simulations"
_US_PER_S = 1_000_000


@verb(
    None,
    "simulate",
    example="handshake simulate --list\nhandshake simulate --seeds 3\nhandshake simulate --print standard",
    in_workspace=False,
)
@click.option(
    "--seeds", type=click.IntRange(1, MAX_SEEDS), default=DEFAULT_SEEDS, show_default=True, help="How many seeds."
)
@click.option("--first-seed", type=click.IntRange(0), default=1, show_default=True, help="The first of them.")
@click.option("--scenario", default="standard", show_default=True, help="A shipped scenario, or a file of yours.")
@click.option("--keep", type=click.Path(path_type=Path), default=DEFAULT_KEEP, help="Folder for seeds that failed.")
@click.option("--list", "wants_list", is_flag=True, help="List the shipped scenarios.")
@click.option("--print", "printed", metavar="NAME", help="Print a shipped scenario, to be changed.")
def simulate(
    invocation: Invocation,
    seeds: int,
    first_seed: int,
    scenario: str,
    keep: Path,
    wants_list: bool,
    printed: str | None,
) -> int:
    """Run the scheduler with your limits through faults, on virtual time.

    The real operations, scheduler and store run on one seed's chance: virtual time, scripted providers, and a disk
    that loses power. After every commit it is checked that all promises hold. The same seed gives the same history
    on every machine. Needs no workspace, provider or network; exit code 1 if a promise did not hold.
    """
    from handshake.testing.simulator import load, simulate

    if wants_list:
        return _list(invocation)
    if printed is not None:
        return _print_scenario(printed)
    whole = load(scenario)
    failed = 0
    for seed in range(first_seed, first_seed + seeds):
        verdict = simulate(whole, seed)
        if invocation.as_json:
            print_object(_shape(verdict))
        else:
            _print_verdict(verdict)
        if not verdict.passed:
            failed += 1
            _keep(keep, scenario, verdict)
    if not invocation.as_json:
        note(f"{seeds - failed} of {seeds} seeds of {whole.name} hold every promise")
    return EXIT_FAILED if failed else 0


def _list(invocation: Invocation) -> int:
    from handshake.testing.simulator import load, shipped

    rows = [{"scenario": name, "description": load(name).run.description} for name in shipped()]
    if invocation.as_json:
        print_objects(rows)
    else:
        print_table(("SCENARIO", "SHOWS"), (tuple(row.values()) for row in rows))
    return 0


def _print_scenario(name: str) -> int:
    from handshake.kernel.errors import NotFound
    from handshake.testing.simulator import shipped

    path = shipped().get(name)
    if path is None:
        raise NotFound(kind="scenario", id=name, hint=f"Known: {', '.join(shipped())}.")
    click.echo(path.read_text(encoding="utf-8"), nl=False)
    return 0


def _print_verdict(verdict: Verdict) -> None:
    failure = verdict.failure
    told = "holds" if failure is None else f"BROKEN {failure.requirement}"
    virtual_s = verdict.virtual_us // _US_PER_S
    click.echo(
        f"seed {verdict.seed}: {told}; {verdict.jobs} jobs, {verdict.calls} calls, {verdict.faults} faults, "
        f"{verdict.lives} lives, {verdict.commits} commits, {virtual_s} s virtual, history {verdict.history[:12]}"
    )
    if failure is not None:
        about = f" ({failure.about})" if failure.about else ""
        click.echo(f"  {failure.sentence}{about}, at {failure.virtual_us / _US_PER_S:.3f} s")
        for event in failure.last_events:
            click.echo(f"  event {event.seq} {event.type} {event.job_id or event.session_id or ''}".rstrip())


def _keep(folder: Path, scenario: str, verdict: Verdict) -> None:
    from handshake.testing.simulator import keep

    path = keep(folder, scenario, verdict)
    note(f"kept {path}; again: handshake simulate --scenario {scenario} --first-seed {verdict.seed} --seeds 1")


def _shape(verdict: Verdict) -> Shape:
    import msgspec

    whole: Shape = msgspec.to_builtins(verdict)
    return {"passed": verdict.passed, **whole}
