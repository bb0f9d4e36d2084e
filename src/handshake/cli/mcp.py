"""MCP: the commands about MCP servers whose tools are used here, and the one that offers tools to MCP clients."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from handshake.cli import place, shapes
from handshake.cli.command import Invocation, noun, verb
from handshake.cli.rendering import one_line, print_object, print_objects, print_table

if TYPE_CHECKING:
    from handshake.cli.shapes import Shape
    from handshake.kernel.mcp_pin import Pin
    from handshake.kernel.mcp_settings import McpServerSettings
    from handshake.kernel.mcp_tool import PinnedTool
    from handshake.workspace import Workspace
    from handshake.workspace.mcp import McpQuestion

mcp = noun("mcp", "Use tools of MCP servers, and offer a session's tools to MCP clients.", example="handshake mcp list")

NOT_ASKED = "not_asked"
"""The state of a server whose tools nobody has looked at."""


@verb(mcp, "list", example="handshake mcp list\nhandshake mcp list --json")
def list_(invocation: Invocation) -> None:
    """List the tools of all MCP servers, and whether they are approved; no server is asked."""
    from handshake.bootstrap import configure
    from handshake.operations import mcp_pins

    servers = configure(place.find(invocation).root).settings.mcp.servers
    pins = place.read(invocation, mcp_pins.pins)
    found = [_listed(pin, servers.get(pin.server)) for pin in pins]
    asked = {pin.server for pin in pins}
    found += [{"server": one, "tool": None, "state": NOT_ASKED} for one in servers if one not in asked]
    found.sort(key=lambda one: (str(one["server"]), str(one["tool"] or "")))
    if invocation.as_json:
        print_objects(found)
        return
    columns = ("server", "tool", "state", "side_effect", "risk", "approved_by", "tool_id")
    print_table(
        [one.upper().replace("_", " ") for one in columns], ([one.get(key) for key in columns] for one in found)
    )


@verb(mcp, "approve", example="handshake mcp approve docs\nhandshake mcp approve docs --shown SHA256")
@click.argument("server")
@click.option("--tool", "tools", multiple=True, metavar="NAME", help="Only this tool, as the server spells it.")
@click.option("--shown", metavar="HASH", help="Approve what was shown under this hash, without being asked.")
def approve(invocation: Invocation, server: str, tools: tuple[str, ...], shown: str | None) -> None:
    """Ask a server for its tools, show what is new or has changed, and approve it.

    What is approved is the exact definition: name, description and schemas. When the server changes one of them, the
    tool is blocked until it is approved again. A session also needs a grant for a tool, such as `mcp.docs.*`.
    """
    named = tools or None

    async def look(workspace: Workspace) -> McpQuestion:
        return await workspace.mcp.look(server, tools=named)

    async def decide(workspace: Workspace) -> list[Pin]:
        await workspace.mcp.look(server, tools=named)
        return await workspace.mcp.approve(server, shown=shown or "", tools=named)

    if shown is None:
        question = place.change(invocation, look)
        if invocation.as_json:
            print_object(_asked(question))
            return
        _show(question)
        if not question.tools or not sys.stdin.isatty():
            return
        if not click.confirm("approve these definitions?", default=False):
            return
        shown = question.sha256
    pins = place.change(invocation, decide)
    if invocation.as_json:
        print_objects(_pin(pin) for pin in pins)
    else:
        print_table(("TOOL", "STATE", "SHA256"), ((pin.tool_id, pin.state, pin.approved_sha256) for pin in pins))


def _show(question: McpQuestion) -> None:
    for one in question.tools:
        click.echo(f"{one.pin.tool_id} ({one.pin.state})")
        click.echo(json.dumps(_definition(one), indent=2, ensure_ascii=False))
    for refused in question.refused:
        click.echo(f"not taken: {one_line(refused.name)} ({refused.reason})")
    if not question.tools:
        click.echo(f"nothing of {question.server} waits for approval")
    elif not sys.stdin.isatty():
        click.echo(f"approve it with: handshake mcp approve {question.server} --shown {question.sha256}")


def _asked(question: McpQuestion) -> Shape:
    return {
        "server": question.server,
        "sha256": question.sha256,
        "tools": [{**_pin(one.pin), "definition": _definition(one)} for one in question.tools],
        "refused": [{"tool": one.name, "reason": one.reason} for one in question.refused],
    }


def _definition(tool: PinnedTool) -> Shape:
    one = tool.definition
    return {
        "name": one.name,
        "description": one.description,
        "input_schema": one.input_schema,
        "output_schema": one.output_schema,
    }


def _pin(pin: Pin) -> Shape:
    return {
        "server": pin.server,
        "tool": pin.name,
        "tool_id": pin.tool_id,
        "state": pin.state,
        "seen_sha256": pin.seen_sha256,
        "approved_sha256": pin.approved_sha256,
        "approved_by": pin.decided_by,
        "approved_at": shapes.moment(pin.decided_at_us),
    }


def _listed(pin: Pin, server: McpServerSettings | None) -> Shape:
    """Return a tool as it stands, with what the configuration says of it; of a server that is gone, nothing."""
    from handshake.kernel.mcp_settings import McpToolSettings

    if server is None:
        return {**_pin(pin), "state": "not_configured", "side_effect": None, "risk": None, "mapped": False}
    said = server.tools.get(pin.name)
    known = said or McpToolSettings()
    return {**_pin(pin), "side_effect": known.side_effect, "risk": known.risk, "mapped": said is not None}


@verb(mcp, "serve", example="handshake mcp serve --session SESSION_ID")
@click.option("--session", "session_id", required=True, metavar="ID", help="The session whose tools are offered.")
def serve(invocation: Invocation, session_id: str) -> None:
    """Offer the tools of one session to the MCP client that started this command, over stdio.

    The client sees what the session's grants could allow, and every call passes the gate. A call that waits for a
    person is answered with the id of the approval; the same call again goes through once it was approved. The workspace
    is held only while something is listed or called.
    """
    from handshake import __version__
    from handshake.cli.interruption import Interruption, run_async
    from handshake.kernel.catalogue.tools import Transport
    from handshake.kernel.ids import SessionId
    from handshake.operations import records
    from handshake.server.brief_workspace import BriefWorkspace
    from handshake.server.mcp_stdio import serve as serve_client
    from handshake.server.session_tools import WorkspaceTools

    place.read(invocation, lambda reader: records.session(reader, SessionId(session_id)))
    workspace = BriefWorkspace(place.find(invocation).root)

    async def main(interruption: Interruption) -> None:
        try:
            async with interruption.scope():
                await serve_client(WorkspaceTools(workspace, session_id, Transport.MCP), __version__)
        finally:
            await workspace.closed()

    run_async(main)
