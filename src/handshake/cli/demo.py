"""Demo: the main job on a real engine and a tiny model, in a folder of its own: run, watch, cancel, verify."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from handshake.cli.border import EXIT_FAILED, Interrupted
from handshake.cli.command import Invocation, verb
from handshake.cli.rendering import is_terminal, print_object, print_table
from handshake.cli.shapes import Shape

if TYPE_CHECKING:
    from handshake.cli.demo_board import Board, Row
    from handshake.cli.interruption import Interruption
    from handshake.operations.verdict import Verdict
    from handshake.workspace import SessionHandle, TurnHandle, Workspace

CAST = (
    ("coder", "PRIMARY", "Explain how the parser should treat an empty page."),
    ("orchestrator", "PRIMARY", "Plan the next three steps for the harbour map."),
    ("validator", "VALIDATION", "Check the story about the lamp for mistakes."),
    ("worker", "SUBAGENT", "Collect what is known about the old bridge."),
    ("worker", "SUBAGENT", "Describe every room of the workshop."),
    ("frontend", "BACKGROUND", "Write labels for the new basket page."),
)
"""Role, lane and first request of each session."""
CANCELLED = 4
"""The session that is cancelled while it runs."""
CANCEL_AFTER_WORDS = 60
AGAIN = "Go on from there."
TURNS = 2
ANSWER_TOKENS = 650
"""Long enough to watch, and two answers with their requests fit the engine's context."""
SLOTS = 3
"""Runs at a time: half of the sessions wait, each with its reason."""
LOOK_EVERY_S = 0.15
"""How often the queue is looked up for the screen, in seconds."""
_CONFIG = """\
# Written by `handshake demo`.
[providers.demo]
dialects = ["openai_chat"]
base_url = "{base_url}"

[scheduler]
max_concurrent_runs = {slots}
primary_reserved_runs = 1

[scheduler.max_concurrent_per_model]
local = {slots}
"""


@verb(None, "demo", example="handshake demo\nhandshake demo --json", in_workspace=False)
@click.option("--yes", is_flag=True, help="Ask nothing; this holds for the demo's own server on this machine only.")
def demo(invocation: Invocation, yes: bool) -> int:
    """Run six sessions on a real engine with a tiny model, watch, cancel one, verify.

    Needs no configuration, key, model or network: the model is made on the spot, and its server runs on loopback as
    long as the demo. The workspace stays in a temporary folder to look around in.
    """
    from handshake.bootstrap import find_workspace, verify_log
    from handshake.cli.demo_board import Board
    from handshake.cli.interruption import run_async

    del yes  # nothing is asked yet: no call leaves the machine
    folder = Path(tempfile.mkdtemp(prefix="handshake-demo-"))
    live = is_terminal(sys.stdout) and not invocation.as_json
    board = Board(live=live, quiet=invocation.as_json)
    try:
        run_async(lambda interruption: _run(folder, board, interruption))
    except Interrupted as raised:
        raised.hint = f"What was committed stays; look around: {own_name()} -w {folder} job list"
        raise
    verdict = verify_log(find_workspace(folder), deep=True)
    if invocation.as_json:
        print_object(_shape(folder, board, verdict))
    else:
        _print(folder, board, verdict)
    return 0 if verdict.sound and board.as_expected() else EXIT_FAILED


async def _run(folder: Path, board: Board, interruption: Interruption) -> None:
    """Start the engine, carry the sessions out, and close everything."""
    from handshake.bootstrap import init_workspace
    from handshake.testing.llama_server import LlamaServer
    from handshake.testing.tiny_model import MAX_LAYERS, write_tiny_model
    from handshake.workspace import open_workspace

    model = folder / "tiny.gguf"
    try:
        board.say("making a tiny model and starting llama.cpp on it")
        write_tiny_model(model, seed=1, layers=MAX_LAYERS)
        async with interruption.scope(), LlamaServer(model, slots=SLOTS, seed=1) as server:
            place = init_workspace(folder)
            place.config.write_text(_CONFIG.format(base_url=server.base_url, slots=SLOTS), encoding="utf-8")
            async with open_workspace(folder, drain_s=0) as workspace, board:
                await _perform(workspace, board, f"demo/{server.model_id}")
    finally:
        model.unlink(missing_ok=True)
        if not (folder / ".handshake").exists():  # nothing to look around in
            shutil.rmtree(folder, ignore_errors=True)


