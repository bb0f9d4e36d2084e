"""Workspaces: the commands that make a workspace and tell how it stands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from handshake.cli.command import Invocation, verb
from handshake.cli.rendering import print_object, print_record
from handshake.cli.shapes import Shape

if TYPE_CHECKING:
    from handshake.ports.store import Reader


@verb(None, "init", example="handshake init my-project", in_workspace=False)
@click.argument("directory", metavar="[DIR]", type=click.Path(path_type=Path), default=Path())
def init(invocation: Invocation, directory: Path) -> None:
    """Make a workspace of DIR (default: the current folder).

    Writes `.handshake/` with a commented config.toml, the state store, and the key that signs the log. A workspace
    that is there already is left as it is. A config.toml that came with a repository is kept, and only tightens limits
    until you accept it: handshake policy trust.
    """
    from handshake.bootstrap import init_workspace, trusted_configs

    place = init_workspace(directory)
    waits = trusted_configs().look(place).waits
    if invocation.as_json:
        print_object({"workspace": str(place.root), "config": str(place.config)})
        return
    click.echo(f"made a workspace in {place.folder}")
    if waits:
        click.echo(
            f"{place.config} was here before, and only tightens limits until you accept it: handshake policy trust"
        )
    else:
        click.echo(f"name a provider in {place.config}, then: handshake session create --help")


@verb(None, "status", example="handshake status\nhandshake status --line")
@click.option("--line", is_flag=True, help="Print the one-line marker `HSK_STATUS key=value ...`; `-` means none.")
@click.option("--session", "session_id", metavar="ID", help="With --line: the marker of one session.")
def status(invocation: Invocation, line: bool, session_id: str | None) -> None:
    """Tell how the workspace stands: sessions, jobs, events, and who holds it."""
    from handshake.bootstrap import configure, holder_of, now_us, trusted_configs
    from handshake.cli import marker, place
    from handshake.cli.shapes import debug_scope, with_budget_lines, workspace
    from handshake.operations import debug_scopes, views

    if line or session_id is not None:
        settings = configure(place.find(invocation).root).settings
        fields = place.read(invocation, lambda reader: marker.fields(reader, settings, session_id))
        if invocation.as_json:
            print_object(fields)
        else:
            click.echo(marker.spell(fields))
        return
    found = place.find(invocation)
    holder = holder_of(found)
    standing = trusted_configs().look(found).standing.value
    held: Shape | None = None
    if holder is not None:
        held = {"pid": holder.pid, "started_at": holder.started_at, "program": holder.program}

    def look(reader: Reader) -> Shape:
        relaxed = [debug_scope(one) for one in debug_scopes.open_scopes(reader, now_us=now_us())]
        return {
            "workspace": str(found.root),
            **workspace(views.workspace(reader)),
            "configuration": standing,
            "debug_scopes": relaxed,
            "held_by": held,
        }

    shape = place.read(invocation, look)
    if invocation.as_json:
        print_object(shape)
    else:
        print_record({**with_budget_lines(shape), "held_by": held or "nobody"})


@verb(None, "version", example="handshake version", in_workspace=False)
def version(invocation: Invocation) -> None:
    """Print the version."""
    import platform

    import handshake

    if invocation.as_json:
        print_object({"version": handshake.__version__, "python": platform.python_version()})
    else:
        click.echo(f"handshake {handshake.__version__}")
