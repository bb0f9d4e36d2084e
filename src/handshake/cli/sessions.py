"""Sessions: the commands about one session or a list of them, except sending."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from handshake.cli import place, shapes
from handshake.cli.command import Invocation, noun, verb
from handshake.cli.paging import after_option, limit_option
from handshake.cli.rendering import one_line, print_object, print_objects, print_record, print_table, print_text
from handshake.cli.sending import send

if TYPE_CHECKING:
    from handshake.kernel.grant import Grant
    from handshake.kernel.session import Session
    from handshake.operations.sessions import Cancelled
    from handshake.ports.store import Reader
    from handshake.workspace import Workspace

session = noun("session", "Make sessions, talk to them, and look after them.", example="handshake session list")
session.add_command(send)


@verb(
    session,
    "create",
    example="handshake session create --role coder --model ollama/qwen2.5-coder:7b --memory-policy EPHEMERAL",
)
@click.option("--role", required=True, help="operator, frontend, orchestrator, worker, coder, validator, or a pack's.")
@click.option("--model", required=True, metavar="PROVIDER/MODEL", help="A model of a configured provider, or an alias.")
@click.option(
    "--memory-policy", required=True, metavar="POLICY", help="EPHEMERAL, SESSION_SCOPED or WORKSPACE_SCOPED; for good."
)
@click.option("--lane", default="PRIMARY", show_default=True, help="PRIMARY, VALIDATION, SUBAGENT or BACKGROUND.")
@click.option("--wp", metavar="ID", help="The work packet it belongs to; for good.")
@click.option("--mt", metavar="ID", help="The micro-task it belongs to; for good.")
@click.option(
    "--execution-mode",
    default="MULTI_MODEL_PARALLEL",
    show_default=True,
    help="SINGLE_MODEL_MULTI_ROLE, MULTI_MODEL_PARALLEL or SPLIT_POLICY_AND_PLANNING.",
)
@click.option("--title", help="What people call it.")
@click.option("--session-id", metavar="UUID", help="The id to use; one that exists is an error.")
@click.option("--budget-tokens", type=int, metavar="N", help="Tokens that its calls may take, sent and answered.")
@click.option("--budget-usd", metavar="USD", help="What its calls may cost, as 0.50.")
@click.option("--budget-calls", type=int, metavar="N", help="How many calls it may make.")
@click.option(
    "--grant", multiple=True, metavar="CAP", help="What it may do, as fs.read:src/** or ask:fs.write:src; repeatable."
)
@click.option(
    "--delegable", multiple=True, metavar="CAP", help="What it may pass on to children; else all that it holds."
)
def create(
    invocation: Invocation,
    role: str,
    model: str,
    memory_policy: str,
    lane: str,
    wp: str | None,
    mt: str | None,
    execution_mode: str,
    title: str | None,
    session_id: str | None,
    budget_tokens: int | None,
    budget_usd: str | None,
    budget_calls: int | None,
    grant: tuple[str, ...],
    delegable: tuple[str, ...],
) -> None:
    """Create a session and print its id."""

    async def operation(workspace: Workspace) -> tuple[Session, list[Grant]]:
        made = await workspace.sessions.create(
            role=role,
            model=model,
            memory_policy=memory_policy,
            lane=lane,
            wp=wp,
            mt=mt,
            execution_mode=execution_mode,
            title=title,
            session_id=session_id,
            budget_tokens=budget_tokens,
            budget_usd=budget_usd,
            budget_calls=budget_calls,
            grants=grant,
            delegable=delegable or None,
        )
        return await made.show(), await made.grants()

    made, grants = place.change(invocation, operation)
    if invocation.as_json:
        print_object({**shapes.session(made), **shapes.authority(grants)})
    else:
        click.echo(made.session_id)


@verb(session, "list", example="handshake session list --state ACTIVE")
@click.option("--state", help="Only sessions in this state.")
@click.option("--role", help="Only sessions of this role.")
@click.option("--wp", metavar="ID", help="Only sessions of this work packet.")
@limit_option
@click.option("--after", default="", metavar="ID", help="Go on after this session, the last one printed before.")
def list_(invocation: Invocation, state: str | None, role: str | None, wp: str | None, limit: int, after: str) -> None:
    """List sessions in order of creation."""
    from handshake.kernel.errors import InvalidRequest
    from handshake.kernel.ids import is_uuid
    from handshake.kernel.session import SessionState
    from handshake.operations import grants, naming, views

    wanted = None if state is None else naming.choice(SessionState, "state", state)
    of_role, of_wp = naming.require_name("role", role), naming.require_name("wp", wp)
    if after and not is_uuid(after):
        raise InvalidRequest(field="after", reason="not_a_session_id")

    def look(reader: Reader) -> list[tuple[Session, list[Grant]]]:
        page = views.sessions(reader, after=after, limit=limit, state=wanted, role=of_role, wp_id=of_wp)
        return [(one, grants.of_session(reader, one.session_id)) for one in page]

    found = place.read(invocation, look)
    if invocation.as_json:
        print_objects({**shapes.session(one), **shapes.authority(held)} for one, held in found)
        return
    print_table(
        ("SESSION", "STATE", "ROLE", "LANE", "MODEL", "TURNS", "TOKENS", "TITLE"),
        (
            (
                one.session_id,
                one.state,
                one.role,
                one.lane,
                f"{one.provider_id}/{one.model_id}",
                one.next_turn_seq - 1,
                one.total_tokens,
                one.title,
            )
            for one, _ in found
        ),
    )


@verb(session, "show", example="handshake session show SESSION_ID")
@click.argument("session_id", metavar="ID")
def show(invocation: Invocation, session_id: str) -> None:
    """Show one session, the budgets that bind it, and what it holds or waits for."""
    from handshake.bootstrap import now_us
    from handshake.kernel.ids import SessionId
    from handshake.operations import debug_scopes, grants, records, views, write_scopes

    def look(reader: Reader) -> shapes.Shape:
        one = records.session(reader, SessionId(session_id))
        authority = shapes.authority(grants.of_session(reader, one.session_id))
        scopes = shapes.write_scopes(write_scopes.held_by(reader, one.session_id))
        relaxed = debug_scopes.open_scope(reader, one.session_id, now_us=now_us())
        if relaxed is not None:
            scopes["debug_scope"] = shapes.debug_scope(relaxed)
        budgets = shapes.budgets(views.budgets_of(reader, one))
        return {**shapes.session(one), **authority, "budgets": budgets, **scopes}

    found = place.read(invocation, look)
    if invocation.as_json:
        print_object(found)
    else:
        print_record(shapes.with_budget_lines(found))


@verb(session, "messages", example="handshake session messages SESSION_ID --json")
@click.argument("session_id", metavar="ID")
@limit_option
@after_option("message number")
def messages(invocation: Invocation, session_id: str, limit: int, after: int) -> None:
    """Print a session's thread with its texts."""
    from handshake.kernel.ids import SessionId
    from handshake.operations import views

    found = place.read(
        invocation, lambda reader: views.messages(reader, SessionId(session_id), after=after, limit=limit)
    )
    if invocation.as_json:
        print_objects(map(shapes.message, found))
        return
    for one in found:
        about = shapes.message(one)
        tokens = "" if one.message.token_count is None else f"  {one.message.token_count} tokens"
        click.echo(f"[{about['seq']}] {one_line(str(about['role']))}  {about['timestamp']}{tokens}")
        print_text(one.text)


