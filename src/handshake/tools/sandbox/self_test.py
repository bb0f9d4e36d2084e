"""Self-test: runs a program in a sandbox that tries to get out, and says what it got; nothing is what it should get.

A backend whose program got anything is not used (02 §7), nor is one in which it could not do what it must be able to.

Source:
    gate.sandbox.confines, gate.sandbox.fail_closed (02 §7).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import NamedTuple

from handshake.tools.sandbox.policy import Limits, NotConfined, Outcome, Policy

_PROBE = Path(__file__).with_name("probe.py")
_TIME_LIMIT_MS = 10_000
_VICTIM = "import sys; sys.stdin.read()"
_RAN = "ran"


class Finding(NamedTuple):
    """What a self-test found: why the backend could not start, or what its program got that it must not get."""

    missing: str
    breaches: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        """Whether the backend may be used."""
        return not self.missing and not self.breaches


async def self_test(run: Callable[[Policy], Awaitable[Outcome]], places: tuple[str, ...]) -> Finding:
    """Test one backend.

    Args:
        run: runs a policy in it.
        places: what the interpreter of the probe needs to be read.
    """
    folder = os.path.realpath(tempfile.mkdtemp(prefix="handshake-self-test-"))
    try:
        async with AsyncExitStack() as stack:
            words = _prepare(folder, stack.enter_context(ExitStack()))
            victim = await _victim()
            stack.push_async_callback(_end, victim)
            argv = (os.path.realpath(sys.executable), "-I", "-S", "-c", _PROBE.read_text("utf-8"))
            policy = Policy(
                argv=(*argv, *words, str(victim.pid)),
                root=f"{folder}/root",
                cwd=f"{folder}/root",
                environment=(("PATH", "/usr/bin:/bin"),),
                write=(f"{folder}/root/open",),
                read=places,
                limits=Limits(timeout_ms=_TIME_LIMIT_MS),
            )
            outcome = await run(policy)
            breaches = [*outcome.stdout.decode("ascii", "replace").split(), *_seen(folder, victim)]
    except NotConfined as missing:
        return Finding(f"{missing.step}_{missing.number}", ())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if _RAN not in breaches:
        breaches.append("cannot_work")
    return Finding("", tuple(one for one in breaches if one != _RAN))


def _prepare(folder: str, stack: ExitStack) -> tuple[str, ...]:
    """Make what the probe attacks, and return the words that tell it where."""
    for place in ("outside", "root", "root/open", "root/closed", "root/.handshake"):
        os.mkdir(f"{folder}/{place}", 0o700)
    for place in ("outside/secret", "root/closed/file", "root/.handshake/secret", "root/open/lock", "root/open/file"):
        Path(folder, place).write_text("secret", "ascii")
    abstract = f"handshake-self-test-{os.path.basename(folder)}"
    # Beside the files, not below what a command may see: the address of a socket may be some hundred bytes long.
    unix = f"{folder}/root/open/socket"
    listening = (
        (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
        (socket.AF_UNIX, socket.SOCK_STREAM, unix),
        (socket.AF_UNIX, socket.SOCK_DGRAM, f"{unix}-datagrams"),
        (socket.AF_UNIX, socket.SOCK_STREAM, "\0" + abstract),
    )
    port = 0
    for family, kind, address in listening:
        one = stack.enter_context(socket.socket(family, kind))
        one.bind(address)
        if kind == socket.SOCK_STREAM:
            one.listen()
        if family == socket.AF_INET:
            port = one.getsockname()[1]
    return (f"{folder}/root", f"{folder}/outside", unix, abstract, str(port))


async def _victim() -> asyncio.subprocess.Process:
    """Start a process of this user with something in its environment, to be attacked."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        "-c",
        _VICTIM,
        stdin=asyncio.subprocess.PIPE,
        env={"SECRET": "secret"},
        start_new_session=True,
    )


async def _end(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    await process.wait()


def _seen(folder: str, victim: asyncio.subprocess.Process) -> list[str]:
    """Return what the attack did that only shows from outside."""
    found = []
    with open(f"{folder}/root/open/lock", "rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found.append("survives")
    if victim.returncode is not None or not _is_alive(victim.pid):
        found.append("kills")
    if Path(folder, "outside/secret").read_text("ascii") != "secret":
        found.append("changes_outside")
    return found


def _is_alive(pid: int) -> bool:
    """Return whether a child of this process runs; a killed one is waited for by whoever started it."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")
