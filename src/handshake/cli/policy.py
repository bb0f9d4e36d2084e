"""Policy: the commands about what a workspace permits: accepting a configuration that came with a repository."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from handshake.cli import place
from handshake.cli.command import Invocation, noun, verb
from handshake.cli.rendering import one_line, print_object

if TYPE_CHECKING:
    from handshake.bootstrap import ConfigTrust
    from handshake.cli.shapes import Shape

policy = noun("policy", "Accept what a workspace's configuration permits.", example="handshake policy trust")


@verb(policy, "trust", example="handshake policy trust\nhandshake policy trust --shown SHA256")
@click.option("--shown", metavar="HASH", help="Accept what was shown under this hash, without being asked.")
def trust(invocation: Invocation, shown: str | None) -> None:
    """Show what the workspace's configuration says, and accept it.

    A configuration that came with a repository may tighten limits and nothing else until you accept it here. What you
    accept is what is shown: when providers, credentials, aliases, budgets or permissions change, you are asked again.
    Limits of pace may change without that. A workspace of your own `init` needs this only if git brings the file.
    """
    from handshake.bootstrap import trusted_configs

    found = place.find(invocation)
    records = trusted_configs()
    stands = records.look(found)
    if shown is None and stands.waits and not invocation.as_json:
        _show(stands)
        if not sys.stdin.isatty():
            click.echo(f"accept it with: handshake policy trust --shown {stands.sha256}")
            return
        if not click.confirm("accept this?", default=False):
            return
        shown = stands.sha256
    if shown is not None:
        stands = records.accept(found, shown=shown)
    if invocation.as_json:
        print_object(shape(stands))
    else:
        click.echo(f"{found.config}: {stands.standing.value}, and counts {_extent(stands)}")


def shape(stands: ConfigTrust) -> Shape:
    """Return how a configuration stands, as programs read it."""
    return {
        "standing": stands.standing.value,
        "trusted": not stands.waits,
        "sha256": stands.sha256,
        "says": [{"key": one.key, "value": one.value} for one in stands.said],
    }


def _show(stands: ConfigTrust) -> None:
    click.echo("The configuration of this workspace was not made by you, or has changed. It says:")
    for one in stands.said:
        click.echo(f"  {one_line(f'{one.key} = {one.value}' if one.value else one.key)}")


def _extent(stands: ConfigTrust) -> str:
    return "for tightening limits only" if stands.waits else "whole"
