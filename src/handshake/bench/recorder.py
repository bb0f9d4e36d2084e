"""Recorder bench: events made durable in batches, and logs verified, against the bare work of disk and hash."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import time
from functools import partial
from pathlib import Path
from typing import Any

from handshake.bench import floor
from handshake.bench.figure import Figure, figure
from handshake.bench.load import HELD, MODEL, Load, opened
from handshake.bench.plan import Plan
from handshake.bench.workbench import Workbench, run
from handshake.bootstrap import verify_log
from handshake.kernel.catalogue import LlmInference, SchedulerDispatch, SchedulerEnqueue, TokenFigures
from handshake.kernel.event import Context
from handshake.kernel.ids import SessionId
from handshake.kernel.lane import Lane
from handshake.kernel.session import SessionState
from handshake.kernel.settings import LOG_PAGE_EVENTS
from handshake.ports.store import Tx
from handshake.storage.queries import load as queries
from handshake.storage.schema import open_reader
from handshake.storage.workspace_folder import WorkspaceFolder

EVENTS_PER_UNIT = 8
_HASH = hashlib.sha256(b"bench").hexdigest()


def measure(bench: Workbench) -> dict[str, Figure]:
    """Measure every figure of the recorder, each round in turn with its floor."""
    plan = bench.plan
    with bench.scratch() as folder:
        bench.say("recorder: events made durable")
        ingested, ingest_floors = run(_ingest(folder, plan))
        bench.say(f"recorder: a log of {plan.verified_events} events verified")
        root = folder / "log"
        size = run(_write_log(root, plan))
        verified, deep, read_floors = [], [], []
        for _ in range(plan.rounds):
            read_floors.append(size / _read_and_hash(root))
            verified.append(size / _verify(root, deep=False))
            deep.append(size / _verify(root, deep=True))
    return {
        "events_durable": figure("events_durable", ingested, floors=ingest_floors),
        "verify": figure("verify", verified, floors=read_floors),
        "verify_deep": figure("verify_deep", deep, floors=read_floors),
    }


async def _ingest(folder: Path, plan: Plan) -> tuple[list[float], list[float]]:
    recording = await floor.record(
        folder / "recorded",
        plan,
        lambda load: load.make_sessions(plan.in_flight, HELD),
        lambda load, owners: append(load, owners, plan.events),
    )
    ingested, floors = [], []
    for number in range(plan.rounds):
        async with opened(folder / f"round-{number}", slots=plan.in_flight) as load:
            owners = await load.make_sessions(plan.in_flight, HELD)
            gc.collect()
            begun = time.perf_counter()
            count = await append(load, owners, plan.events)
            ingested.append(count / (time.perf_counter() - begun))
        floors.append(floor.play(recording, folder / f"floor-{number}.db"))
    return ingested, floors


async def _write_log(root: Path, plan: Plan) -> int:
    async with opened(root, slots=plan.in_flight) as load:
        owners = await load.make_sessions(plan.in_flight, HELD)
        await append(load, owners, plan.verified_events)
        await load.runtime.store.write(lambda tx: tx.sign_checkpoint())
        row: Any = load.runtime.store.read_now(lambda reader: reader.row("log_state"))
        return int(row[0])


async def append(load: Load, owners: list[SessionId], count: int) -> int:
    """Append at least `count` events, one unit per session to a commit; return how many."""
    store, new_id = load.runtime.store, load.runtime.new_id
    each = -(-count // (len(owners) * EVENTS_PER_UNIT))

    def unit(session_id: SessionId, tx: Tx) -> None:
        for number in range(EVENTS_PER_UNIT):
            _append_one(tx, session_id, new_id(), number)

    units = [partial(unit, owner) for owner in owners]
    for _ in range(each):
        await asyncio.gather(*(store.write(one) for one in units))
    return each * len(owners) * EVENTS_PER_UNIT


def _append_one(tx: Tx, session_id: SessionId, job_id: str, number: int) -> None:
    """Append one of the three events of a run that tell most."""
    context = Context(job_id=job_id, model_id=MODEL, model_session_id=session_id, trace_id=job_id)
    if number % 3 == 0:
        tx.append(
            SchedulerEnqueue(
                concurrency_group=None, job_id=job_id, lane=Lane.PRIMARY, priority=50, session_id=session_id
            ),
            context,
        )
    elif number % 3 == 1:
        tx.append(
            SchedulerDispatch(
                attempt=1,
                job_id=job_id,
                lane=Lane.PRIMARY,
                queue_wait_ms=0,
                session_id=session_id,
                session_state_after=SessionState.ACTIVE,
            ),
            context,
        )
    else:
        tx.append(
            LlmInference(
                attempt=1,
                finish_reason="stop",
                latency_ms=1,
                model_id=MODEL,
                prompt_hash=_HASH,
                response_hash=_HASH,
                session_state_after=SessionState.CREATED,
                time_to_first_token_ms=1,
                token_usage=TokenFigures(completion_tokens=1, prompt_tokens=1, total_tokens=2),
                trace_id=job_id,
            ),
            context,
        )


def _verify(root: Path, *, deep: bool) -> float:
    gc.collect()
    begun = time.perf_counter()
    verdict = verify_log(WorkspaceFolder(root), deep=deep)
    took = time.perf_counter() - begun
    if not verdict.sound:
        raise RuntimeError(f"the measured log is not sound: {verdict.broken}")
    return took


def _read_and_hash(root: Path) -> float:
    """Return the seconds that reading every event, page by page, and hashing its bytes take."""
    db = open_reader(WorkspaceFolder(root).database)
    text = queries()["event_stretch"]
    try:
        begun = time.perf_counter()
        after, rows = 0, True
        while rows:
            bounds = {"after": after, "through": after + LOG_PAGE_EVENTS, "limit": LOG_PAGE_EVENTS}
            page: list[Any] = db.execute(text, bounds).fetchall()
            for row in page:
                hashlib.sha256(b"\x00" + row[6]).digest()
            after, rows = after + LOG_PAGE_EVENTS, bool(page)
        return time.perf_counter() - begun
    finally:
        db.close()
