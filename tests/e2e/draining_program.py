"""Draining program: what somebody writes on top of the Python face who wants SIGTERM to end things in order.

    python draining_program.py FOLDER DRAIN_S

It sends a turn and waits for the signal. Then it says how another turn is refused, and how the first one ended.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from handshake import Draining, TurnHandle, open_workspace


def say(*words: object) -> None:
    """Print one line, and have it out before anything else happens."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def listen(turn: TurnHandle) -> None:
    """Say how a turn ended, as far as this process hears of it."""
    try:
        say("ended", (await turn.result()).state.value)
    except Draining as over:
        say("ended", over.code)


async def main(folder: str, drain_s: int) -> None:
    """Send, drain, and close."""
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    async with asyncio.TaskGroup() as group, open_workspace(folder, drain_s=drain_s) as hs:
        session = await hs.sessions.create(role="coder", model="tiny/tiny-words", memory_policy="EPHEMERAL")
        group.create_task(listen(await session.send("now")))
        await told.wait()
        hs.drain()
        try:
            await session.send("one more")
        except Draining as refused:
            say("refused", refused.code)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
