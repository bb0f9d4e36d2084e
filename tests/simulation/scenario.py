"""Scenario: a whole runtime on one thread, a simulated disk, virtual time and one seed, and a script of real work.

The same seed gives the same bytes, commit by commit and write by write, so that a fault can be put at each of them.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apsw

from handshake.bootstrap import Runtime, assemble, close_runtime
from handshake.kernel.configuration import Configuration
from handshake.kernel.ids import JobId, ProviderId
from handshake.kernel.job import JobState
from handshake.kernel.retry import Fault, FaultKind
from handshake.kernel.settings import Dialect, ProviderSettings, RecorderSettings, SchedulerSettings, Settings
from handshake.kernel.units import US_PER_S, Microseconds
from handshake.operations.records import NewIds
from handshake.storage.ballast import Ballast
from handshake.storage.readonly_store import ReadOnlyStore
from handshake.storage.schema import open_reader
from handshake.storage.signing import SEED_BYTES, SigningKey
from handshake.storage.sqlite_store import Place, create
from handshake.storage.workspace_folder import WorkspaceFolder
from handshake.testing.invariants import Contents, check_workspace
from handshake.testing.power_loss import Disk
from handshake.testing.scripted_model import Script, ScriptedModel, Step
from handshake.testing.seeded_chance import SeededChance
from handshake.testing.serial_store import SerialStore
from handshake.testing.virtual_clock import START_US, VirtualClock
from handshake.workspace import SessionHandle, TurnHandle, Workspace

KEY = SigningKey("handshake.log/scenario", bytes(SEED_BYTES))
PROVIDER = ProviderId("scripted")
SETTINGS = Settings(
    providers={PROVIDER: ProviderSettings(dialects=(Dialect.OPENAI_CHAT,), base_url="http://127.0.0.1:1/v1")},
    scheduler=SchedulerSettings(max_concurrent_runs=3),
    recorder=RecorderSettings(checkpoint_every_events=24, checkpoint_every_s=60),
)
CHECKPOINT_PAGES = 60
"""Length of the write-ahead log at which it is copied into the database: often enough to be cut in the middle."""
LARGE_TEXT = "a long text. " * 6_000
"""More than the store holds in a row: its artifact is a file."""
IDLE_TURNS = 40
"""Turns of the event loop after which nothing but time can move anything."""


@contextmanager
def scratch(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder that is gone afterwards: hundreds of disks would else pile up."""
    with TemporaryDirectory(dir=tmp_path) as name:
        yield Path(name)


def place_on(disk: Disk) -> Place:
    """Return where the scenario's workspace lies on a disk."""
    return Place(disk.root / "state.db", disk.root / "artifacts", disk.vfs)


def new_disk(folder: Path, *, seed: int = 0) -> Disk:
    """Return a disk with a new workspace, all of it durable."""
    disk = Disk(folder, seed=seed)
    create(place_on(disk), "scenario", START_US)
    return disk


