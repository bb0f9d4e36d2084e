"""Load: a workspace whose runs answer at once, or wait in their slots until they are let go."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from handshake.bootstrap import Runtime, close_runtime, init_workspace, open_runtime
from handshake.kernel.budget import BudgetType
from handshake.kernel.configuration import Configuration
from handshake.kernel.event import Actor
from handshake.kernel.ids import JobId, MessageId, ModelId, ProviderId, SessionId, TurnId
from handshake.kernel.job import Backend
from handshake.kernel.lane import Lane
from handshake.kernel.message import SourceKind
from handshake.kernel.retry import Backoff
from handshake.kernel.session import MemoryPolicy
from handshake.kernel.settings import (
    MAX_BUDGET_COUNT,
    MAX_BUDGET_USD_MICRO,
    MAX_SLOTS,
    Dialect,
    ModelSettings,
    ModelSlots,
    ProviderSettings,
    ProviderSlots,
    SchedulerSettings,
    Settings,
    WorkspaceBudgets,
)
from handshake.kernel.units import Microseconds
from handshake.kernel.usage import TokenUsage
from handshake.operations import outcomes, runs, sessions
from handshake.operations.attempt import Attempt
from handshake.storage.workspace_folder import WorkspaceFolder
from handshake.testing.scripted_model import ScriptedModel

QUICK = ProviderId("quick")
"""Its runs answer at once."""
HELD = ProviderId("held")
"""Its runs wait for `Load.let_go`; it has as many slots as there are clients."""
MODEL = ModelId("model")
GATHER = 1_024
"""Units handed to the store at once while a workspace is being filled."""
_TEXT = "text/plain; charset=utf-8"
_RATES = {
    "requests_per_minute": 1_000_000,
    "tokens_per_minute": 1_000_000_000,
    "models": {MODEL: ModelSettings(max_output_tokens=256, input_usd_micro_per_million=500_000)},
}
"""The greatest rates there are, and a price."""
_SESSION_BUDGET = {BudgetType.TOKENS: MAX_BUDGET_COUNT, BudgetType.USD_MICRO: MAX_BUDGET_USD_MICRO}
_REQUEST_SHA256 = hashlib.sha256(b"bench").hexdigest()


def settings(held_slots: int, *, limited: bool = False) -> Settings:
    """Return settings under which nothing but the runtime itself holds the quick runs up.

    Args:
        held_slots: runs that the provider `HELD` takes at a time.
        limited: whether rates, prices and budgets are set; they are asked for each run, and never in its way.
    """
    quick = ProviderSettings(dialects=(Dialect.OPENAI_CHAT,), base_url="http://127.0.0.1:1/v1")
    return Settings(
        providers={
            QUICK: msgspec.structs.replace(quick, **_RATES) if limited else quick,
            HELD: ProviderSettings(
                dialects=(Dialect.OPENAI_CHAT,), base_url="http://127.0.0.1:2/v1", max_concurrent=held_slots
            ),
        },
        scheduler=SchedulerSettings(
            max_concurrent_runs=MAX_SLOTS,
            max_concurrent_per_provider=ProviderSlots(local=MAX_SLOTS),
            max_concurrent_per_model=ModelSlots(local=MAX_SLOTS),
        ),
        budgets=WorkspaceBudgets(tokens=MAX_BUDGET_COUNT, usd_micro=MAX_BUDGET_USD_MICRO)
        if limited
        else WorkspaceBudgets(),
    )


class Load:
    """One open workspace and the clients that work it."""

    def __init__(self, runtime: Runtime, *, limited: bool = False) -> None:
        self.runtime = runtime
        self._budget = _SESSION_BUDGET if limited else {}
        self.began = asyncio.Event()
        """Set when the first run starts."""
        self.started_ns: dict[JobId, int] = {}
        self._done: dict[JobId, asyncio.Future[SessionId]] = {}
        self._permits = asyncio.Semaphore(0)
        self._gone: asyncio.Queue[SessionId] = asyncio.Queue()

    # -- runs -------------------------------------------------------------------------------------------------

    async def perform(self, attempt: Attempt) -> None:
        """Answer at once and record it: the body of a run that calls nobody."""
        self.began.set()
        ticket = attempt.ticket
        if ticket.provider_id == HELD and not await self._let_through(attempt):
            return
        self.started_ns[ticket.job_id] = time.perf_counter_ns()
        runtime = self.runtime
        answer = outcomes.Answer(
            message_id=MessageId(runtime.new_id()),
            content=await runtime.store.prepare(b"ok", _TEXT),
            prompt_hash=_REQUEST_SHA256,
            finish_reason="stop",
            usage=TokenUsage(1, 1, 2),
            timing=outcomes.Timing(1, 1),
        )
        epoch = runtime.dispatcher.epoch
        await runtime.store.write(
            lambda tx: outcomes.finish(tx, runtime.queue, ticket, answer, epoch=epoch), outcome=True
        )
        self._tell(attempt)

    async def perform_through_gate(self, attempt: Attempt) -> None:
        """Carry the run out as the product does, with the adapter that the workspace was opened with."""
        await self.runtime.turns.perform(attempt)
        self._tell(attempt)

    def _tell(self, attempt: Attempt) -> None:
        ticket = attempt.ticket
        if ticket.provider_id == HELD:
            self._gone.put_nowait(ticket.session_id)
        done = self._done.pop(ticket.job_id, None)
        if done is not None:
            done.set_result(ticket.session_id)

    async def _let_through(self, attempt: Attempt) -> bool:
        """Wait in the slot; a run that is cut meanwhile goes back into the queue."""
        runtime, ticket = self.runtime, attempt.ticket
        try:
            attempt.calling = True
            await self._permits.acquire()
        except asyncio.CancelledError:
            epoch = runtime.dispatcher.epoch
            await runtime.store.write(
                lambda tx: outcomes.hand_back(tx, runtime.queue, ticket, None, epoch=epoch), outcome=True
            )
            return False
        finally:
            attempt.calling = False
        return True

    async def let_go(self, count: int) -> list[SessionId]:
        """Let held runs go, and return their sessions once all of them are durably complete."""
        for _ in range(count):
            self._permits.release()
        return [await self._gone.get() for _ in range(count)]

    # -- clients ----------------------------------------------------------------------------------------------

    async def make_sessions(self, count: int, provider: ProviderId = QUICK) -> list[SessionId]:
        """Create sessions, many to a commit."""
        runtime = self.runtime
        made: list[SessionId] = []
        while len(made) < count:
            news = [
                sessions.NewSession(
                    session_id=SessionId(runtime.new_id()),
                    model_id=MODEL,
                    provider_id=provider,
                    backend=Backend.LOCAL,
                    role="coder",
                    memory_policy=MemoryPolicy.EPHEMERAL,
                    budget=self._budget,
                )
                for _ in range(min(GATHER, count - len(made)))
            ]
            await asyncio.gather(*(self._create(new) for new in news))
            made += [new.session_id for new in news]
        return made

    async def _create(self, new: sessions.NewSession) -> None:
        await self.runtime.store.write(lambda tx: sessions.create(tx, new, max_open=10**9))

    async def accept(self, session_id: SessionId, *, lane: Lane | None = None, priority: int = 50) -> JobId:
        """Enqueue one run and return when that is durable."""
        turn = await self._turn(session_id, lane, priority)
        await self._accept(turn)
        return turn.job_id

    async def run_once(self, session_id: SessionId) -> JobId:
        """Enqueue one run and wait until its outcome is durable."""
        turn = await self._turn(session_id, None, 50)
        done = self._done[turn.job_id] = asyncio.get_running_loop().create_future()
        await self._accept(turn)
        await done
        return turn.job_id

    async def _accept(self, turn: runs.Turn) -> None:
        runtime = self.runtime
        await runtime.store.write(lambda tx: runs.accept(tx, runtime.queue, turn, runtime.known_models))

    async def _turn(self, session_id: SessionId, lane: Lane | None, priority: int) -> runs.Turn:
        runtime = self.runtime
        ids = runtime.new_id.several()
        return runs.Turn(
            session_id=session_id,
            turn_id=TurnId(next(ids)),
            message_id=MessageId(next(ids)),
            job_id=JobId(next(ids)),
            trace_id=next(ids),
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
            request_sha256=_REQUEST_SHA256,
        )

    # -- loads ------------------------------------------------------------------------------------------------

    async def run_all(self, owners: Sequence[SessionId], *, count: int, in_flight: int) -> float:
        """Carry `count` runs out, each client waiting for its own before the next; return runs per second."""
        each = max(1, count // in_flight)

        async def client(number: int) -> None:
            for step in range(each):
                await self.run_once(owners[(step * in_flight + number) % len(owners)])

        begun = time.perf_counter()
        await asyncio.gather(*(client(number) for number in range(in_flight)))
        return each * in_flight / (time.perf_counter() - begun)


@asynccontextmanager
async def opened(root: Path, *, slots: int, through_gate: bool = False, limited: bool = False) -> AsyncIterator[Load]:
    """Open a workspace for a measurement; one that is not there yet is made."""
    place = _workspace(root)
    models = {QUICK: ScriptedModel(lambda text: ("ok",))}
    configuration = Configuration(settings(slots, limited=limited), {})
    runtime = await open_runtime(place, configuration, models=models, dispatch=False)
    load = Load(runtime, limited=limited)
    try:
        await runtime.dispatcher.open(runtime.store, load.perform_through_gate if through_gate else load.perform)
        yield load
    finally:
        runtime.turns.stop()
        await close_runtime(runtime, drain_us=Microseconds(0))


def _workspace(root: Path) -> WorkspaceFolder:
    place = WorkspaceFolder(root)
    if not place.folder.exists():
        root.mkdir(parents=True, exist_ok=True)
        init_workspace(root)
    return place
