"""Running: starts a launcher with its orders, feeds and drains the command, and ends both when told.

Source:
    gate.sandbox.confines (02 §7).
"""

from __future__ import annotations

import asyncio
import os
import sys
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


class Started(NamedTuple):
    """A launcher that has its orders."""

    process: asyncio.subprocess.Process
    control: Control
    status_read: int


async def start(orders: Orders, *, keeps_errors: bool = True) -> Started:
    """Start a launcher; its streams are those of the command."""
    whole = encoded(orders)
    orders_fd = os.memfd_create("orders")
    control_read, control_write = os.pipe()
    status_read, status_write = os.pipe()
    given = (orders_fd, control_read, status_write)
    control = Control(control_write)
    try:
        os.write(orders_fd, whole)
        os.lseek(orders_fd, 0, os.SEEK_SET)
        process = await _spawned(given, control, keeps_errors=keeps_errors)
    except BaseException:
        control.end()
        os.close(status_read)
        raise
    finally:
        for one in given:
            os.close(one)
    return Started(process, control, status_read)


async def _spawned(given: tuple[int, int, int], control: Control, *, keeps_errors: bool) -> asyncio.subprocess.Process:
    """Start the launcher's process, and hear of a cancelling only afterwards.

    Broken off, a start kills what it started; a launcher that is killed cannot end what it has started itself.
    """
    async with asyncio.TaskGroup() as tasks:
        spawning = tasks.create_task(
            asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-c", _START, _SOURCES, *map(str, given)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE if keeps_errors else asyncio.subprocess.DEVNULL,
                pass_fds=given,
                env={},
                cwd="/",
                start_new_session=True,
            )
        )
        try:
            return await asyncio.shield(spawning)
        except asyncio.CancelledError:
            process = await spawning
            control.end()
            await gone(process)
            raise


async def run(orders: Orders, limits: Limits, stdin: bytes = b"") -> Outcome:
    """Run one command to its end. Cancelling it ends the command and what it started.

    Raises:
        NotConfined: nothing was started, because a step of confining it failed.
    """
    loop = asyncio.get_running_loop()
    begun = loop.time()
    process, control, status_read = await start(orders)
    outputs = _Output(limits.kept_bytes), _Output(limits.kept_bytes)
    try:
        await _carry(process, outputs, stdin, limits, control)
    finally:
        control.end()
        await gone(process)
        report = _report(status_read)
    return _outcome(orders, report, outputs, control, round((loop.time() - begun) * _MS_PER_S))


async def _carry(
    process: asyncio.subprocess.Process,
    outputs: tuple[_Output, _Output],
    stdin: bytes,
    limits: Limits,
    control: Control,
) -> None:
    """Feed the command and drain both outputs until all of them are closed."""
    assert process.stdout is not None
    assert process.stderr is not None

    async def drain(stream: asyncio.StreamReader, output: _Output) -> None:
        while chunk := await stream.read(_CHUNK_BYTES):
            output.add(chunk)
            if sum(one.total for one in outputs) > limits.drained_bytes and not control.is_flooded:
                control.is_flooded = True
                control.end()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_feed(process, stdin))
        tasks.create_task(drain(process.stdout, outputs[0]))
        tasks.create_task(drain(process.stderr, outputs[1]))
        await process.wait()


async def _feed(process: asyncio.subprocess.Process, stdin: bytes) -> None:
    """Write all of the input, or as much as the command reads before it ends."""
    assert process.stdin is not None
    with suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(stdin)
        await process.stdin.drain()
    process.stdin.close()


async def gone(process: asyncio.subprocess.Process) -> None:
    """Wait for the end of the launcher, which is the end of its command; by force if it does not come."""
    waiting = asyncio.timeout(COMMAND_END_MS / _MS_PER_S)
    try:
        async with waiting:
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


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
