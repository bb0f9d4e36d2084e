"""Relaxing: `session debug` leaves out questions of policy for one session, for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from handshake.cli import place, shapes
from handshake.cli.command import Invocation, verb
from handshake.cli.rendering import print_object
from handshake.cli.sessions import session
from handshake.kernel.errors import InvalidRequest
from handshake.kernel.units import US_PER_S

if TYPE_CHECKING:
    from handshake.kernel.debug_scope import DebugScope
    from handshake.workspace import Workspace


@verb(
    session, "debug", example="handshake session debug SESSION_ID --for 15m\nhandshake session debug SESSION_ID --end"
)
@click.argument("session_id", metavar="ID")
@click.option("--for", "span", metavar="SPAN", default="15m", show_default=True, help="For how long: 90s, 15m, 2h.")
@click.option("--end", is_flag=True, help="End it now instead.")
def debug(invocation: Invocation, session_id: str, span: str, end: bool) -> None:
    """Ask nobody about one session's calls of low and medium risk that its grants cover.

    Denials, tainted arguments, destructive commands, tools that always ask, the sandbox and consent stay as they are,
    and so do all other sessions. It ends by itself. `status` and `session show` tell it while it lasts.
    """
    from handshake.kernel.moment import span_us

    if end:
        ended = place.change(invocation, lambda workspace: workspace.sessions.get(session_id).end_debug())
        if invocation.as_json:
            print_object({"session_id": session_id, "ended": ended})
        else:
            click.echo(f"{session_id} {'asks again' if ended else 'was not relaxed'}")
        return
    for_us = span_us(span)
    if for_us is None:
        raise InvalidRequest(field="for", reason="not_a_span", hint="write 90s, 15m or 2h")

    async def operation(workspace: Workspace) -> DebugScope:
        return await workspace.sessions.get(session_id).debug(for_s=for_us // US_PER_S)

    scope = place.change(invocation, operation)
    if invocation.as_json:
        print_object(shapes.debug_scope(scope))
    else:
        click.echo(f"{scope.session_id} {scope.relaxation} until {shapes.moment(scope.expires_at_us)}")
