"""The whole scheduler under a crowd: whatever clients do, limits hold at the models and nothing accepted is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from handshake.bootstrap import Runtime, assemble, find_workspace, init_workspace, verifier_key
from handshake.gate.egress import Finished, ModelFault, TextPiece
from handshake.kernel.configuration import Configuration
from handshake.kernel.errors import Conflict, StoreFailed
from handshake.kernel.ids import JobId, ModelId, ProviderId
from handshake.kernel.job import TERMINAL, JobState
from handshake.kernel.lane import LANES
from handshake.kernel.retry import Fault, FaultKind
from handshake.kernel.settings import Dialect, ModelSettings, ProviderSettings, SchedulerSettings, Settings
from handshake.kernel.units import Microseconds
from handshake.operations.records import NewIds
from handshake.ports.clock import Clock
from handshake.ports.model import EgressPass, ModelCall
from handshake.storage.workspace_folder import WorkspaceFolder
from handshake.testing.invariants import Contents, check_workspace
from handshake.testing.memory_store import MemoryStore
from handshake.testing.scripted_model import ScriptedModel
from handshake.testing.seeded_chance import SeededChance
from handshake.testing.serial_store import SerialStore
from handshake.testing.virtual_clock import VirtualClock
from handshake.workspace import SessionHandle, TurnHandle, Workspace, open_workspace
from tests.requirement import requirement

NAMES = tuple(ProviderId(name) for name in ("desk", "shed"))
TOTAL, PER_PROVIDER, PER_MODEL, PER_GROUP = 6, 4, 3, 2
SECOND_US = 1_000_000


def provider() -> ProviderSettings:
    models = {
        "small": ModelSettings(max_concurrent=PER_MODEL, group="heavy"),
        "large": ModelSettings(max_concurrent=PER_MODEL),
    }
    return ProviderSettings(
        dialects=(Dialect.OPENAI_CHAT,), base_url="http://127.0.0.1:1/v1", max_concurrent=PER_PROVIDER, models=models
    )


SETTINGS = Settings(
    providers={name: provider() for name in NAMES},
    scheduler=SchedulerSettings(max_concurrent_runs=TOTAL, concurrency_groups={"heavy": PER_GROUP}),
)
AS_TOML = "\n".join(
    [
        *(
            f'[providers.{name}]\ndialects = ["openai_chat"]\nbase_url = "http://127.0.0.1:1/v1"\n'
            f"max_concurrent = {PER_PROVIDER}\n"
            f'[providers.{name}.models.small]\nmax_concurrent = {PER_MODEL}\ngroup = "heavy"\n'
            f"[providers.{name}.models.large]\nmax_concurrent = {PER_MODEL}\n"
            for name in NAMES
        ),
        f"[scheduler]\nmax_concurrent_runs = {TOTAL}\n[scheduler.concurrency_groups]\nheavy = {PER_GROUP}\n",
    ]
)


class Crowd:
    """Who is connected to which model now; counted where the calls arrive."""

    def __init__(self) -> None:
        self.open: list[tuple[ProviderId, ModelId]] = []
        self.calls = 0
        self.most: Counter[str] = Counter()

    @contextmanager
    def call(self, one: EgressPass) -> Iterator[None]:
        """Count a call from its first byte until its connection is closed."""
        entry = (one.provider_id, one.model_id)
        self.open.append(entry)
        self.calls += 1
        for kind, count, limit in (
            ("provider", sum(name == one.provider_id for name, _ in self.open), PER_PROVIDER),
            ("model", self.open.count(entry), PER_MODEL),
            ("group", sum(model == "small" for _, model in self.open), PER_GROUP),
        ):
            assert count <= limit, f"{count} calls at one {kind}"
            self.most[kind] = max(self.most[kind], count)
        try:
            yield
        finally:
            self.open.remove(entry)


class Moody(ScriptedModel):
    """A model that answers, dawdles, fails or is too slow, as chance has it, and takes its time to close."""

    def __init__(self, crowd: Crowd, clock: Clock | None, chance: Random) -> None:
        super().__init__()
        self._crowd = crowd
        self._clock = clock
        self._chance = chance

    async def answer(self, egress_pass: EgressPass, call: ModelCall) -> AsyncGenerator[TextPiece | Finished, None]:
        egress_pass.spend()
        chance = self._chance
        mood = chance.random()
        with self._crowd.call(egress_pass):
            try:
                await self._dawdle()
                if mood < 0.1:
                    raise ModelFault(Fault(FaultKind.STATUS, 503, sent=True), b"busy")
                if mood < 0.15:
                    raise ModelFault(Fault(FaultKind.STATUS, 400, sent=True))
                for word in ("so ", "be ", "it"):
                    yield TextPiece(word)
                    await self._dawdle()
                    if mood < 0.2:
                        raise ModelFault(Fault(FaultKind.RESET, sent=True))
                if mood < 0.3 and self._clock is not None:
                    await self._clock.sleep_us(Microseconds(call.limits.total_ms * 1_000))
                    raise ModelFault(Fault(FaultKind.TIMEOUT_TOTAL, sent=True))
            finally:
                await self._dawdle()
        yield Finished("stop", None)

    async def _dawdle(self) -> None:
        if self._clock is None:
            await asyncio.sleep(0)
        else:
            await self._clock.sleep_us(Microseconds(self._chance.choice((0, 1, 40_000, SECOND_US))))


class Client:
    """Somebody who sends, waits, changes their mind and pauses, and knows every job that was accepted."""

    def __init__(self, sessions: list[SessionHandle], chance: Random) -> None:
        self.sessions = sessions
        self.chance = chance
        self.accepted: set[JobId] = set()
        self.cancelled: set[JobId] = set()

    async def act(self, moves: int) -> None:
        turns: list[TurnHandle] = []
        for _ in range(moves):
            session = self.chance.choice(self.sessions)
            if turns and self.chance.random() < 0.2:
                await self.cancel(self.chance.choice(turns))
            elif self.chance.random() < 0.1:
                await session.pause()
                await asyncio.sleep(0)
                await session.resume()
            elif turns and self.chance.random() < 0.2:
                await self.cancel_at_first_word(turns[-1])
            else:
                lane, priority = self.chance.choice(LANES), self.chance.choice((10, 50, 90))
                turns.append(await session.send("Hello", lane=lane, priority=priority))
                self.accepted.add(turns[-1].job_id)

    async def cancel(self, turn: TurnHandle) -> None:
        try:
            await turn.cancel()
        except Conflict:
            return
        self.cancelled.add(turn.job_id)

    async def cancel_at_first_word(self, turn: TurnHandle) -> None:
        async for piece in turn:
            if type(piece).__name__ == "Text":
                await self.cancel(turn)


def expect_kept(found: Contents, clients: list[Client]) -> None:
    """Check that everything accepted is there, and ended as its client was told."""
    states = {job.job_id: job.state for job in found.jobs}
    assert set(states) == set().union(*(client.accepted for client in clients))
    assert all(states[job_id] is JobState.CANCELLED for client in clients for job_id in client.cancelled)
    for session in {job.session_id for job in found.jobs}:
        turns = [one.turn_seq for one in found.messages if one.session_id == session and one.role == "ASSISTANT"]
        assert turns == sorted(turns)


# -- on virtual time: the same seed, the same bytes -------------------------------------------------------------


class Mortal(SerialStore):
    """A store whose process may die: from then on nothing of it is written."""

    def die(self) -> None:
        self._closed = True
        pending, self._pending = self._pending, []
        for work in pending:
            work.answer.set_exception(StoreFailed(reason="closed"))


class Town:
    """A workspace in memory through several lives of its runtime."""

    def __init__(self, seed: int) -> None:
        self.clock = VirtualClock()
        self.memory = MemoryStore(clock=self.clock, chance=SeededChance(seed))
        self.chance = Random(seed)
        self.crowd = Crowd()

    async def live(self, work: Any) -> None:
        """Open the runtime, do the work while time passes, and let the runtime stop or die."""
        self.crowd.open.clear()
        models: Mapping[ProviderId, Moody] = {name: Moody(self.crowd, self.clock, self.chance) for name in NAMES}
        store = Mortal(self.memory.opened)
        runtime = await assemble(
            WorkspaceFolder(Path("/nowhere")), Configuration(SETTINGS, {}), store, self.clock,
            NewIds(self.clock, self.memory.chance), models, None, dispatch=True,
        )  # fmt: skip
        working = asyncio.ensure_future(work(Workspace(runtime)))
        while not working.done():
            await self.tick(runtime)
        await working
        if self.chance.random() < 0.5:
            store.die()
        closing = asyncio.ensure_future(runtime.dispatcher.close(0, before_cut=lambda: stop(runtime)))
        while not closing.done():
            await self.tick(runtime)
        await closing

    async def tick(self, runtime: Runtime) -> None:
        """Let happen what can, check everything, and move time to whatever comes next."""
        for _ in range(6):
            await asyncio.sleep(0)
        assert runtime.queue.usage.total <= TOTAL
        span_us = self.clock.next_due_us()
        self.clock.advance(0 if span_us is None else span_us)

    def check(self) -> Contents:
        key = self.memory.key.verifier_key
        return SerialStore(self.memory.opened).read_now(lambda reader: check_workspace(reader, key))


def stop(runtime: Runtime) -> None:
    runtime.turns.stop()


async def sessions_of(workspace: Workspace, count: int) -> list[SessionHandle]:
    names = [f"{name}/{model}" for name in NAMES for model in ("small", "large")]
    return [
        await workspace.sessions.create(role="coder", model=names[number % 4], memory_policy="EPHEMERAL")
        for number in range(count)
    ]


async def town_after(seed: int) -> tuple[Town, list[Client]]:
    """Let clients come and go through three lives of a runtime, and then let everything end."""
    town = Town(seed)
    clients: list[Client] = []

    async def day(workspace: Workspace) -> None:
        sessions = [workspace.sessions.get(one.session_id) for one in await workspace.sessions.list()]
        sessions += await sessions_of(workspace, 4)
        today = [Client(sessions, Random(f"{seed}/{len(clients) + number}")) for number in range(5)]
        clients.extend(today)
        await asyncio.gather(*(client.act(12) for client in today))

    async def evening(workspace: Workspace) -> None:
        for client in clients:
            for job_id in sorted(client.accepted):
                await ended(workspace, job_id)

    for work in (day, day, day, evening):
        await town.live(work)
        town.check()
    return town, clients


@requirement(
    "scheduler.limit.is_never_exceeded", "scheduler.queue.never_drops", "session.state.active_iff_one_running",
    "session.state.terminal_is_sticky", "scheduler.session.head_only", "scheduler.events.on_every_step",
)  # fmt: skip
@pytest.mark.parametrize("seed", range(6))
async def test_a_crowd_on_virtual_time_through_three_restarts(seed: int) -> None:
    town, clients = await town_after(seed)
    expect_kept(town.check(), clients)
    assert town.crowd.calls > 60
    assert town.crowd.most == {"provider": PER_PROVIDER, "model": PER_MODEL, "group": PER_GROUP}


@requirement("scheduler.order.is_deterministic", "scheduler.cancel.is_deterministic")
async def test_the_same_seed_gives_the_same_log() -> None:
    logs = [[event.hash for event in (await town_after(41))[0].check().events] for _ in range(2)]
    assert logs[0] == logs[1]


# -- on a disk, with the writer's thread ------------------------------------------------------------------------


@requirement("scheduler.limit.is_never_exceeded", "scheduler.queue.never_drops", "recovery.start.dispatches_queue")
async def test_a_crowd_on_a_disk_through_restarts(tmp_path: Path) -> None:
    init_workspace(tmp_path)
    (tmp_path / ".handshake" / "config.toml").write_text(AS_TOML)
    crowd, clients = Crowd(), list[Client]()
    for life in range(3):
        chance = Random(life)
        models = {name: Moody(crowd, None, chance) for name in NAMES}
        async with open_workspace(tmp_path, models=models, drain_s=0) as workspace:
            sessions = [workspace.sessions.get(one.session_id) for one in await workspace.sessions.list()]
            sessions += await sessions_of(workspace, 4)
            today = [Client(sessions, Random(f"disk/{life}/{number}")) for number in range(8)]
            clients += today
            await asyncio.gather(*(client.act(10) for client in today))
    async with open_workspace(tmp_path, models={name: ScriptedModel() for name in NAMES}) as workspace:
        for client in clients:
            for job_id in client.accepted:
                await ended(workspace, job_id)
        key = verifier_key(find_workspace(tmp_path))
        found = await workspace.runtime.store.read(lambda reader: check_workspace(reader, key))
    expect_kept(found, clients)
    assert crowd.open == []


async def ended(workspace: Workspace, job_id: JobId) -> None:
    """Wait until a job has ended."""
    listening = workspace.runtime.feeds.listen(job_id)
    if (await workspace.job(job_id)).state not in TERMINAL:
        async for _ in listening:
            pass
