"""DBOS: no-op workflows on a queue, its system database in SQLite; run by an interpreter that has dbos.

Everything is as DBOS ships it, but for three things in its favour: its file has a write-ahead log, it polls every
millisecond instead of every second, and with many in flight the next is enqueued when a workflow's body ends, before
its outcome is stored. The time ends when the last outcome is.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import sqlite3
import statistics
import threading
import time
from pathlib import Path

from dbos import DBOS

POLL_S = 0.001
QUEUE = "bench"


def main() -> None:
    """Measure and print one JSON object."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--folder", type=Path, required=True)
    for name in ("--runs", "--in-flight", "--alone"):
        options.add_argument(name, type=int, required=True)
    given = options.parse_args()
    database = given.folder / "dbos.db"
    sqlite3.connect(database).execute("PRAGMA journal_mode=WAL")
    DBOS(config={"name": "bench", "system_database_url": f"sqlite:///{database}", "log_level": "ERROR"})
    started: dict[int, float] = {}
    free = threading.Semaphore(given.in_flight)

    def noop(number: int) -> int:
        started[number] = time.perf_counter()
        free.release()
        return number

    workflow = DBOS.workflow()(noop)
    DBOS.launch()
    DBOS.register_queue(QUEUE, worker_concurrency=given.in_flight, polling_interval_sec=POLL_S)
    begun = time.perf_counter()
    for number in range(given.runs):
        free.acquire()
        DBOS.enqueue_workflow(QUEUE, workflow, number)
    while DBOS.list_workflows(status=["ENQUEUED", "PENDING"], limit=1):
        time.sleep(POLL_S)
    runs_per_s = given.runs / (time.perf_counter() - begun)
    to_start, to_durable = [], []
    for number in range(given.runs, given.runs + given.alone):
        begun = time.perf_counter()
        DBOS.enqueue_workflow(QUEUE, workflow, number).get_result(polling_interval_sec=POLL_S)
        to_durable.append(time.perf_counter() - begun)
        to_start.append(started[number] - begun)
    told = {
        "peer": "dbos",
        "version": importlib.metadata.version("dbos"),
        "sqlite": sqlite3.sqlite_version,
        "runs_per_s": runs_per_s,
        "start_ms": 1_000 * statistics.median(to_start),
        "durable_ms": 1_000 * statistics.median(to_durable),
    }
    print(json.dumps(told), flush=True)
    os._exit(0)  # its threads need seconds to stop, and nothing is left to store


if __name__ == "__main__":
    main()
