"""Idle: a program that tells how much memory open sessions hold between two turns; run as a process of its own."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

from handshake.bench.load import opened
from handshake.bench.plan import IN_FLIGHT
from handshake.bench.workbench import run

_BYTES_PER_KIB = 1_024


async def idle_bytes(root: Path, count: int) -> int:
    """Return by how much this process grows while it makes `count` sessions and each of them has a run.

    It includes whatever the runtime loads and keeps for its first session and its first run.
    """
    async with opened(root, slots=IN_FLIGHT) as load:
        before = _resident_bytes()
        owners = await load.make_sessions(count)
        await load.run_all(owners, count=count, in_flight=min(count, IN_FLIGHT))
        load.started_ns.clear()
        owners.clear()
        return _resident_bytes() - before


def _resident_bytes() -> int:
    gc.collect()
    with open("/proc/self/status", encoding="ascii") as lines:
        return _BYTES_PER_KIB * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


if __name__ == "__main__":
    sys.stdout.write(f"{run(idle_bytes(Path(sys.argv[1]), int(sys.argv[2])))}\n")
