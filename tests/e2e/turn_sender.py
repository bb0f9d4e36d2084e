"""Turn sender: a program that works on a workspace and says what was acknowledged to it, until it is killed.

    python turn_sender.py FOLDER send START
    python turn_sender.py FOLDER drain

`send` says `opening`, `ready`, and then for every answer of the runtime, once it has it, one line: `session ID`,
`accepted JOB`, `ended JOB STATE`, each with the end of the log that it can see behind it. Every fifth turn, others
with every number of a START, is never answered. `drain` sends nothing, waits until every job has ended, and closes
the workspace.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from handshake.kernel.ids import JobId, ProviderId
from handshake.kernel.job import TERMINAL
from handshake.kernel.settings import MAX_INLINE_ARTIFACT_BYTES
from handshake.operations import views
from handshake.testing.scripted_model import Script, ScriptedModel, Step, echo
from handshake.workspace import SessionHandle, TurnHandle, Workspace, open_workspace

PROVIDER = ProviderId("scripted")
SENDERS = 4
TURNS = 100
"""Turns of each sender: more than anyone waits for."""


def say(*words: object) -> None:
    """Print one line, and have it out before anything else happens."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def holding(start: int) -> Script:
    """Return a script that answers with the beginning of the question, but not every question."""

    def script(text: str) -> Sequence[Step]:
        number = int(text.split(maxsplit=1)[0])
        return ("held ", asyncio.Event()) if start and (number + start) % 5 == 0 else echo(text[:100])

    return script


def question(number: int) -> str:
    """Return a turn's text; every seventh is too large for a row."""
    return f"{number} " + "long " * (MAX_INLINE_ARTIFACT_BYTES // 5 + 1 if number % 7 == 0 else 1)


def say_end(hs: Workspace, *words: object) -> None:
    """Say what was acknowledged, and where the log ends by now."""
    row: Any = hs.runtime.store.read_now(lambda reader: reader.row("log_state"))
    say(*words, row[0], row[1])


async def listen(hs: Workspace, turn: TurnHandle) -> None:
    """Say how a turn ended."""
    result = await turn.result()
    say_end(hs, "ended", turn.job_id, result.state.value)


async def send(hs: Workspace, listeners: asyncio.TaskGroup) -> None:
    """Create sessions and send them turns, one after the other."""
    session: SessionHandle | None = None
    for number in range(TURNS):
        if session is None or number % 10 == 9:
            session = await hs.sessions.create(role="coder", model=f"{PROVIDER}/m", memory_policy="EPHEMERAL")
            say_end(hs, "session", session.session_id)
        turn = await session.send(question(number))
        say_end(hs, "accepted", turn.job_id)
        listeners.create_task(listen(hs, turn))


async def send_until_killed(folder: str, start: str) -> None:
    """Send turns, and then wait for the end."""
    say("opening")
    models = {PROVIDER: ScriptedModel(holding(int(start)))}
    async with open_workspace(folder, models=models) as hs, asyncio.TaskGroup() as group:
        say("ready")
        for _ in range(SENDERS):
            group.create_task(send(hs, group))


async def drain(folder: str) -> None:
    """Wait until every job has ended."""
    async with open_workspace(folder, models={PROVIDER: ScriptedModel(holding(0))}) as hs:
        jobs = await hs.runtime.store.read(views.jobs)
        while jobs:
            for job in jobs:
                await until_ended(hs, job.job_id)
            jobs = await hs.runtime.store.read(partial(views.jobs, after=jobs[-1].enqueue_seq))


async def until_ended(hs: Workspace, job_id: JobId) -> None:
    """Return when a job has ended."""
    feed = hs.runtime.feeds.listen(job_id)
    if (await hs.job(job_id)).state not in TERMINAL:
        async for _ in feed:
            pass
    hs.runtime.feeds.leave(job_id, feed)


if __name__ == "__main__":
    match sys.argv[1:]:
        case [where, "send", number]:
            asyncio.run(send_until_killed(where, number))
        case [where, "drain"]:
            asyncio.run(drain(where))