@verb(session, "pause", example="handshake session pause SESSION_ID")
@click.argument("session_id", metavar="ID")
def pause(invocation: Invocation, session_id: str) -> None:
    """Let nothing more of a session start; what is queued stays queued."""
    _tell(invocation, place.change(invocation, lambda workspace: workspace.sessions.get(session_id).pause()))


@verb(session, "resume", example="handshake session resume SESSION_ID")
@click.argument("session_id", metavar="ID")
def resume(invocation: Invocation, session_id: str) -> None:
    """Lift a pause; queued turns start in their old order with the next `send` or `queue run`."""
    _tell(invocation, place.change(invocation, lambda workspace: workspace.sessions.get(session_id).resume()))


@verb(session, "complete", example="handshake session complete SESSION_ID")
@click.argument("session_id", metavar="ID")
def complete(invocation: Invocation, session_id: str) -> None:
    """End a session that has no open work."""
    _tell(invocation, place.change(invocation, lambda workspace: workspace.sessions.get(session_id).complete()))


@verb(session, "cancel", example="handshake session cancel SESSION_ID --reason no_longer_needed")
@click.argument("session_id", metavar="ID")
@click.option("--reason", default="operator", show_default=True, help="A word that the events will carry.")
def cancel(invocation: Invocation, session_id: str, reason: str) -> None:
    """End a session and everything of it that is queued, running or waiting."""

    async def operation(workspace: Workspace) -> Cancelled:
        return await workspace.sessions.get(session_id).cancel(reason=reason)

    ended = place.change(invocation, operation)
    if invocation.as_json:
        print_object({**shapes.session(ended.session), "cancelled_job_ids": list(ended.job_ids)})
    else:
        click.echo(f"{ended.session.session_id} {ended.session.state}, {len(ended.job_ids)} runs cancelled")


def _tell(invocation: Invocation, one: Session) -> None:
    if invocation.as_json:
        print_object(shapes.session(one))
    else:
        click.echo(f"{one.session_id} {one.state}")
