"""Running: workspaces in memory for tests: a stage, whose runs end as the test says, and a scene with a model."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from handshake.bootstrap import Runtime, assemble, known_models, limits_of
from handshake.bootstrap.toolbox import Provided, Tools, Usable, no_tools
from handshake.kernel.configuration import Configuration
from handshake.kernel.desk import DeskItem, DeskState, shown_sha256
from handshake.kernel.errors import HandshakeError, ProviderFailed
from handshake.kernel.event import Actor
from handshake.kernel.ids import ArtifactId, JobId, MessageId, ModelId, ProviderId, SessionId, TurnId
from handshake.kernel.job import Backend, Job, JobState, RunTicket
from handshake.kernel.lane import LANES
from handshake.kernel.message import SourceKind
from handshake.kernel.moment import rfc3339
from handshake.kernel.queue import RunQueue
from handshake.kernel.recovery import Action
from handshake.kernel.retry import Backoff, Fault, FaultKind
from handshake.kernel.session import MemoryPolicy, Session
from handshake.kernel.settings import (
    AutomationLevel,
    Dialect,
    LocalRuns,
    ModelSettings,
    ProviderSettings,
    SchedulerSettings,
    Settings,
)
from handshake.kernel.tool import ToolDefinition
from handshake.kernel.tool_registry import ToolSource
from handshake.kernel.usage import TokenUsage
from handshake.operations import budgets, cancelling, desk, outcomes, records, runs, sessions
from handshake.operations.attempt import Attempt
from handshake.operations.attempts import Ended
from handshake.operations.cancelling import CancelResult
from handshake.operations.continuing import Following
from handshake.operations.outcomes import Answer, Failure, Timing
from handshake.operations.records import NewIds
from handshake.operations.runs import Accepted, Turn
from handshake.operations.sessions import NewSession
from handshake.operations.stalling import LastSign
from handshake.ports.model import Model
from handshake.ports.store import Content, Reader, Store, Unit
from handshake.scheduler import recovery
from handshake.scheduler.dispatcher import Dispatcher
from handshake.scheduler.recovery import Policy
from handshake.storage.workspace_folder import WorkspaceFolder
from handshake.testing.invariants import Contents, check_workspace
from handshake.testing.memory_store import MemoryStore
from handshake.testing.scripted_model import ScriptedModel
from handshake.testing.scripted_tool import DEFINITION, ScriptedTool
from handshake.testing.seeded_chance import SeededChance
from handshake.testing.serial_store import SerialStore
from handshake.testing.virtual_clock import VirtualClock
from handshake.workspace import SessionHandle, Workspace

DESK = ProviderId("desk")
MODEL = ModelId("tiny")
TEXT = "text/plain; charset=utf-8"
PASSING = Fault(FaultKind.STATUS, 503, sent=True)
FINAL = Fault(FaultKind.STATUS, 400, sent=True)
USAGE = TokenUsage(3, 2, 5)


def settings_of(
    total: int = 64, *, each: int = 64, reserved: int = 1, models: dict[str, ModelSettings] | None = None, **groups: int
) -> Settings:
    """Return the settings of a workspace with one provider that has `each` slots, as has each of its models."""
    provider = ProviderSettings(
        dialects=(Dialect.OPENAI_CHAT,),
        base_url="http://127.0.0.1:1/v1",
        max_concurrent=each,
        models={MODEL: ModelSettings(max_concurrent=each), **(models or {})},
    )
    scheduler = SchedulerSettings(
        max_concurrent_runs=total, primary_reserved_runs=min(reserved, total - 1), concurrency_groups=groups
    )
    return Settings(providers={DESK: provider}, scheduler=scheduler)


class Stage:
    """Operations on a store in memory: runs start in the order of the scheduler, and wait for the test."""

    def __init__(self, memory: MemoryStore, clock: VirtualClock, settings: Settings) -> None:
        self.memory = memory
        self.clock = clock
        self.settings = settings
        self.store = SerialStore(memory.opened)
        self.new_id = NewIds(clock, memory.chance)
        self.performed: list[RunTicket] = []
        """What the dispatcher started, in order."""

    @classmethod
    async def open(cls, settings: Settings | None = None, *, dispatch: bool = True, seed: int = 1) -> Stage:
        """Make a workspace and begin to dispatch."""
        clock = VirtualClock()
        stage = cls(MemoryStore(clock=clock, chance=SeededChance(seed)), clock, settings or settings_of())
        await stage.begin(dispatch=dispatch)
        return stage

    async def begin(self, *, dispatch: bool = True) -> None:
        """Start a runtime on what is stored; one that ran before is dead."""
        weights = {lane: self.settings.scheduler.lane_weights.of(lane) for lane in LANES}
        await self.store.write(lambda tx: budgets.configure(tx, self.settings.budgets))
        self.queue = RunQueue(limits_of(self.settings), weights)
        self.epoch = await recovery.recover(self.store, self.queue, self.settings, self.new_id)
        self.dispatcher = Dispatcher(self.queue, self.clock, self.epoch)
        self.store.follow(self.dispatcher)
        if dispatch:
            await self.dispatcher.open(self.store, self._perform)

    async def _perform(self, attempt: Attempt) -> None:
        self.performed.append(attempt.ticket)

    # -- units, for the test to put into batches ---------------------------------------------------------------

    def new_session(self, **given: Any) -> NewSession:
        """Return a session to create; what is not given is plain."""
        plain: dict[str, Any] = {
            "session_id": SessionId(self.new_id()), "model_id": MODEL, "provider_id": DESK, "backend": Backend.LOCAL,
            "role": "coder", "memory_policy": MemoryPolicy.EPHEMERAL,
        }  # fmt: skip
        return NewSession(**{**plain, **given})

    def turn(self, session_id: SessionId, text: str = "Hello", **given: Any) -> Turn:
        """Return a turn to accept; what is not given is plain."""
        data = text.encode()
        digest = hashlib.sha256(data).hexdigest()
        plain: dict[str, Any] = {
            "turn_id": TurnId(self.new_id()), "message_id": MessageId(self.new_id()), "job_id": JobId(self.new_id()),
            "trace_id": self.new_id(), "content": content_of(data), "actor": Actor.HUMAN,
            "source_kind": SourceKind.OPERATOR, "trusted": True, "priority": 50, "lane": None, "max_retries": 3,
            "retry_backoff": Backoff.EXPONENTIAL, "timeout_ms": 1_000, "max_output_tokens": None,
            "idempotency_key": None, "request_sha256": digest,
        }  # fmt: skip
        return Turn(session_id=session_id, **{**plain, **given})

    def accepting(self, turn: Turn) -> Unit[Accepted]:
        """Return the unit that accepts a turn."""
        known = known_models(self.settings)
        return lambda tx: runs.accept(tx, self.queue, turn, known)

    def finishing(
        self,
        ticket: RunTicket,
        text: str = "Answer",
        *,
        usage: TokenUsage | None = USAGE,
        finish_reason: str | None = "stop",
        epoch: int | None = None,
        next_job_id: JobId | None = None,
    ) -> Unit[Ended]:
        """Return the unit that records an answer, and queues another run of the turn if that has an id."""
        answer = Answer(
            message_id=MessageId(self.new_id()), content=content_of(text.encode()), prompt_hash="0" * 64,
            finish_reason=finish_reason, usage=usage, timing=Timing(7, 3),
        )  # fmt: skip
        at = self.epoch if epoch is None else epoch
        following = None if next_job_id is None else Following(next_job_id)
        return lambda tx: outcomes.finish(tx, self.queue, ticket, answer, epoch=at, following=following)

    def failing(
        self,
        ticket: RunTicket,
        fault: Fault | None = PASSING,
        *,
        partial: str = "",
        body: str = "",
        error: HandshakeError | None = None,
        tried: bool = True,
    ) -> Unit[Ended]:
        """Return the unit that records a failed attempt."""
        failure = Failure(
            error=error or ProviderFailed(job_id=ticket.job_id), fault=fault, prompt_hash="0" * 64,
            partial=content_of(partial.encode()) if partial else None,
            provider_body=content_of(body.encode()) if body else None, timing=Timing(7, None),
            tried=tried,
        )  # fmt: skip
        return lambda tx: outcomes.fail(tx, self.queue, ticket, failure, epoch=self.epoch)

    def handing_back(self, ticket: RunTicket, partial: str = "") -> Unit[Ended]:
        """Return the unit that queues a run again whose runtime stops."""
        content = content_of(partial.encode()) if partial else None
        return lambda tx: outcomes.hand_back(tx, self.queue, ticket, content, epoch=self.epoch)

    def releasing(self, ticket: RunTicket, partial: str = "") -> Unit[Ended]:
        """Return the unit that frees what a cancelled attempt held."""
        content = content_of(partial.encode()) if partial else None
        return lambda tx: outcomes.release(tx, self.queue, ticket, content)

    def cancelling(self, job_id: JobId, *, reason: str = "test", by: str = "operator") -> Unit[CancelResult]:
        """Return the unit that cancels a run."""
        return lambda tx: cancelling.cancel_run(tx, self.queue, records.job(tx, job_id), reason=reason, by=by)

    def cancelling_session(self, session_id: SessionId) -> Unit[sessions.Cancelled]:
        """Return the unit that cancels a session."""
        return lambda tx: sessions.cancel(tx, self.queue, session_id, reason="test", by="operator", actor=Actor.HUMAN)

    def pausing(self, session_id: SessionId) -> Unit[Session]:
        """Return the unit that pauses a session."""
        return lambda tx: sessions.pause(tx, self.queue, session_id)

    def resuming(self, session_id: SessionId) -> Unit[Session]:
        """Return the unit that resumes a session."""
        return lambda tx: sessions.resume(tx, self.queue, session_id)

    def completing(self, session_id: SessionId) -> Unit[Session]:
        """Return the unit that completes a session."""
        return lambda tx: sessions.complete(tx, self.queue, session_id)

    def giving_up(
        self, ticket: RunTicket, *, told: bool = False, local_runs: LocalRuns | None = None, epoch: int | None = None
    ) -> Unit[Action | None]:
        """Return the unit that gives an attempt up whose lease has ended."""
        policy, item_id = Policy.of(self.settings), self.new_id()
        policy = policy if local_runs is None else msgspec.structs.replace(policy, local_runs=local_runs)
        at = self.epoch if epoch is None else epoch
        sign = LastSign(rfc3339(self.clock.now_us()), 30)
        return lambda tx: recovery.give_up(tx, self.queue, ticket, policy, sign, epoch=at, item_id=item_id, told=told)

    def approving(self, item: DeskItem) -> Unit[DeskItem]:
        """Return the unit that lets the run of a desk item run again."""
        sha256 = shown_sha256(item)
        return lambda tx: desk.approve(
            tx, self.queue, item.item_id, shown=sha256, by="operator", level=AutomationLevel.HYBRID
        )

    def denying(self, item: DeskItem) -> Unit[DeskItem]:
        """Return the unit that lets the run of a desk item fail."""
        return lambda tx: desk.deny(tx, self.queue, item.item_id, by="operator", level=AutomationLevel.HYBRID)

    def expiring(self) -> Unit[list[JobId]]:
        """Return the unit that fails the runs of items whose time is over."""
        return lambda tx: desk.expire(tx, self.queue).failed

    # -- what tests do most ------------------------------------------------------------------------------------

    async def batch(self, *units: Unit[Any]) -> list[Any]:
        """Commit units together, in their order; return results and failures."""
        return await asyncio.gather(*(self.store.write(unit) for unit in units), return_exceptions=True)

    async def create(self, **given: Any) -> SessionId:
        """Create a session."""
        new = self.new_session(**given)
        return (await self.store.write(lambda tx: sessions.create(tx, new, max_open=10_000))).session_id

    async def send(self, session_id: SessionId, text: str = "Hello", **given: Any) -> JobId:
        """Accept a turn."""
        return (await self.store.write(self.accepting(self.turn(session_id, text, **given)))).job_id

    async def look(self) -> None:
        """Have the queue looked at, as after a wait."""
        await self.store.write(lambda tx: None)

    def session(self, session_id: SessionId) -> Session:
        """Return a session as it is stored."""
        return self.store.read_now(lambda reader: records.session(reader, session_id))

    def job(self, job_id: JobId) -> Job:
        """Return a job as it is stored."""
        return self.store.read_now(lambda reader: records.job(reader, job_id))

    def ticket(self, job_id: JobId) -> RunTicket:
        """Return the ticket of a run's last attempt."""
        job = self.job(job_id)
        return RunTicket(job.job_id, job.session_id, job.attempt, job.provider_id, job.model_id)

    def desk(self, state: DeskState | None = DeskState.WAITING) -> list[DeskItem]:
        """Return what waits for a person, or what is in another state."""
        return self.store.read_now(lambda reader: desk.items(reader, state=state, limit=1_000))

    def running(self) -> list[JobId]:
        """Return the runs that are running, in order of acceptance."""
        return [job.job_id for job in self.check().jobs if job.state is JobState.RUNNING]

    def check(self) -> Contents:
        """Check everything that must be true, in the rows and in the index, and return what is stored."""
        found = self.store.read_now(self._checked)
        assert len(self.queue) == sum(job.state is JobState.QUEUED for job in found.jobs), "the index differs"
        assert self.queue.usage.total == sum(job.state is JobState.RUNNING for job in found.jobs), "the index differs"
        left_open = self.store.read_now(lambda reader: reader.rows("connections_open"))
        held = sum(job.holds_slot for job in found.jobs) + len(left_open)
        assert sum(self.queue.usage.largest().values()) == held, "the index counts other connections"
        return found

    def _checked(self, reader: Reader) -> Contents:
        return check_workspace(reader, self.memory.key.verifier_key)


