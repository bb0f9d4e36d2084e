"""Start bench: whole processes from start to end, and the memory that they hold."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from handshake.bench.figure import Figure, figure
from handshake.bench.workbench import Workbench
from handshake.bootstrap import init_workspace

_NOTHING = ("-c", "pass")
_IMPORT = ("-c", "import handshake")
_USE = ("-c", "from handshake import open_workspace")
_HELP = ("-m", "handshake", "--help")
_PEAK = "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
"""Tells the kernel's own count of the most memory that the process held, in KiB."""
_IMPORT_AND_TELL = ("-c", f"import handshake\n{_PEAK}")
_OPEN = """
import asyncio, handshake
async def look():
    async with handshake.open_workspace("."):
        pass
asyncio.run(look())
"""
_OPEN_AND_TELL = ("-c", _OPEN + _PEAK)
_KIB_PER_MIB = 1_024
_BYTES_PER_MB = 1_000_000


def measure(bench: Workbench) -> dict[str, Figure]:
    """Measure every figure of starting, the processes in turn."""
    plan = bench.plan
    bench.say("start: whole processes")
    timed: dict[tuple[str, ...], list[float]] = {_NOTHING: [], _IMPORT: [], _USE: [], _HELP: []}
    peaks: dict[tuple[str, ...], list[float]] = {_IMPORT_AND_TELL: [], _OPEN_AND_TELL: []}
    with bench.scratch() as folder:
        init_workspace(folder)
        for arguments in timed:  # the first of each reads files that the others find in memory
            _run(arguments, folder)
        for _ in range(plan.starts):
            for arguments, found in timed.items():
                begun = time.perf_counter()
                _run(arguments, folder)
                found.append(1_000 * (time.perf_counter() - begun))
        for _ in range(plan.rounds):
            for arguments, found in peaks.items():
                found.append(int(_run(arguments, folder)) / _KIB_PER_MIB)
        bench.say(f"start: {plan.idle_sessions} idle sessions")
        idle = [
            int(_run(("-m", "handshake.bench.idle", f"idle-{number}", str(plan.idle_sessions)), folder)) / _BYTES_PER_MB
            for number in range(plan.rounds)
        ]
    floors = timed[_NOTHING]
    return {
        "import_handshake": figure("import_handshake", timed[_IMPORT], floors=floors),
        "first_use": figure("first_use", timed[_USE], floors=floors),
        "handshake_help": figure("handshake_help", timed[_HELP], floors=floors),
        "memory_import": figure("memory_import", peaks[_IMPORT_AND_TELL]),
        "memory_open": figure("memory_open", peaks[_OPEN_AND_TELL]),
        "memory_idle_sessions": figure("memory_idle_sessions", idle),
    }


def _run(arguments: tuple[str, ...], folder: Path) -> str:
    """Run an interpreter of this environment to its end, and return what it printed."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, check=True, text=True).stdout
