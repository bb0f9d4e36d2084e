"""Floor: a bare loop that writes what the runtime wrote: the same rows, with the same SQL, in grouped commits.

The runtime runs once on a store that calls SQLite on its own thread, and every statement that changes rows is kept with
its values. Playing these back into an empty database of the same schema and pragmas costs what SQLite and the
disk cost: no rule, no validation, no hash, no event loop and no read is left in it.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import msgspec

from handshake.bench.load import Load, settings
from handshake.bench.plan import Plan
from handshake.bootstrap import assemble, close_runtime
from handshake.kernel.configuration import Configuration
from handshake.kernel.units import Microseconds
from handshake.operations.records import NewIds
from handshake.runners.machine import MachineChance, MachineClock
from handshake.storage.files import OsFiles
from handshake.storage.schema import open_writer
from handshake.storage.signing import SEED_BYTES, SigningKey
from handshake.storage.sqlite_store import Place, create, start
from handshake.storage.workspace_folder import WorkspaceFolder
from handshake.testing.serial_store import SerialStore

KEY = SigningKey("handshake.log/bench", bytes(SEED_BYTES))
_WORKSPACE_ID = "bench"
_CHANGES = ("INSERT", "UPDATE", "DELETE")

Commit = dict[str, list[Any]]
"""The statements of a commit with the values of all their uses: SQLite is asked once for each, as fast as it goes."""


class Recording(msgspec.Struct):
    """The commits that a workload made: those that prepared it, and those that are measured."""

    prepared: list[Commit]
    measured: list[Commit]
    units: int
    """Runs or events of the measured commits."""


class _Tape:
    """Hears what a connection executes, and keeps what changes rows, by commit."""

    def __init__(self) -> None:
        self.commits: list[Commit] = []
        self._open: Commit = {}

    def hear(self, cursor: apsw.Cursor, text: str, values: Any) -> bool:
        """Keep one statement; its text begins after comments and blanks have been cut."""
        if text.startswith(_CHANGES):
            self._open.setdefault(text, []).append(values)
        elif text == "COMMIT" and self._open:
            self.commits.append(self._open)
            self._open = {}
        elif text == "ROLLBACK":
            raise RuntimeError("the recorded work failed")
        return True


async def record(
    root: Path,
    plan: Plan,
    prepare: Callable[[Load], Awaitable[Any]],
    work: Callable[[Load, Any], Awaitable[int]],
) -> Recording:
    """Carry work out on a new workspace and keep what it wrote.

    Args:
        root: a folder for the workspace.
        plan: how many slots there are.
        prepare: what comes before; its result is handed on.
        work: what is measured; returns its number of units.
    """
    place = WorkspaceFolder(root)
    found = Place(place.database, place.artifacts)
    place.folder.mkdir(parents=True)
    clock, chance = MachineClock(), MachineChance()
    create(found, _WORKSPACE_ID, clock.now_us())
    configuration = Configuration(settings(plan.in_flight), {})
    tape = _Tape()
    store = SerialStore.open(
        found, files=OsFiles(), clock=clock, chance=chance, key=KEY, recorder=configuration.settings.recorder
    )
    store.opened.db.exec_trace = tape.hear
    runtime = await assemble(place, configuration, store, clock, NewIds(clock, chance), {}, None, dispatch=False)
    try:
        load = Load(runtime)
        await runtime.dispatcher.open(store, load.perform)
        prepared = await prepare(load)
        before = len(tape.commits)
        units = await work(load, prepared)
        after = len(tape.commits)
    finally:
        await close_runtime(runtime, drain_us=Microseconds(0))
    return Recording(tape.commits[:before], tape.commits[before:after], units)


async def record_runs(root: Path, plan: Plan, *, in_flight: int, count: int) -> Recording:
    """Keep what `count` runs write, `in_flight` to a commit and two commits to a run."""

    async def work(load: Load, owners: Any) -> int:
        rounds = max(1, count // in_flight)
        for _ in range(rounds):
            await asyncio.gather(*(load.run_once(owner) for owner in owners))
        return rounds * in_flight

    return await record(root, plan, lambda load: load.make_sessions(in_flight), work)


def play(recording: Recording, database: Path) -> float:
    """Write a recording into a new database, and return its measured units per second."""
    with _empty(database) as db:
        for commit in recording.prepared:
            _write(db, commit)
        gc.collect()
        begun = time.perf_counter()
        for commit in recording.measured:
            _write(db, commit)
        return recording.units / (time.perf_counter() - begun)


@contextmanager
def _empty(database: Path) -> Iterator[apsw.Connection]:
    database.parent.mkdir(parents=True, exist_ok=True)
    db = open_writer(database, new=True)
    try:
        start(db, _WORKSPACE_ID, MachineClock().now_us())
        yield db
    finally:
        db.close()


def _write(db: apsw.Connection, commit: Commit) -> None:
    db.execute("BEGIN IMMEDIATE")
    for text, values in commit.items():
        db.executemany(text, values).fetchall()  # a statement that returns rows goes on only when they are read
    db.execute("COMMIT")
