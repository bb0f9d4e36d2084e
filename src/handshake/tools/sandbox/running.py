"""Running: starts a launcher with its orders, feeds and drains the command, and ends both when told.

Source:
    gate.sandbox.confines (02 §7).
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine
from contextlib import suppress
from typing import NamedTuple

from handshake.kernel.settings import COMMAND_END_MS
from handshake.tools.sandbox.orders import Orders, encoded
from handshake.tools.sandbox.policy import Limits, NotConfined, Outcome

_SOURCES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
_START = """
import sys
package = type(sys)("handshake")
package.__path__ = [sys.argv[1] + "/handshake"]
sys.modules["handshake"] = package
from handshake.tools.sandbox.launcher import main
main(*map(int, sys.argv[2:5]))
"""
"""The launcher's own start: the front door of the package, which loads more than a launcher needs, is left out."""
_CHUNK_BYTES = 64 * 1024
_MAX_STATUS_BYTES = 64 * 1024
_MS_PER_S = 1_000


class _Output:
    """What a command writes to one output: its beginning and its end are kept, and all of it is counted."""

    def __init__(self, kept_bytes: int) -> None:
        self._half = max(1, kept_bytes // 2)
        self._first = bytearray()
        self._last = bytearray()
        self.total = 0

    def add(self, chunk: bytes) -> None:
        self.total += len(chunk)
        room = self._half - len(self._first)
        self._first += chunk[:room]
        self._last += chunk[room:] if room < len(chunk) else b""
        if len(self._last) > 2 * self._half + _CHUNK_BYTES:
            del self._last[: -self._half]

    def kept(self) -> tuple[bytes, int]:
        """Return what is kept, and how many bytes between its halves are not."""
        last = bytes(self._last[-self._half :])
        left_out = self.total - len(self._first) - len(last)
        between = f"\n[... {left_out} bytes left out ...]\n".encode() if left_out else b""
        return bytes(self._first) + between + last, left_out


class _Report(NamedTuple):
    """What a launcher told."""

    cause: str
    status: int | None
    failed: tuple[str, int] | None


class Control:
    """The descriptor whose end tells the launcher to end."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.is_flooded = False

    def end(self) -> bool:
        """Tell it, and return whether this was the first time; a second time does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        return fd >= 0


class Started:
    """A launcher that has its orders, and the three streams of its command.

    The streams are pipes, which some event loops would not have made: a socket cannot be opened as `/dev/stdout`.
    """

    def __init__(self, control: Control, status_read: int) -> None:
        self.control = control
        self.status_read = status_read
        self.process: asyncio.subprocess.Process
        self.stdin: asyncio.StreamWriter
        self.stdout: asyncio.StreamReader
        self.stderr: asyncio.StreamReader
        self._transports: list[asyncio.BaseTransport] = []

    async def connect(self, stdin: int, stdout: int, stderr: int) -> None:
        """Take over this process's ends of the pipes."""
        loop = asyncio.get_running_loop()
        self.stdout, self.stderr = [await self._readable(loop, one) for one in (stdout, stderr)]
        protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader())
        transport, _ = await loop.connect_write_pipe(lambda: protocol, os.fdopen(stdin, "wb", 0))
        self._transports.append(transport)
        self.stdin = asyncio.StreamWriter(transport, protocol, None, loop)

    async def _readable(self, loop: asyncio.AbstractEventLoop, end: int) -> asyncio.StreamReader:
        reader = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(end, "rb", 0)
        )
        self._transports.append(transport)
        return reader

    def disconnect(self) -> None:
        """Let go of the pipes."""
        for one in self._transports:
            one.close()

    async def end(self) -> None:
        """Tell the launcher to end, and wait until it has, which is the end of its command; by force if need be."""
        self.control.end()
        try:
            async with asyncio.timeout(COMMAND_END_MS / _MS_PER_S):
                await self.process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()


