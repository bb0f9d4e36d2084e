"""Machine: what figures depend on."""

from __future__ import annotations

import os
import platform
import statistics
import time
from pathlib import Path

from handshake.bench.figure import Machine, rounded
from handshake.bench.workbench import Workbench
from handshake.bootstrap import engine_version

_FLUSHES = 50


def machine(bench: Workbench) -> Machine:
    """Describe this machine without naming it."""
    with bench.scratch() as folder:
        flush_ms = _flush_ms(folder)
    return Machine(
        cores=os.cpu_count() or 0,
        architecture=platform.machine(),
        system=platform.system(),
        python=platform.python_version(),
        sqlite=engine_version(),
        flush_ms=rounded(flush_ms),
    )


def _flush_ms(folder: Path) -> float:
    """Return the median time of a small durable write, which is the floor of every commit."""
    took = []
    descriptor = os.open(folder / "flush", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for _ in range(_FLUSHES):
            begun = time.perf_counter()
            os.write(descriptor, bytes(4_096))
            os.fdatasync(descriptor)
            took.append(1_000 * (time.perf_counter() - begun))
    finally:
        os.close(descriptor)
    return statistics.median(took)
