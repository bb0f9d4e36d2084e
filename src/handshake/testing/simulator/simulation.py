"""Simulation: one scenario with one seed, from an empty workspace to its verdict."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import msgspec

from handshake.kernel.units import US_PER_S
from handshake.testing.simulator.clients import Conversation, Told
from handshake.testing.simulator.faults import Mishap
from handshake.testing.simulator.journal import ToldEvent
from handshake.testing.simulator.operator import Operator
from handshake.testing.simulator.scenario import Scenario
from handshake.testing.simulator.violation import Violation
from handshake.testing.simulator.virtual_loop import Stuck, VirtualLoop, run_virtually
from handshake.testing.simulator.world import KEY, World
from handshake.testing.virtual_clock import VirtualClock

MEMORY_FOLDER = Path("/dev/shm")  # noqa: S108  (a folder of its own is made in it)
"""Where disks lie if there is such a place: nothing of them has to last."""
UNEXPECTED = "runtime.unexpected"
"""Stands for a promise where something was raised that nobody expects: that nothing is."""
MAX_SENTENCE_CHARS = 200
_LOOKS = 4
_POLL_S = 5
"""How often it is asked whether everything has ended."""


class Failure(msgspec.Struct, frozen=True):
    """A promise that did not hold, and what was going on."""

    requirement: str
    sentence: str
    about: str | None
    virtual_us: int
    last_events: tuple[ToldEvent, ...]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one seed; `history` is equal exactly if everything that could be observed was."""

    scenario: str
    seed: int
    history: str
    virtual_us: int
    commits: int
    events: int
    jobs: int
    calls: int
    lives: int
    faults: int
    steps: int
    failure: Failure | None

    @property
    def passed(self) -> bool:
        """Whether everything held."""
        return self.failure is None


def simulate(scenario: Scenario, seed: int) -> Verdict:
    """Run one scenario with one seed."""
    with _folder() as folder:
        return _Simulation(scenario, seed, folder).run()


@contextmanager
def _folder() -> Iterator[Path]:
    parent = MEMORY_FOLDER if MEMORY_FOLDER.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="handshake-simulation-", dir=parent) as name:
        yield Path(name)


class _Simulation:
    def __init__(self, scenario: Scenario, seed: int, folder: Path) -> None:
        self._scenario = scenario
        self._seed = seed
        self._clock = VirtualClock()
        self._loop = VirtualLoop(self._clock)
        self._told = Told()
        self._world = World(scenario, seed, folder, self._clock, self._loop)
        self._mishaps = [
            Mishap(self._world, plan, Random(f"{seed}/fault/{name}")) for name, plan in scenario.faults.items()
        ]
        self._loop.set_exception_handler(self._unexpected)

    def run(self) -> Verdict:
        failure: Violation | None = None
        try:
            run_virtually(self._main(), self._loop)
            failure = self._world.violation
        except Violation as broken:
            failure = broken
        except Stuck as stuck:
            failure = Violation("scheduler.queue.never_drops", str(stuck))
        except Exception as raised:  # noqa: BLE001  (whatever it is, it is what this seed found)
            failure = Violation(UNEXPECTED, f"{type(raised).__name__}: {raised}"[:MAX_SENTENCE_CHARS])
        return self._verdict(failure)

    async def _main(self) -> None:
        world = self._world
        world.keep_current()
        living = world.keep(world.live())
        clients = [world.keep(one.act()) for one in self._conversations()]
        mishaps = [world.keep(one.happen()) for one in self._mishaps]
        operator = Operator(world, Random(f"{self._seed}/operator"))
        answering = world.keep(operator.act())
        watching = world.keep(self._watch())
        for task in (*clients, *mishaps):
            await task
        watching.cancel()
        await self._wait_until_quiet()
        answering.cancel()
        await world.finish()
        await living

    async def _watch(self) -> None:
        """Report jobs that are open while nothing is committed for as long as everything may take to end."""
        still, before = 0, -1
        while True:
            await asyncio.sleep(self._scenario.run.settle_ms / 1_000 / _LOOKS)
            commits = self._world.observer.commits
            still = still + 1 if commits == before and self._world.journal.open_jobs else 0
            before = commits
            if still >= _LOOKS:
                left = f"{self._world.journal.open_jobs} jobs are open, and nothing happens"
                self._world.report(Violation("scheduler.queue.never_drops", left))

    async def _wait_until_quiet(self) -> None:
        """Wait until every job has ended, and look at everything once more."""
        world = self._world
        until_us = self._clock.monotonic_us() + self._scenario.run.settle_ms * 1_000
        while world.journal.open_jobs or world.history.open_calls:
            if self._clock.monotonic_us() > until_us:
                left = f"{world.journal.open_jobs} jobs have not ended, {world.history.open_calls} calls are open"
                world.report(Violation("scheduler.queue.never_drops", left))
            await asyncio.sleep(_POLL_S)
        life = await world.up()
        try:
            found = life.store.read_now(lambda reader: world.observer.check_all(reader, KEY.verifier_key))
            world.tools.settled()
        except Violation as broken:
            world.report(broken)
            return
        stored = {str(job.job_id): job.state for job in found.jobs}
        for name, job_id in self._told.accepted.items():
            if job_id not in stored:
                world.report(Violation("scheduler.queue.never_drops", f"turn {name} is gone", job_id))
        for job_id, state in self._told.ended.items():
            if stored.get(job_id) is not state:
                world.report(Violation("session.state.terminal_is_sticky", f"told {state.value}", job_id))

    def _conversations(self) -> Iterator[Conversation]:
        number = 0
        for client_name, client in self._scenario.clients.items():
            plan = self._scenario.sessions[client.sessions]
            for one in range(plan.count):
                number += 1
                name = f"{client_name}-{one}"
                chance = Random(f"{self._seed}/client/{name}")
                yield Conversation(self._world, self._told, name, number, plan, client, chance)

    def _unexpected(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        raised = context.get("exception")
        what = f"{type(raised).__name__}: {raised}" if raised is not None else str(context.get("message"))
        self._world.report(Violation(UNEXPECTED, what[:MAX_SENTENCE_CHARS]))

    def _verdict(self, broken: Violation | None) -> Verdict:
        world, observer = self._world, self._world.observer
        failure = None
        if broken is not None:
            failure = Failure(
                broken.requirement, broken.sentence, broken.about, self._clock.monotonic_us(), tuple(observer.last)
            )
        seen = (observer.log_hash, world.history.digest.hexdigest(), sorted(self._told.ended.items()), world.lives)
        seen_too = (self._loop.steps, self._clock.monotonic_us(), str(broken), world.disk.operations)
        return Verdict(
            scenario=self._scenario.name,
            seed=self._seed,
            history=hashlib.sha256(repr((seen, seen_too)).encode()).hexdigest(),
            virtual_us=self._clock.monotonic_us(),
            commits=observer.commits,
            events=observer.size,
            jobs=len(world.journal.jobs),
            calls=world.history.calls,
            lives=world.lives,
            faults=sum(one.happened for one in self._mishaps),
            steps=self._loop.steps,
            failure=failure,
        )


def hours(virtual_us: int) -> float:
    """Return virtual time in hours."""
    return virtual_us / US_PER_S / 3_600
