"""Approval: the commands about calls of tools that wait for a person: what exactly is asked, and the answers to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from handshake.cli import place, shapes
from handshake.cli.command import Invocation, verb
from handshake.cli.desk import tell_answer
from handshake.cli.grants import approval
from handshake.cli.paging import after_option, limit_option
from handshake.cli.rendering import note, print_arguments, print_object, print_objects, print_record, print_table

if TYPE_CHECKING:
    from handshake.kernel.desk import DeskItem
    from handshake.workspace import Workspace


@verb(approval, "list", example="handshake approval list\nhandshake approval list --json")
@click.option("--all", "everything", is_flag=True, help="Calls that were answered, too.")
@limit_option
@after_option("item_seq")
def list_(invocation: Invocation, everything: bool, limit: int, after: int) -> None:
    """List the calls that wait for a person, in the order in which they came."""
    from handshake.kernel.desk import DeskKind, DeskState
    from handshake.operations import desk

    state = None if everything else DeskState.WAITING
    found = [
        one
        for one in place.read(invocation, lambda reader: desk.items(reader, state=state, after=after, limit=limit))
        if one.kind is DeskKind.TOOL_APPROVAL
    ]
    if invocation.as_json:
        print_objects(map(shapes.desk_item, found))
        return
    print_table(
        ("NUMBER", "APPROVAL", "STATE", "TOOL", "SESSION", "WHY", "EXPIRES"),
        (
            (
                one.item_seq,
                one.item_id,
                one.state,
                one.tool_id,
                one.session_id,
                one.reason,
                shapes.moment(one.expires_at_us),
            )
            for one in found
        ),
    )


@verb(approval, "show", example="handshake approval show ID")
@click.argument("item_id", metavar="ID")
def show(invocation: Invocation, item_id: str) -> None:
    """Show the exact call that waits: its tool, its arguments, why a person is asked, and its hash."""
    from handshake.operations import desk

    item, arguments = place.read(invocation, lambda reader: desk.call(reader, item_id))
    shape = {**shapes.desk_item(item), "arguments": arguments}
    if invocation.as_json:
        print_object(shape)
        return
    print_record({name: value for name, value in shape.items() if name != "arguments"})
    print_arguments(arguments)


@verb(
    approval,
    "approve",
    example="handshake approval approve ID --call-sha256 HASH --for 2h",
)
@click.argument("item_id", metavar="ID")
@click.option("--call-sha256", metavar="HASH", required=True, help="The `call_sha256` that `approval show` told.")
@click.option(
    "--for",
    "lasting",
    default="once",
    show_default=True,
    metavar="HOW_LONG",
    help="once, turn, session, wp, until_revoked, or a span such as 2h: for calls that go nowhere else.",
)
def approve(invocation: Invocation, item_id: str, call_sha256: str, lasting: str) -> None:
    """Let exactly this call be made; its run goes on. Refused if another call was shown."""

    async def operation(workspace: Workspace) -> DeskItem:
        question = await workspace.desk.show(item_id)
        return await question.approve_call(call_sha256=call_sha256, lasting=lasting)

    answered = place.change(invocation, operation)
    if lasting == "until_revoked":
        note(f"it lasts until somebody takes it back: handshake approval grants {answered.session_id}")
    tell_answer(invocation, answered)


@verb(approval, "deny", example="handshake approval deny ID")
@click.argument("item_id", metavar="ID")
def deny(invocation: Invocation, item_id: str) -> None:
    """Refuse the call: its model is told so, and its run goes on."""

    async def operation(workspace: Workspace) -> DeskItem:
        return await (await workspace.desk.show(item_id)).deny()

    tell_answer(invocation, place.change(invocation, operation))


__all__ = ["approval"]
