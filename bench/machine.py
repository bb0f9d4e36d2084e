"""Machine: what figures depend on, and the folder they are measured in."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from bench.figure import Machine, rounded
from handshake.bootstrap import engine_version, new_event_loop

T = TypeVar("T")

RESULTS = Path(__file__).resolve().parent / "results"
"""Where results and measured workspaces lie: on the project's disk, as a folder for temporary files may be memory."""
_FLUSHES = 50


def run(work: Coroutine[Any, Any, T]) -> T:
    """Carry work out on the event loop that the product runs on."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work)


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder to measure in, and remove it."""
    RESULTS.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="work-", dir=RESULTS))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def machine() -> Machine:
    """Describe this machine without naming it."""
    return Machine(
        cores=os.cpu_count() or 0,
        architecture=platform.machine(),
        system=platform.system(),
        python=platform.python_version(),
        sqlite=engine_version(),
        flush_ms=rounded(_flush_ms()),
    )


def _flush_ms() -> float:
    """Return the median time of a small durable write, which is the floor of every commit."""
    took = []
    with scratch() as folder:
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