def content_of(data: bytes) -> Content:
    """Return bytes as the store's `prepare` does, if they are few."""
    return Content(ArtifactId(hashlib.sha256(data).hexdigest()), len(data), TEXT, data)


class Scene:
    """A whole runtime in memory, with a model that does what its script says, and time that the test moves."""

    def __init__(self, runtime: Runtime, memory: MemoryStore, clock: VirtualClock) -> None:
        self.runtime = runtime
        self.memory = memory
        self.clock = clock
        self.workspace = Workspace(runtime)

    async def create(self, **given: Any) -> SessionHandle:
        """Create a session."""
        plain: dict[str, Any] = {"role": "coder", "model": f"{DESK}/{MODEL}", "memory_policy": "EPHEMERAL"}
        return await self.workspace.sessions.create(**{**plain, **given})

    async def settle(self) -> None:
        """Let everything happen that can happen while time stands still."""
        for _ in range(50):
            await asyncio.sleep(0)

    async def pass_time(self, span_us: int) -> None:
        """Let time pass, and everything happen that follows."""
        await self.settle()
        self.clock.advance(span_us)
        await self.settle()

    def check(self) -> Contents:
        """Check everything that must be true of the rows, and return what is stored."""
        key = self.memory.key.verifier_key
        return self.runtime.store.read_now(lambda reader: check_workspace(reader, key))


