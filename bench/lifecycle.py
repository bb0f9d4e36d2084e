"""Lifecycle: durable no-op runs, enqueue → dispatch → complete, through the real operations, scheduler and store.

The provider call is left out and nothing else: every run commits twice, with its message, its answer, their
artifacts, its job row, and five validated, chained events, under synchronous=FULL.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from handshake.bootstrap import Runtime, assemble, close_runtime, configure, init_workspace, open_runtime
from handshake.kernel.event import Actor
from handshake.kernel.ids import JobId, MessageId, ModelId, ProviderId, SessionId, TurnId
from handshake.kernel.job import Backend
from handshake.kernel.lane import Lane
from handshake.kernel.message import SourceKind
from handshake.kernel.retry import Backoff
from handshake.kernel.session import MemoryPolicy
from handshake.kernel.units import Microseconds
from handshake.kernel.usage import TokenUsage
from handshake.operations import outcomes, runs, sessions
from handshake.operations.turns import Attempt
from handshake.storage.workspace_folder import WorkspaceFolder

CONFIG = """
[providers.noop]
dialects = ["openai_chat"]
base_url = "http://127.0.0.1:1/v1"
max_concurrent = 4096
[providers.full]
dialects = ["openai_chat"]
base_url = "http://127.0.0.1:2/v1"
max_concurrent = 1
[scheduler]
max_concurrent_runs = 4096
[scheduler.max_concurrent_per_model]
local = 4096
"""
REQUEST_HASH = hashlib.sha256(b"bench").hexdigest()
_TEXT = "text/plain; charset=utf-8"
assert assemble, "the bench runs what bootstrap joins"


class Figure(msgspec.Struct, frozen=True):
    """One measured value; `floor` and peers are in the same unit, from the same run of the bench."""

    value: float
    unit: str
    floor: float | None = None
    ratio_to_floor: float | None = None
    peers: dict[str, float] | None = None
    note: str | None = None


class Bench:
    """One open workspace whose runs answer `ok` at once."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.sessions: list[SessionId] = []
        self.started_us: dict[JobId, int] = {}
        self._done: dict[JobId, asyncio.Future[None]] = {}

    async def noop(self, attempt: Attempt) -> None:
        """Answer at once: the body of a run that calls nobody."""
        runtime, ticket = self.runtime, attempt.ticket
        if ticket.provider_id == "full":
            await asyncio.get_running_loop().create_future()
        self.started_us[ticket.job_id] = time.perf_counter_ns() // 1_000
        answer = outcomes.Answer(
            message_id=MessageId(runtime.new_id()),
            content=await runtime.store.prepare(b"ok", _TEXT),
            prompt_hash=REQUEST_HASH,
            finish_reason="stop",
            usage=TokenUsage(1, 1, 2),
            timing=outcomes.Timing(1, 1),
        )
        await runtime.store.write(
            lambda tx: outcomes.finish(tx, runtime.queue, ticket, answer, epoch=runtime.dispatcher.epoch), outcome=True
        )
        done = self._done.pop(ticket.job_id, None)
        if done is not None:
            done.set_result(None)

    async def make_sessions(self, count: int, provider: str = "noop") -> list[SessionId]:
        """Create sessions, many to a commit."""
        runtime = self.runtime
        made: list[SessionId] = []
        for start in range(0, count, 512):
            news = [
                sessions.NewSession(
                    session_id=SessionId(runtime.new_id()),
                    model_id=ModelId("model"),
                    provider_id=ProviderId(provider),
                    backend=Backend.LOCAL,
                    role="coder",
                    memory_policy=MemoryPolicy.EPHEMERAL,
                )
                for _ in range(min(512, count - start))
            ]
            await asyncio.gather(
                *(runtime.store.write(lambda tx, new=new: sessions.create(tx, new, max_open=10**9)) for new in news)
            )
            made += [new.session_id for new in news]
        return made

    async def accept(self, session_id: SessionId, lane: Lane | None = None, priority: int = 50) -> JobId:
        """Accept one turn, durably."""
        runtime = self.runtime
        turn = runs.Turn(
            session_id=session_id,
            turn_id=TurnId(runtime.new_id()),
            message_id=MessageId(runtime.new_id()),
            job_id=JobId(runtime.new_id()),
            trace_id=runtime.new_id(),
            content=await runtime.store.prepare(b"hello", _TEXT),
            actor=Actor.HUMAN,
            source_kind=SourceKind.OPERATOR,
            trusted=True,
            priority=priority,
            lane=lane,
            max_retries=3,
            retry_backoff=Backoff.EXPONENTIAL,
            timeout_ms=120_000,
            max_output_tokens=None,
            idempotency_key=None,
            request_sha256=REQUEST_HASH,
        )
        self._done[turn.job_id] = asyncio.get_running_loop().create_future()
        await runtime.store.write(lambda tx: runs.accept(tx, runtime.queue, turn, runtime.known_models))
        return turn.job_id

    async def run_once(self, session_id: SessionId) -> JobId:
        """Accept one turn and wait until its outcome is durable."""
        job_id = await self.accept(session_id)
        done = self._done.get(job_id)
        if done is not None:
            await done
        return job_id

    async def flood(self, count: int) -> None:
        """Queue runs that cannot start, because their provider's only slot is taken."""
        for batch in range(0, count, 2048):
            owners = await self.make_sessions(min(2048, count - batch), "full")
            await asyncio.gather(*(self.accept(owner, Lane.BACKGROUND, 100) for owner in owners))


