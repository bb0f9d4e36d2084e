"""Grants: the commands that list what sessions may do, by whose approval, and that take it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from handshake.cli import place, shapes
from handshake.cli.command import Invocation, noun, verb
from handshake.cli.paging import limit_option
from handshake.cli.rendering import print_object, print_objects, print_table

if TYPE_CHECKING:
    from handshake.workspace import Workspace

approval = noun(
    "approval", "Look at approvals and what they grant, and take them back.", example="handshake approval grants"
)


@verb(approval, "grants", example="handshake approval grants\nhandshake approval grants SESSION_ID --revoked --json")
@click.argument("session_id", metavar="[SESSION]", required=False)
@click.option("--revoked", is_flag=True, help="Those that were taken back too.")
@limit_option
@click.option("--after", default="", metavar="ID", help="Go on after this grant, the last one printed before.")
def grants(invocation: Invocation, session_id: str | None, revoked: bool, limit: int, after: str) -> None:
    """List grants of one session, or of all: what each may do, how long, and by whose approval."""
    from handshake.kernel.errors import InvalidRequest
    from handshake.kernel.ids import SessionId, is_uuid
    from handshake.operations import grants as operations
    from handshake.operations import records
    from handshake.operations.grants import GrantView
    from handshake.ports.store import Reader

    if after and not is_uuid(after):
        raise InvalidRequest(field="after", reason="not_a_grant_id")

    def look(reader: Reader) -> list[GrantView]:
        of = None if session_id is None else records.session(reader, SessionId(session_id)).session_id
        return operations.listed(reader, session_id=of, after=after, limit=limit, revoked=revoked)

    found = place.read(invocation, look)
    if invocation.as_json:
        print_objects(map(shapes.grant, found))
        return
    print_table(
        ("GRANT", "SESSION", "CAPABILITY", "USE", "PASSED ON", "LASTS", "APPROVAL", "REVOKED"),
        (
            (
                one.grant.grant_id,
                one.grant.session_id,
                str(one.grant.capability),
                one.grant.use if one.grant.held else "",
                "may be" if one.grant.delegable else "",
                one.grant.lifetime,
                one.grant.approval_id,
                shapes.moment(one.revoked_at_us),
            )
            for one in found
        ),
    )


@verb(approval, "revoke", example="handshake approval revoke APPROVAL_ID\nhandshake approval revoke GRANT_ID")
@click.argument("one_id", metavar="ID")
def revoke(invocation: Invocation, one_id: str) -> None:
    """Take back an approval with all that rests on it, or a single grant; it acts at the next check."""

    async def operation(workspace: Workspace) -> str:
        return await workspace.grants.revoke(one_id)

    session_id = place.change(invocation, operation)
    if invocation.as_json:
        print_object({"revoked": one_id, "session_id": session_id})
    else:
        click.echo(f"{one_id} revoked")
