"""Sandbox bench: what starting a command in the sandbox takes over starting it bare."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from handshake.bench.figure import Figure, figure
from handshake.bench.workbench import Workbench, run
from handshake.tools.sandbox.policy import Limits, Policy
from handshake.tools.sandbox.sandbox import Sandbox

_NOTHING = "/bin/true"
_TIMEOUT_MS = 10_000
_MS_PER_S = 1_000


def measure(bench: Workbench) -> dict[str, Figure]:
    """Measure every figure of the sandbox; there is none where no backend passes its self-test."""
    bench.say("gate: commands in the sandbox")
    with bench.scratch() as folder:
        return run(_measured(folder, bench.plan.starts))


async def _measured(folder: Path, starts: int) -> dict[str, Figure]:
    sandbox = Sandbox()
    if not await sandbox.can_confine():
        return {}
    policy = Policy(
        argv=(_NOTHING,),
        root=str(folder),
        cwd=str(folder),
        environment=(("PATH", "/usr/bin:/bin"),),
        write=(str(folder),),
        limits=Limits(timeout_ms=_TIMEOUT_MS),
    )
    await sandbox.run(policy)  # the first one reads files that the others find in memory
    over: list[float] = []
    for _ in range(starts):
        begun = time.perf_counter()
        await _bare()
        between = time.perf_counter()
        await sandbox.run(policy)
        over.append(_MS_PER_S * (time.perf_counter() - between - (between - begun)))
    return {"sandbox_start": figure("sandbox_start", over)}


async def _bare() -> None:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(_NOTHING, stdin=pipe, stdout=pipe, stderr=pipe)
    await process.communicate()
