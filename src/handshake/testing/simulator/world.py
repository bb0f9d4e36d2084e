"""World: one workspace through all its lives: disk, clock and providers, and the runtime that is up or down."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Coroutine
from contextlib import suppress
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from handshake.bootstrap import Models, Runtime, assemble, close_runtime
from handshake.bootstrap.toolbox import ToolsFor, no_tools
from handshake.kernel.configuration import Configuration
from handshake.kernel.errors import HandshakeError
from handshake.kernel.ids import ProviderId
from handshake.kernel.locality import Declared, parse_endpoint
from handshake.kernel.settings import MIN_FREE_BYTES
from handshake.kernel.units import US_PER_MS, Microseconds
from handshake.operations.records import NewIds
from handshake.providers.http_model import HttpModel
from handshake.providers.locality import Boundary
from handshake.storage.signing import SEED_BYTES, SigningKey
from handshake.storage.sqlite_store import Place, create
from handshake.storage.workspace_folder import WorkspaceFolder
from handshake.testing.power_loss import Disk
from handshake.testing.seeded_chance import SeededChance
from handshake.testing.simulator.call_history import CallHistory
from handshake.testing.simulator.journal import Journal
from handshake.testing.simulator.memory_transport import MemoryTransport
from handshake.testing.simulator.observed_store import ObservedStore
from handshake.testing.simulator.observer import Observer
from handshake.testing.simulator.order_check import OrderCheck
from handshake.testing.simulator.scenario import Scenario
from handshake.testing.simulator.scripted_provider import ScriptedProvider
from handshake.testing.simulator.simulated_tools import simulated_tools
from handshake.testing.simulator.slot_bounds import SlotBounds
from handshake.testing.simulator.spending_check import SpendingCheck
from handshake.testing.simulator.tool_check import ToolCheck
from handshake.testing.simulator.violation import Violation
from handshake.testing.simulator.virtual_loop import VirtualLoop
from handshake.testing.virtual_clock import START_US, VirtualClock
from handshake.workspace import Workspace

KEY = SigningKey("handshake.log/simulation", bytes(SEED_BYTES))
DATABASE = "state.db"
MAX_FAILED_OPENS = 100
"""Times in a row that a workspace may fail to open while its disk is in trouble."""
_REAP_TURNS = 20
"""Turns of the loop in which the tasks of a dead runtime must have ended."""


class Life(msgspec.Struct, eq=False):
    """One runtime, from its start to its end."""

    number: int
    store: ObservedStore
    runtime: Runtime
    workspace: Workspace


class World:
    """Everything of one simulation but those who act in it.

    Args:
        scenario: what it is like.
        seed: of all chance.
        folder: an empty folder for its disks.
        clock: its time.
        loop: what it runs on.
    """

    def __init__(self, scenario: Scenario, seed: int, folder: Path, clock: VirtualClock, loop: VirtualLoop) -> None:
        self.scenario = scenario
        self.clock = clock
        self.loop = loop
        self.chance = Random(f"{seed}/world")
        self._folder = folder
        self._ids = SeededChance(seed)
        bounds = SlotBounds(scenario.settings)
        self.journal = Journal()
        self.observer = Observer(self.journal, OrderCheck(self.journal, bounds), clock)
        self.spending = SpendingCheck(self.journal, scenario.settings, clock)
        self.history = CallHistory(self.journal, bounds, self.spending, clock, self.report)
        self.observer.heard.append(self.spending.hear)
        self.observer.heard.append(self.history.hear)
        self.tools = ToolCheck(self.journal, self.report)
        self.observer.heard.append(self.tools.hear)
        self._tools_for: ToolsFor = no_tools
        if scenario.tools:
            self._tools_for = simulated_tools(scenario.tools, Random(f"{seed}/tools"), self.tools)
        self.providers = {
            ProviderId(name): ScriptedProvider(
                ProviderId(name), scenario, Random(f"{seed}/{name}"), clock, self.history
            )
            for name in scenario.providers
        }
        self.disk = _new_disk(folder / "0", seed)
        self.life: Life | None = None
        self.lives = 0
        self._failed_opens = 0
        self._fell = False
        """Whether the last life did not end in order."""
        self.violation: Violation | None = None
        self._kept: set[asyncio.Task[Any]] = set()
        self._up = asyncio.Event()
        self._down = asyncio.Event()
        self._ending = False
        self._held_back = False
        self._closing: Life | None = None

    @property
    def place(self) -> Place:
        """Where the workspace lies on the present disk."""
        return Place(self.disk.root / DATABASE, self.disk.root / "artifacts", self.disk.vfs)

    def report(self, violation: Violation) -> None:
        """Take note of the first thing that does not hold; the loop stops at its next turn."""
        if self.violation is None:
            self.violation = violation
            self.loop.stop_with(violation)

    def keep_current(self) -> None:
        """Let the present task outlive runtimes."""
        task = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"
        self._kept.add(task)

    def keep(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task that outlives runtimes."""
        task = self.loop.create_task(work)
        self._kept.add(task)
        task.add_done_callback(self._kept.discard)
        return task

    async def up(self) -> Life:
        """Wait until a runtime is open, and return it."""
        while self.life is None:
            await self._up.wait()
        return self.life

    # -- life and death ----------------------------------------------------------------------------------------

    async def live(self) -> None:
        """Open the workspace again and again, until `finish`."""
        while not self._ending:
            await self._reap()
            try:
                life = await self._open()
            except HandshakeError as failed:  # the disk is full, broken or dead
                self._require_trouble(failed)
                self._replace_dead_disk()
                await self._pause()
                continue
            self._failed_opens = 0
            self._down.clear()
            self.life = life
            self._up.set()
            await self._down.wait()
            self._replace_dead_disk()
            await self._pause()

    async def stop(self) -> None:
        """Stop the runtime in order, if it is up; the next one opens after a while."""
        life = self.life
        if life is None:
            return
        self._leave()
        self._closing = life
        try:
            with suppress(HandshakeError):  # a disk in trouble: the next life finds what there is
                await close_runtime(life.runtime, drain_us=Microseconds(self.scenario.run.drain_ms * US_PER_MS))
        finally:
            self._closing = None
            life.store.crash()  # does nothing to one that closed
            self._down.set()

    async def finish(self) -> None:
        """Stop the runtime for good."""
        self._ending = True
        await self.stop()

    def crash(self) -> None:
        """Kill the runtime: nothing more of it happens, and what it wrote is what the next one finds."""
        life = self.life or self._closing
        if life is None:
            return
        self._leave()
        self._fell = True
        life.store.crash()
        for provider in self.providers.values():
            provider.lose_all()
        for task in self.loop.unfinished():
            if task not in self._kept:
                task.cancel()
        life.runtime.feeds.close()
        self._down.set()

    def lose_power(self) -> None:
        """Kill the runtime, and with it what the disk had not synced."""
        self.crash()
        self.disk.die()

    def suspend(self, span_us: int) -> None:
        """Let the machine sleep: the wall clock goes on, the monotonic one does not, and connections are lost."""
        self.jump(span_us)
        for provider in self.providers.values():
            provider.break_all()

    def jump(self, span_us: int) -> None:
        """Set the wall clock forward or back."""
        self.spending.clock_moved()
        self.clock.jump_wall(span_us)

    def stand_still(self, span_us: int) -> None:
        """Let time pass in which the process does nothing, as when it is stopped or starved."""
        self.history.stood_us += span_us
        self.clock.advance(span_us)
        self.observer.excuse()

    def _leave(self) -> None:
        self.life = None
        self._up.clear()
        self.observer.closing()

    async def _open(self) -> Life:
        self.lives += 1
        scenario, clock = self.scenario, self.clock
        store = ObservedStore.open(
            self.place, files=self.disk.files, clock=clock, chance=self._ids, key=KEY,
            recorder=scenario.settings.recorder, free_bytes=self.disk.free_bytes,
        )  # fmt: skip
        store.observe = self._observe
        store.died = lambda: self.disk.is_dead
        store.collapse = self.crash
        store.watch()
        try:
            store.read_now(self._reopened)
            runtime = await assemble(
                WorkspaceFolder(self.disk.root), Configuration(scenario.settings, {}), store, clock,
                NewIds(clock, self._ids), self._models(), None, dispatch=True, tools_for=self._tools_for,
            )  # fmt: skip
        except BaseException:
            store.crash()
            raise
        return Life(self.lives, store, runtime, Workspace(runtime))

    def _models(self) -> Models:
        return {name: self._model(name) for name in self.providers}

    def _model(self, name: ProviderId) -> HttpModel:
        def transport(boundary: Boundary) -> MemoryTransport:
            return MemoryTransport(boundary, self.providers[name])

        entry = self.scenario.settings.providers[name]
        declared = Declared(run_by_operator=entry.run_by_operator, forwards_to_cloud=entry.forwards_to_cloud)
        return HttpModel(
            name,
            parse_endpoint(entry.base_url),
            declared,
            clock=self.clock,
            secret=_no_secret,
            tools=entry.tool_support,
            transport=transport,
        )

    def _observe(self, reader: Any, named: set[str]) -> None:
        if self.violation is not None:  # what is seen from now on is only how it ends
            return
        was_held_back, self._held_back = self._held_back, self._is_held_back()
        if was_held_back or self._held_back:
            self.observer.excuse()
        try:
            if self.history.waiting_outcome() is not None:  # nothing starts until it is stored
                self.observer.excuse()
            self.observer.committed(reader, named)
            if self.observer.commits % self.scenario.run.check_all_every_commits == 0:
                self.observer.check_all(reader, KEY.verifier_key)
        except Violation as broken:
            self.report(broken)

    def _is_held_back(self) -> bool:
        """Return whether nothing may start: the disk has no room, or an outcome waits for it."""
        life = self.life or self._closing
        has_room = self.disk.free_bytes(self.disk.root) >= MIN_FREE_BYTES
        return not has_room or (life is not None and life.runtime.dispatcher.is_held_back)

    def _reopened(self, reader: Any) -> None:
        try:
            self.spending.restarted()
            self.history.restarted()
            self.observer.reopened(reader)
            if self._fell:
                self.observer.check_all(reader, KEY.verifier_key)
            self._fell = False
        except Violation as broken:
            self.report(broken)

    def _require_trouble(self, failed: HandshakeError) -> None:
        """A workspace opens, unless its disk is in trouble."""
        self._failed_opens += 1
        if not (self.disk.is_dead or self.disk.in_trouble) or self._failed_opens > MAX_FAILED_OPENS:
            self.report(Violation("recovery.power_loss.loses_nothing", f"the workspace does not open: {failed.code}"))

    def _replace_dead_disk(self) -> None:
        """Lay out what outlived a power loss, if there was one."""
        if self.disk.is_dead:
            old = self.disk
            self.disk = old.power_loss(self._folder / str(self.lives), seed=self.chance.getrandbits(32))
            shutil.rmtree(old.root)

    async def _pause(self) -> None:
        await asyncio.sleep(self.scenario.run.restart_ms / 1_000)

    async def _reap(self) -> None:
        """Let the tasks of a dead runtime end."""
        rest: list[asyncio.Task[Any]] = []
        for _ in range(_REAP_TURNS):
            rest = [task for task in self.loop.unfinished() if task not in self._kept]
            if not rest:
                return
            for task in rest:
                task.cancel()
            await asyncio.sleep(0)
        self.report(Violation("recovery.kill.loses_nothing", "tasks of a dead runtime do not end", len(rest)))


@cache
def _new_database() -> bytes:
    """Return the database of a new workspace, which is the same for every seed."""
    with TemporaryDirectory() as name:
        place = Place(Path(name, DATABASE), Path(name, "artifacts"))
        create(place, "simulation", START_US)
        return place.database.read_bytes()


def _new_disk(folder: Path, seed: int) -> Disk:
    folder.mkdir()
    (folder / DATABASE).write_bytes(_new_database())
    return Disk(folder, seed=seed)


def _no_secret(reference: str) -> str:
    raise LookupError(reference)