@asynccontextmanager
async def opened(folder: Path | None = None) -> AsyncIterator[Bench]:
    """Open a workspace of its own for a measurement, and remove it."""
    root = Path(tempfile.mkdtemp(prefix="handshake-bench-", dir=folder))
    try:
        place = init_workspace(root)
        place.config.write_text(CONFIG, encoding="utf-8")
        runtime = await open_runtime(WorkspaceFolder(root), configure(root), models={}, dispatch=False)
        bench = Bench(runtime)
        await runtime.dispatcher.open(runtime.store, bench.noop)
        try:
            yield bench
        finally:
            runtime.turns.stopping = True
            await close_runtime(runtime, drain_us=Microseconds(0))
    finally:
        shutil.rmtree(root)


class Throughput(msgspec.Struct, frozen=True):
    """What a loaded runtime did."""

    runs_per_s: float
    events_per_run: float
    commits_per_run: float
    batches: int


async def throughput(*, in_flight: int, count: int, queued: int = 0) -> Throughput:
    """Measure runs per second with `in_flight` clients, each waiting for its run's durable outcome."""
    async with opened() as bench:
        owners = await bench.make_sessions(max(in_flight, count // 10))
        await bench.flood(queued)
        store = bench.runtime.store
        before = bench_counts(bench)
        each = count // in_flight

        async def client(number: int) -> None:
            for step in range(each):
                await bench.run_once(owners[(step * in_flight + number) % len(owners)])

        started = time.perf_counter()
        await asyncio.gather(*(client(number) for number in range(in_flight)))
        took = time.perf_counter() - started
        after = bench_counts(bench)
        total = each * in_flight
        assert store is bench.runtime.store, "one store"
        return Throughput(total / took, (after[0] - before[0]) / total, 2.0, after[1] - before[1])


async def latency(count: int = 400) -> tuple[list[float], list[float]]:
    """Measure one run at a time: milliseconds from enqueue to start and to durable completion."""
    to_start, to_end = [], []
    async with opened() as bench:
        owners = await bench.make_sessions(count)
        for owner in owners:
            begin = time.perf_counter_ns() // 1_000
            job_id = await bench.run_once(owner)
            end = time.perf_counter_ns() // 1_000
            to_start.append((bench.started_us[job_id] - begin) / 1_000)
            to_end.append((end - begin) / 1_000)
    return to_start, to_end


def bench_counts(bench: Bench) -> tuple[int, int]:
    """Return events and batches so far."""

    def look(reader: object) -> int:
        row = reader.row("log_state")  # type: ignore[attr-defined]
        return int(row[0])

    store = bench.runtime.store
    return store.read_now(look), store.batches


def p50(values: list[float]) -> float:
    """Return the median."""
    return statistics.median(values)