async def start(orders: Orders, *, keeps_errors: bool = True) -> Started:
    """Start a launcher; cancelled, it ends what it has started. Errors that are not kept are dropped by the system."""
    whole = encoded(orders)
    pipes = [os.pipe() for _ in range(5)]
    (stdin_read, stdin_write), (stdout_read, stdout_write), (stderr_read, stderr_write), control, status = pipes
    orders_fd = os.memfd_create("orders")
    started = Started(Control(control[1]), status[0])
    given = (orders_fd, control[0], status[1])
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    theirs = (stdin_read, stdout_write, stderr_write if keeps_errors else null)
    try:
        os.write(orders_fd, whole)
        os.lseek(orders_fd, 0, os.SEEK_SET)
        await _unbroken(started, _spawned(given, theirs))
    except BaseException:
        started.control.end()
        for one in (stdin_write, stdout_read, stderr_read, status[0]):
            os.close(one)
        raise
    finally:
        for one in (*given, stdin_read, stdout_write, stderr_write, null):
            os.close(one)
    try:
        await started.connect(stdin_write, stdout_read, stderr_read)
    except BaseException:
        await started.end()
        started.disconnect()
        os.close(started.status_read)
        raise
    return started


async def _spawned(given: tuple[int, int, int], streams: tuple[int, int, int]) -> asyncio.subprocess.Process:
    stdin, stdout, stderr = streams
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-c", _START, _SOURCES, *map(str, given)),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        pass_fds=given,
        env={},
        cwd="/",
        start_new_session=True,
    )


async def _unbroken(started: Started, spawning: Coroutine[None, None, asyncio.subprocess.Process]) -> None:
    """Let a start come to its end, and hear of a cancelling only afterwards.

    Broken off, it kills what it started; a launcher that is killed cannot end what it has started itself.
    """
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(spawning)
        try:
            started.process = await asyncio.shield(task)
        except asyncio.CancelledError:
            started.process = await task
            await started.end()
            raise


async def run(orders: Orders, limits: Limits, stdin: bytes = b"") -> Outcome:
    """Run one command to its end. Cancelling it ends the command and what it started.

    Raises:
        NotConfined: nothing was started, because a step of confining it failed.
    """
    loop = asyncio.get_running_loop()
    begun = loop.time()
    started = await start(orders)
    outputs = _Output(limits.kept_bytes), _Output(limits.kept_bytes)
    try:
        await _carry(started, outputs, stdin, limits)
    finally:
        await started.end()
        started.disconnect()
        report = _report(started.status_read)
    return _outcome(orders, report, outputs, started.control, round((loop.time() - begun) * _MS_PER_S))


async def _carry(started: Started, outputs: tuple[_Output, _Output], stdin: bytes, limits: Limits) -> None:
    """Feed the command and drain both outputs until all of them are closed."""
    control = started.control

    async def drain(stream: asyncio.StreamReader, output: _Output) -> None:
        while chunk := await stream.read(_CHUNK_BYTES):
            output.add(chunk)
            if sum(one.total for one in outputs) > limits.drained_bytes and not control.is_flooded:
                control.is_flooded = True
                control.end()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_feed(started.stdin, stdin))
        tasks.create_task(drain(started.stdout, outputs[0]))
        tasks.create_task(drain(started.stderr, outputs[1]))
        await started.process.wait()


async def _feed(stream: asyncio.StreamWriter, data: bytes) -> None:
    """Write all of the input, or as much as the command reads before it ends."""
    with suppress(BrokenPipeError, ConnectionResetError):
        stream.write(data)
        await stream.drain()
    stream.close()


def _report(status_read: int) -> _Report:
    """Read what the launcher told; it has ended, so all of it is there."""
    with os.fdopen(status_read, "rb") as pipe:
        lines = pipe.read(_MAX_STATUS_BYTES).decode("ascii", "replace").splitlines()
    told = dict(line.partition(" ")[::2] for line in lines)
    step, _, number = told.get("failed", "").partition(" ")
    failed = (step, int(number)) if number.isdigit() else None
    status = told.get("status", "")
    return _Report(told.get("cause", ""), int(status) if status.lstrip("-").isdigit() else None, failed)


def _outcome(
    orders: Orders, report: _Report, outputs: tuple[_Output, _Output], control: Control, duration_ms: int
) -> Outcome:
    if report.failed is not None:
        raise NotConfined(*report.failed)
    if report.status is None and not (report.cause or control.is_flooded):
        raise NotConfined("no_status")
    status = 9 if report.status is None or report.status < 0 else report.status
    (stdout, more_stdout), (stderr, more_stderr) = outputs[0].kept(), outputs[1].kept()
    return Outcome(
        exit_code=os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
        signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
        ended_by="output" if control.is_flooded else report.cause or "itself",
        stdout=stdout,
        stderr=stderr,
        left_out_bytes=(more_stdout, more_stderr),
        duration_ms=duration_ms,
        backend=orders.mode,
    )
