"""Lifecycle: whole runs, from enqueue to durable outcome, many at once and one at a time."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Any

import msgspec

from handshake.bench.load import Load, opened
from handshake.bench.plan import Plan
from handshake.storage.schema import open_reader
from handshake.storage.sqlite_store import SqliteStore
from handshake.storage.workspace_folder import WorkspaceFolder

_EVIDENCE = """
SELECT min(events), min(commits), count(*) FROM (
  SELECT count(*) AS events, count(DISTINCT at_us) AS commits FROM event
  WHERE seq > ? AND job_id IN (SELECT job_id FROM job WHERE provider_id = 'quick' AND ended_at_us IS NOT NULL)
  GROUP BY job_id
)
"""
"""All events of a commit carry its moment."""


class Throughput(msgspec.Struct, frozen=True):
    """What a loaded runtime did, as its own log tells it."""

    runs_per_s: float
    events_per_run: int
    commits_per_run: int
    runs_per_commit: float


class Alone(msgspec.Struct, frozen=True):
    """How long single runs took, in milliseconds."""

    to_start: list[float]
    to_durable: list[float]


async def throughput(root: Path, plan: Plan, *, through_gate: bool = False, limited: bool = False) -> Throughput:
    """Measure runs with `plan.in_flight` clients, in a workspace that may have a long queue."""
    async with opened(root, slots=plan.in_flight, through_gate=through_gate, limited=limited) as load:
        owners = await load.make_sessions(max(plan.in_flight, plan.runs // 10))
        before = _log_size(load)
        batches = _commits(load)
        gc.collect()
        runs_per_s = await load.run_all(owners, count=plan.runs, in_flight=plan.in_flight)
        commits = _commits(load) - batches
    events, distinct, runs = _evidence(root, before)
    return Throughput(runs_per_s, events, distinct, distinct * runs / max(1, commits))


async def alone(root: Path, plan: Plan) -> Alone:
    """Measure runs one at a time."""
    to_start, to_durable = [], []
    async with opened(root, slots=plan.in_flight) as load:
        owners = await load.make_sessions(plan.alone)
        gc.collect()
        for owner in owners:
            begun = time.perf_counter_ns()
            job_id = await load.run_once(owner)
            ended = time.perf_counter_ns()
            to_start.append((load.started_ns[job_id] - begun) / 1e6)
            to_durable.append((ended - begun) / 1e6)
    return Alone(to_start, to_durable)


def _commits(load: Load) -> int:
    store = load.runtime.store
    assert isinstance(store, SqliteStore), "bootstrap opened it"
    return store.batches


def _log_size(load: Load) -> int:
    row: Any = load.runtime.store.read_now(lambda reader: reader.row("log_state"))
    return int(row[0])


def _evidence(root: Path, after: int) -> tuple[int, int, int]:
    """Return the fewest events and commits of any run whose events follow `after`, and how many runs these are."""
    db = open_reader(WorkspaceFolder(root).database)
    try:
        row: Any = db.execute(_EVIDENCE, (after,)).fetchone()
    finally:
        db.close()
    return int(row[0]), int(row[1]), int(row[2])