async def _perform(workspace: Workspace, board: Board, model: str) -> None:
    """Queue all turns, follow them, cancel one session while it runs, and complete the others."""
    import asyncio

    handles = [
        await workspace.sessions.create(role=role, model=model, memory_policy="EPHEMERAL", lane=lane)
        for role, lane, _ in CAST
    ]
    rows = [board.add(one.session_id, role, lane) for one, (role, lane, _) in zip(handles, CAST, strict=True)]
    rows[CANCELLED].to_be_cancelled = True
    turns = [
        (number, await handle.send(CAST[number][2] if turn == 0 else AGAIN, max_output_tokens=ANSWER_TOKENS))
        for turn in range(TURNS)
        for number, handle in enumerate(handles)
    ]
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(_watch(workspace, board))
        async with asyncio.TaskGroup() as following:
            for number, turn in turns:
                following.create_task(_follow(turn, handles[number], rows[number], board))
        watching.cancel()
    for handle, row in zip(handles, rows, strict=True):
        if not row.to_be_cancelled:
            await handle.complete()
        session = await handle.show()
        row.state, row.tokens = session.state.value, session.total_tokens
    board.see(await workspace.queue())


async def _follow(turn: TurnHandle, handle: SessionHandle, row: Row, board: Board) -> None:
    """Follow one turn to its end."""
    from handshake.operations.feed import Started, Text

    async for piece in turn:
        if isinstance(piece, Started):
            board.started(row)
        elif isinstance(piece, Text):
            row.hear(piece.text)
            if row.to_be_cancelled and row.words >= CANCEL_AFTER_WORDS and row.state != "CANCELLED":
                row.state = "CANCELLED"
                ended = await handle.cancel(reason="demo")
                board.cancelled(row, runs=len(ended.job_ids))
    result = await turn.result()
    board.ended(row, result)


async def _watch(workspace: Workspace, board: Board) -> None:
    """Keep the screen's view of the queue fresh."""
    import asyncio

    while True:
        board.see(await workspace.queue())
        await asyncio.sleep(LOOK_EVERY_S)


def _shape(folder: Path, board: Board, verdict: Verdict) -> Shape:
    from handshake.cli.audit import verdict_shape

    return {
        "audit": verdict_shape(verdict),
        "sessions": {row.session_id: row.shape() for row in board.rows},
        "workspace": str(folder),
        "as_expected": verdict.sound and board.as_expected(),
    }


def _print(folder: Path, board: Board, verdict: Verdict) -> None:
    from handshake.cli.audit import verdict_lines

    click.echo()
    print_table(
        ("SESSION", "ROLE", "LANE", "STATE", "RUNS", "TOKENS", "FIRST WORDS"),
        (
            (row.session_id, row.role, row.lane, row.state, row.runs(), row.tokens, row.first_words())
            for row in board.rows
        ),
    )
    click.echo()
    for line in verdict_lines(verdict):
        click.echo(f"audit: {line}")
    click.echo()
    click.echo("look around (the demo's engine has ended, everything it did is on record):")
    for command in ("session list", "queue show", "job list", "events list", "audit verify --deep"):
        click.echo(f"  {own_name()} -w {folder} {command}")


def own_name() -> str:
    """Return how this program is called from here: by its name if that finds it, else by its path."""
    if shutil.which("handshake") is not None:
        return "handshake"
    return os.path.relpath(sys.argv[0])