def _only(tool: ScriptedTool, definitions: tuple[ToolDefinition, ...], store: Store, usable: Usable) -> Tools:
    provided = Provided(tool, definitions, ToolSource.PROGRAM)
    return msgspec.structs.replace(no_tools(store, usable), provided=(provided,), root="/nowhere")


@asynccontextmanager
async def scene(
    model: Model | None = None,
    settings: Settings | None = None,
    *,
    memory: MemoryStore | None = None,
    tool: ScriptedTool | None = None,
    definitions: Sequence[ToolDefinition] = (DEFINITION,),
) -> AsyncIterator[Scene]:
    """Open a workspace in memory, or the one that `memory` holds, and close it at the end without patience."""
    clock = VirtualClock() if memory is None else memory.clock
    assert isinstance(clock, VirtualClock)
    kept = memory or MemoryStore(clock=clock)
    runtime = await assemble(
        WorkspaceFolder(Path("/nowhere")),
        Configuration(settings or settings_of(), {}),
        SerialStore(kept.opened),
        clock,
        NewIds(clock, kept.chance),
        {DESK: model or ScriptedModel()},
        None,
        dispatch=True,
        tools_for=no_tools if tool is None else partial(_only, tool, tuple(definitions)),
    )
    try:
        yield Scene(runtime, kept, clock)
    finally:
        await runtime.dispatcher.close(0, before_cut=runtime.turns.stop)
        runtime.feeds.close()