def digest(db: apsw.Connection) -> str:
    """Return a hash over every row of every table."""
    one = hashlib.sha256()
    tables = [row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
    for table in tables:
        for row in db.execute(f"SELECT * FROM {table} ORDER BY 1, 2"):
            one.update(repr((table, row)).encode())
    return one.hexdigest()


def digest_of(disk: Disk) -> str:
    """Return the digest of the database on a disk."""
    db = open_reader(place_on(disk).database, vfs=disk.vfs)
    try:
        return digest(db)
    finally:
        db.close()


def contents(disk: Disk) -> Contents:
    """Return what a disk holds, which must be whole."""
    reader = ReadOnlyStore(place_on(disk), files=disk.files)
    try:
        return reader.read_now(lambda one: check_workspace(one, KEY.verifier_key))
    finally:
        reader.shut()


def answer(text: str) -> Sequence[Step]:
    """Answer as the text demands: with a refusal, never, or with an echo; long questions get long answers."""
    if text == "refuse":
        return (Fault(FaultKind.STATUS, status=400, sent=True),)
    if text == "wait":
        return ("partial ", asyncio.Event())
    return ("You said: ", text)


class WatchedStore(SerialStore):
    """Keeps a digest of the whole database after every batch that was committed."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.states = [digest(self.opened.db)]

    def _commit_batch(self, works: Any) -> None:
        before = self.commits
        super()._commit_batch(works)
        if self.commits != before:
            self.states.append(digest(self.opened.db))


class World:
    """One runtime over one disk, and what it acknowledged."""

    def __init__(
        self,
        disk: Disk,
        *,
        seed: int = 0,
        later_us: int = 0,
        script: Script = answer,
        store_kind: type[SerialStore] = SerialStore,
        ballast: Ballast | None = None,
    ) -> None:
        """Open the store; `start` begins to dispatch.

        Args:
            disk: where the workspace lies.
            seed: of ids and of nothing else.
            later_us: how long after the workspace was made it is.
            script: how models answer.
            store_kind: the store, or one that watches it.
            ballast: what is given up when the disk is full.
        """
        self.disk = disk
        self.clock = VirtualClock(Microseconds(START_US + later_us))
        self._chance = SeededChance(seed)
        self.model = ScriptedModel(script)
        self.store = store_kind.open(
            place_on(disk), files=disk.files, clock=self.clock, chance=self._chance, key=KEY,
            recorder=SETTINGS.recorder, free_bytes=disk.free_bytes, checkpoint_pages=CHECKPOINT_PAGES, ballast=ballast,
        )  # fmt: skip
        self.sessions: dict[str, SessionHandle] = {}
        self.turns: dict[str, TurnHandle] = {}
        self.ended: dict[JobId, JobState] = {}

    async def start(self) -> None:
        """Recover what a runtime before this one left, and begin to dispatch."""
        self.runtime: Runtime = await assemble(
            WorkspaceFolder(self.disk.root), Configuration(SETTINGS, {}), self.store, self.clock,
            NewIds(self.clock, self._chance), {PROVIDER: self.model}, None, dispatch=True,
        )  # fmt: skip
        self.workspace = Workspace(self.runtime)

    # -- what the script does; each may be done again after it failed ------------------------------------------

    async def create(self, *names: str) -> None:
        """Create sessions, in one commit."""

        async def one(name: str) -> None:
            session_id = f"00000000-0000-7000-8000-{ord(name):012x}"
            self.sessions[name] = await self.workspace.sessions.create(
                role="coder", model=f"{PROVIDER}/m", memory_policy="EPHEMERAL", session_id=session_id
            )

        await self._all(one(name) for name in names if name not in self.sessions)

    async def send(self, **texts: str) -> None:
        """Send turns, in one commit; a turn's name begins with that of its session."""

        async def one(name: str, text: str) -> None:
            self.turns[name] = await self.sessions[name[0]].send(text, idempotency_key=name)

        await self._all(one(name, text) for name, text in texts.items() if name not in self.turns)

    async def finish(self, *names: str) -> None:
        """Wait for the ends of turns."""
        for name in names:
            result = await self.turns[name].result()
            self.ended[result.job_id] = result.state

    async def cancel(self, name: str) -> None:
        """Cancel a turn, and wait until its call is closed."""
        await self.turns[name].cancel()
        self.ended[self.turns[name].job_id] = JobState.CANCELLED

    async def settle(self) -> None:
        """Wait until no attempt is in progress and none can start."""
        quiet = 0
        while quiet < IDLE_TURNS:
            await asyncio.sleep(0)
            quiet = 0 if self.runtime.dispatcher.live_count else quiet + 1

    async def settle_queue(self) -> None:
        """Wait until every run that may start has been started and has got as far as it can."""
        for _ in range(IDLE_TURNS):
            await asyncio.sleep(0)

    async def change(self, name: str, verb: str) -> None:
        """Pause, resume, complete or cancel a session."""
        await getattr(self.sessions[name], verb)()

    async def close(self) -> None:
        """Close the runtime; what still runs is handed back to the queue."""
        await close_runtime(self.runtime, drain_us=Microseconds(0))

    async def _all(self, works: Any) -> None:
        results = await asyncio.gather(*works, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result


Work = tuple[Callable[[World], Awaitable[None]], ...]

SHORT: Work = (
    lambda world: world.create("a", "b"),
    lambda world: world.send(a1="first", b1="wait", a2="second"),
    lambda world: world.finish("a1", "a2"),
    lambda world: world.cancel("b1"),
    lambda world: world.settle(),
    lambda world: world.send(b2=LARGE_TEXT),
    lambda world: world.finish("b2"),
    lambda world: world.change("a", "complete"),
)
"""Little of everything."""

WHOLE: Work = (
    lambda world: world.create("a", "b", "c", "d"),
    lambda world: world.send(a1="first", b1="first", c1=LARGE_TEXT, a2="second"),
    lambda world: world.finish("a1", "b1", "c1"),
    lambda world: world.change("b", "pause"),
    lambda world: world.send(b2="while paused", c2="refuse"),
    lambda world: world.finish("c2", "a2"),
    lambda world: world.change("b", "resume"),
    lambda world: world.finish("b2"),
    lambda world: world.send(d1="wait", d2="behind", d3="behind both"),
    lambda world: world.cancel("d2"),
    lambda world: world.cancel("d1"),
    lambda world: world.settle(),
    lambda world: world.finish("d3"),
    lambda world: world.send(a3="wait", c3="wait", b3=LARGE_TEXT + "again"),
    lambda world: world.change("a", "cancel"),
    lambda world: world.finish("b3"),
    lambda world: world.change("b", "complete"),
)
"""Every kind of commit, and a run that is still waiting for its answer at the end."""


async def run(world: World, work: Work) -> None:
    """Start, do all of the work a second of virtual time apart, and close."""
    await world.start()
    for step in work:
        await step(world)
        world.clock.advance(US_PER_S)
    await world.close()


async def give_up() -> None:
    """End every other task, those too that would rather record that they were cancelled."""
    while rest := asyncio.all_tasks() - {asyncio.current_task()}:
        for task in rest:
            task.cancel()
        await asyncio.sleep(0)
