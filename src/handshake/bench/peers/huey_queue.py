"""Huey: no-op tasks on a SQLite file with fsync, results kept; run by an interpreter that has huey.

Huey makes a transaction each of enqueueing, taking, and storing the result; a task is complete when its result is
stored. It polls every millisecond.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sqlite3
import statistics
import threading
import time
from pathlib import Path

from huey import SqliteHuey
from huey.signals import SIGNAL_COMPLETE

WORKERS = 2
"""Threads that carry tasks out; more of them only wait for the file's lock."""
POLL_S = 0.001


def main() -> None:
    """Measure and print one JSON object."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--folder", type=Path, required=True)
    for name in ("--runs", "--in-flight", "--alone"):
        options.add_argument(name, type=int, required=True)
    given = options.parse_args()
    huey = SqliteHuey("bench", filename=str(given.folder / "huey.db"), fsync=True)
    started: dict[int, float] = {}
    complete = threading.Semaphore(given.in_flight)

    def noop(number: int) -> int:
        started[number] = time.perf_counter()
        return number

    task = huey.task()(noop)
    huey.signal(SIGNAL_COMPLETE)(lambda *told: complete.release())
    consumer = huey.create_consumer(
        workers=WORKERS, periodic=False, initial_delay=POLL_S, backoff=1.0, max_delay=POLL_S, check_worker_health=False
    )
    consumer.start()
    begun = time.perf_counter()
    for number in range(given.runs):
        complete.acquire()
        task(number)
    for _ in range(given.in_flight):
        complete.acquire()
    runs_per_s = given.runs / (time.perf_counter() - begun)
    to_start, to_durable = [], []
    for number in range(given.runs, given.runs + given.alone):
        begun = time.perf_counter()
        task(number)
        complete.acquire()
        to_durable.append(time.perf_counter() - begun)
        to_start.append(started[number] - begun)
    consumer.stop(graceful=True)
    told = {
        "peer": "huey",
        "version": importlib.metadata.version("huey"),
        "sqlite": sqlite3.sqlite_version,
        "runs_per_s": runs_per_s,
        "start_ms": 1_000 * statistics.median(to_start),
        "durable_ms": 1_000 * statistics.median(to_durable),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
