"""Merging: `session merge` brings what a session wrote in its own worktree back into the workspace."""

from __future__ import annotations

import click

from handshake.cli import place
from handshake.cli.command import Invocation, verb
from handshake.cli.rendering import one_line, print_object
from handshake.cli.sessions import session
from handshake.kernel.errors import StateConflict


@verb(session, "merge", example="handshake session merge SESSION_ID")
@click.argument("session_id", metavar="ID")
def merge(invocation: Invocation, session_id: str) -> int:
    """Bring a session's work back into the workspace: all of it, uncommitted, or nothing.

    A session that writes in a git repository has a worktree of its own, which began as your files were then. What you
    changed since is kept. Where both changed the same lines nothing is merged: the exit code is 5, a live session is
    BLOCKED, and the report names the files; change yours or let the session change its own, and merge again.
    """
    found = place.change(invocation, lambda workspace: workspace.sessions.get(session_id).merge())
    if invocation.as_json:
        print_object(
            {
                "session_id": found.session_id,
                "merged": not found.conflicts,
                "files": list(map(_shown, found.files)),
                "diff_sha256": found.diff_sha256,
                "conflicts": list(map(_shown, found.conflicts)),
                "report_artifact_id": found.report_artifact_id,
            }
        )
    elif found.conflicts:
        click.echo(f"nothing was merged: {len(found.conflicts)} files do not fit; report {found.report_artifact_id}")
        for path in found.conflicts:
            click.echo(f"  {one_line(_shown(path))}")
    else:
        click.echo(f"merged {len(found.files)} files")
        for path in found.files:
            click.echo(f"  {one_line(_shown(path))}")
    return StateConflict.exit_code if found.conflicts else 0


def _shown(path: str) -> str:
    """Return a path as text that can be printed, also one whose bytes are none."""
    return path.encode("utf-8", "backslashreplace").decode()
