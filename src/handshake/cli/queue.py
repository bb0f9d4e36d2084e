"""Queue: the commands that show what waits and why, and that let it run to its end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from handshake.cli import place, shapes
from handshake.cli.border import EXIT_FAILED, Interrupted
from handshake.cli.command import Invocation, noun, verb
from handshake.cli.paging import after_option, limit_option
from handshake.cli.rendering import is_terminal, note, print_object, print_table

if TYPE_CHECKING:
    from handshake.cli.interruption import Interruption
    from handshake.ports.store import Reader
    from handshake.workspace import Workspace

queue = noun("queue", "Look at the runs that wait, and let them run.", example="handshake queue show")

LOOK_EVERY_S = 0.1
"""How often `queue run` looks whether something is left, in seconds."""
_HANDED_BACK = "what had not ended in time is queued again; go on with: handshake queue run"


@verb(queue, "show", example="handshake queue show --json")
@limit_option
@after_option("enqueue_seq")
def show(invocation: Invocation, limit: int, after: int) -> None:
    """Show the runs that wait, in order of acceptance, and why each of them does."""
    from handshake.bootstrap import configure, has_room, holder_of, limits_of, now_us
    from handshake.operations import views

    found = place.find(invocation)
    limits = limits_of(configure(found.root).settings)
    dispatching = holder_of(found) is not None

    def look(reader: Reader) -> views.QueueView:
        return views.queue(
            reader,
            limits,
            dispatching=dispatching,
            has_room=has_room(found),
            now_us=now_us(),
            after=after,
            limit=limit,
        )

    view = place.read(invocation, look)
    if invocation.as_json:
        print_object(shapes.queue(view))
        return
    asked = f", {view.desk} before a person (handshake desk list)" if view.desk else ""
    click.echo(f"{view.running} running, {view.queued} waiting{asked}")
    if view.items:
        print_table(
            ("NUMBER", "JOB", "SESSION", "LANE", "PRIORITY", "WAITED", "REASON", "UNTIL", "WHY"),
            (
                (
                    item.enqueue_seq,
                    item.job_id,
                    item.session_id,
                    item.lane,
                    item.priority,
                    f"{item.waited_us // 1_000} ms",
                    item.wait_reason,
                    shapes.moment(item.until_us),
                    item.sentence,
                )
                for item in view.items
            ),
        )


@verb(queue, "run", example="handshake queue run")
def run(invocation: Invocation) -> int:
    """Carry out what is queued until nothing is left that may start.

    Runs of paused sessions stay queued. Ctrl-C stops at once: what runs goes back to the queue. SIGTERM starts
    nothing more and gives what runs some seconds to end; a second signal cuts.
    """
    from handshake.cli.interruption import run_async

    ended = run_async(lambda interruption: _run(invocation, interruption))
    if invocation.as_json:
        print_object(ended)
    else:
        click.echo(", ".join(f"{count} {name}" for name, count in ended.items()))
    return EXIT_FAILED if ended["failed"] else 0


async def _run(invocation: Invocation, interruption: Interruption) -> dict[str, int]:
    from handshake.kernel.errors import Draining
    from handshake.operations import views
    from handshake.workspace import DRAIN_S, open_workspace

    root = place.find(invocation).root
    before = place.read(invocation, views.workspace).jobs
    stop_at_once_s = 0
    opened: list[Workspace] = []

    def drain() -> None:
        for one in opened:
            one.drain()

    interruption.drains(drain, DRAIN_S)  # first: what is queued begins to run while the workspace is being opened
    try:
        async with open_workspace(root, drain_s=stop_at_once_s) as workspace:
            opened.append(workspace)
            if interruption.is_draining:
                drain()
            async with interruption.scope():
                progress = is_terminal(sys.stderr) and not invocation.as_json
                await _until_idle(workspace, interruption, progress=progress)
                after = (await workspace.status()).jobs
    except Interrupted:
        if interruption.is_draining:
            raise Draining(reason="drained", hint=_HANDED_BACK) from None
        raise
    names = ("completed", "completed_with_issues", "failed", "cancelled")
    return {name: after.get(name, 0) - before.get(name, 0) for name in names} | {"left": after.get("queued", 0)}


async def _until_idle(workspace: Workspace, interruption: Interruption, *, progress: bool) -> None:
    import asyncio

    told = ""
    while True:
        idle = workspace.runtime.dispatcher.live_count == 0
        if idle and (interruption.is_draining or not await _may_start(workspace)):
            return
        if progress:
            view = await workspace.queue(limit=1)
            line = f"{view.running} running, {view.queued} waiting"
            if line != told:
                note(line)
            told = line
        await asyncio.sleep(LOOK_EVERY_S)


async def _may_start(workspace: Workspace) -> bool:
    """Return whether any queued run starts without someone else's doing."""
    from handshake.kernel.settings import MAX_PAGE_ITEMS
    from handshake.kernel.waiting import ONLY_OTHERS_LIFT

    after = 0
    while True:
        view = await workspace.queue(after=after, limit=MAX_PAGE_ITEMS)
        if view.running or any(item.wait_reason not in ONLY_OTHERS_LIFT for item in view.items):
            return True
        if len(view.items) < MAX_PAGE_ITEMS:
            return False
        after = view.items[-1].enqueue_seq
