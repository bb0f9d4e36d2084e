"""Plain process: a program with its standard streams as pipes and no sandbox, for tests of what talks to programs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence

END_LIMIT_S = 0.5
"""How long a program may take to end once its input is closed."""


class PlainProcess:
    """One program in a process group of its own; what it writes to its standard error is dropped."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    @classmethod
    async def start(cls, command: Sequence[str], env: Mapping[str, str]) -> PlainProcess:
        """Start `command` with exactly the environment `env`."""
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=dict(env),
            start_new_session=True,
        )
        return cls(process)

    async def read(self, most_bytes: int) -> bytes:
        """Return the next bytes that it wrote, or none at the end."""
        assert self._process.stdout is not None
        return await self._process.stdout.read(most_bytes)

    async def write(self, data: bytes) -> None:
        """Write to its input."""
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        await self._process.stdin.drain()

    async def close(self) -> None:
        """Close its input, and kill its group if it does not end by itself."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_LIMIT_S):
                await self._process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        if self._process.stdout is not None:
            while await self._process.stdout.read(64 * 1024):
                pass  # a pipe that is not read to its end would keep its transport open
        await self._process.wait()
