"""Desk: the commands about all that waits for a person: lost runs, and calls of tools."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from handshake.cli import place, shapes
from handshake.cli.command import Invocation, noun, verb
from handshake.cli.paging import after_option, limit_option
from handshake.cli.rendering import note, print_arguments, print_object, print_objects, print_record, print_table

if TYPE_CHECKING:
    from handshake.kernel.desk import DeskItem
    from handshake.workspace import DeskQuestion, Workspace

desk = noun("desk", "Look at what waits for a person, and answer it.", example="handshake desk list")

WAITING = "waiting"
ALL = "all"


@verb(desk, "list", example="handshake desk list\nhandshake desk list --state all --json")
@click.option(
    "--state", default=WAITING, show_default=True, help="waiting, approved, denied, expired, withdrawn or all."
)
@limit_option
@after_option("item_seq")
def list_(invocation: Invocation, state: str, limit: int, after: int) -> None:
    """List what waits for a person, in the order in which it came."""
    from handshake.kernel.desk import DeskState
    from handshake.operations import desk as operations
    from handshake.operations import naming

    wanted = None if state == ALL else naming.choice(DeskState, "state", state)
    found = place.read(invocation, lambda reader: operations.items(reader, state=wanted, after=after, limit=limit))
    if invocation.as_json:
        print_objects(map(shapes.desk_item, found))
        return
    print_table(
        ("NUMBER", "ITEM", "KIND", "STATE", "REASON", "JOB", "TOOL OR MODEL", "EXPIRES"),
        (
            (
                one.item_seq,
                one.item_id,
                one.kind,
                one.state,
                one.reason,
                one.job_id,
                one.tool_id or f"{one.provider_id}/{one.model_id}",
                shapes.moment(one.expires_at_us),
            )
            for one in found
        ),
    )


@verb(desk, "show", example="handshake desk show ITEM_ID")
@click.argument("item_id", metavar="ID")
def show(invocation: Invocation, item_id: str) -> None:
    """Show one item, and the hash that an approval of it must name."""
    from handshake.operations import desk as operations

    item, arguments = place.read(invocation, lambda reader: operations.call(reader, item_id))
    found = shapes.desk_item(item)
    if invocation.as_json:
        print_object({**found, "arguments": arguments or None})
        return
    print_record(found)
    if arguments:
        print_arguments(arguments)


@verb(desk, "approve", example="handshake desk approve ITEM_ID --shown SHA256")
@click.argument("item_id", metavar="ID")
@click.option("--shown", metavar="HASH", required=True, help="The sha256 that `desk show` told: what you agree to.")
@click.option(
    "--for", "lasting", default="once", show_default=True, metavar="HOW_LONG", help="Of a call: as `approval approve`."
)
def approve(invocation: Invocation, item_id: str, shown: str, lasting: str) -> None:
    """Approve an item: a lost run is queued again, a call is made. Refused if something else was shown."""

    async def operation(workspace: Workspace) -> DeskItem:
        question: DeskQuestion = await workspace.desk.show(item_id)
        return await question.approve(shown=shown, lasting=lasting)

    tell_answer(invocation, place.change(invocation, operation))


@verb(desk, "deny", example="handshake desk deny ITEM_ID")
@click.argument("item_id", metavar="ID")
def deny(invocation: Invocation, item_id: str) -> None:
    """Deny an item: a lost run fails, a call is refused; their session goes on."""

    async def operation(workspace: Workspace) -> DeskItem:
        question: DeskQuestion = await workspace.desk.show(item_id)
        return await question.deny()

    tell_answer(invocation, place.change(invocation, operation))


def tell_answer(invocation: Invocation, answered: DeskItem) -> None:
    """Tell how an item was answered, and how its run goes on."""
    if invocation.as_json:
        print_object(shapes.desk_item(answered))
        return
    click.echo(f"{answered.item_id} {answered.state}")
    if answered.job_id is not None and (answered.tool_id is not None or answered.state == "approved"):
        note("its run goes on with: handshake queue run")
