"""Command line: the real `handshake` process in a clean environment, on one workspace."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

PROGRAM = Path(sys.executable).with_name("handshake")
ENOUGH_S = 60
NEW_SESSION = ("--role", "coder", "--model", "tiny/tiny-words", "--memory-policy", "EPHEMERAL")


class Ended(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object that it printed."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """The JSON objects that it printed, one per line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> Any:
        """The error that it printed as JSON."""
        return json.loads(self.err)["error"]


class CommandLine:
    """Runs commands; nothing of the caller's environment reaches them.

    Args:
        folder: the workspace, named by `HANDSHAKE_HOME`; None names none.
        home: an empty folder for what belongs to the user.
    """

    def __init__(self, folder: Path | None, home: Path) -> None:
        self.folder = folder
        self.home = home

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the whole environment of a command."""
        named = {"HANDSHAKE_HOME": str(self.folder)} if self.folder else {}
        own = {"HOME": str(self.home), "XDG_STATE_HOME": os.environ["XDG_STATE_HOME"], "LANG": "C.UTF-8"}
        return {"PATH": "/usr/bin:/bin", **own, **named, **(more or {})}

    async def __call__(
        self,
        *arguments: str | bytes,
        stdin: bytes | None = None,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Ended:
        """Run a command to its end."""
        process = await asyncio.create_subprocess_exec(
            str(PROGRAM),
            *arguments,
            stdin=DEVNULL if stdin is None else PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=self.environment(environment),
            cwd=cwd or self.home,
        )
        async with asyncio.timeout(ENOUGH_S):
            out, err = await process.communicate(stdin)
        assert process.returncode is not None
        return Ended(process.returncode, out.decode(), err.decode())

    @asynccontextmanager
    async def started(self, *arguments: str, environment: Mapping[str, str] | None = None) -> AsyncIterator[Process]:
        """Start a command that the body ends, or that is ended with it."""
        process = await asyncio.create_subprocess_exec(
            str(PROGRAM),
            *arguments,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            env=self.environment(environment),
            cwd=self.home,
        )
        try:
            async with asyncio.timeout(ENOUGH_S):
                yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def session(self, *more: str) -> str:
        """Create a session and return its id."""
        made = await self("session", "create", *NEW_SESSION, *more)
        assert made.code == 0, made.err
        return made.out.strip()


async def first_line(process: Process) -> str:
    """Wait for the first line that a started command prints."""
    assert process.stdout is not None
    return (await process.stdout.readline()).decode()


async def interrupt(process: Process, number: signal.Signals = signal.SIGINT) -> Ended:
    """Send a signal and wait for the end."""
    process.send_signal(number)
    out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


def configure(folder: Path, base_url: str, more: str = "") -> None:
    """Give a workspace the configuration of three lines."""
    text = f'[providers.tiny]\ndialects = ["openai_chat"]\nbase_url = "{base_url}"\n{more}'
    (folder / ".handshake" / "config.toml").write_text(text, encoding="utf-8")


async def on_terminal(handshake: CommandLine, *arguments: str) -> tuple[asyncio.subprocess.Process, int]:
    """Start a command on a terminal; return it with our side of the terminal."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        str(PROGRAM),
        *arguments,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=handshake.environment({"TERM": "xterm", "COLUMNS": "100"}),
    )
    os.close(theirs)
    return process, ours


async def heard(terminal: int, wanted: str) -> str:
    """Return what a terminal shows up to `wanted`."""
    shown = ""
    while wanted not in shown:
        shown += (await asyncio.to_thread(os.read, terminal, 65_536)).decode()
    return shown
