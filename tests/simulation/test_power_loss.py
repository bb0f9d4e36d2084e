"""Power loss: wherever the power goes, what was acknowledged is there, and what is there is whole."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from handshake.kernel.errors import HandshakeError
from handshake.kernel.ids import JobId
from handshake.kernel.job import TERMINAL, JobState
from handshake.kernel.session import Ending
from handshake.storage.readonly_store import ReadOnlyStore
from handshake.testing.invariants import Contents, check_workspace, job_states
from handshake.testing.power_loss import Disk
from handshake.testing.scripted_model import echo
from handshake.testing.serial_store import SerialStore
from tests.requirement import requirement
from tests.simulation.scenario import IDLE_TURNS, KEY, WHOLE, World, digest, digest_of, new_disk, place_on, run

PARTS = 8
FATES = 3
"""Ways in which the disk may come out of one power loss that are looked at."""
HOUR_US = 3_600_000_000


class WatchedStore(SerialStore):
    """Keeps a digest of the whole database after every commit."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.states = [digest(self.opened.db)]

    def _commit_batch(self, works: Any) -> None:
        super()._commit_batch(works)
        self.states.append(digest(self.opened.db))


class Undisturbed(msgspec.Struct):
    """What happens when nothing happens: the numbers of the operations, and the state after every commit."""

    first: int
    last: int
    states: list[str]


class Cut(msgspec.Struct):
    """A runtime whose disk lost its power, and how much it had acknowledged by then."""

    disk: Disk
    commits: int = 0
    head: tuple[int, str] = (0, "")
    accepted: list[JobId] = []
    ended: dict[JobId, JobState] = {}


def undisturbed(folder: Path) -> Undisturbed:
    disk = new_disk(folder)
    first = disk.operations + 1
    world = World(disk, store_kind=WatchedStore)
    asyncio.run(run(world, WHOLE))
    assert isinstance(world.store, WatchedStore)
    assert world.store.commits == len(world.store.states), "only the last commit, which signs, is not watched"
    return Undisturbed(first, disk.operations, [*world.store.states, digest_of(disk)])


async def run_until_cut(world: World) -> None:
    """Run until the power is gone, and take in what was answered until then."""
    work = asyncio.ensure_future(run(world, WHOLE))
    turns = 0
    while not work.done() and turns < IDLE_TURNS:
        await asyncio.sleep(0)
        turns += world.disk.is_dead
    work.cancel()
    with suppress(asyncio.CancelledError, HandshakeError):
        await work


def cut(folder: Path, operation: int) -> Cut:
    disk = new_disk(folder)
    disk.cut_at(operation)
    found = Cut(disk)
    with suppress(HandshakeError):
        world = World(disk)
        asyncio.run(run_until_cut(world))
        found = Cut(
            disk, world.store.commits, world.head, [turn.job_id for turn in world.turns.values()], world.ended
        )
        asyncio.run(world.store.close())
    assert disk.is_dead
    return found


def contents(disk: Disk) -> Contents:
    """Return what a disk holds, which must be whole."""
    reader = ReadOnlyStore(place_on(disk), files=disk.files)
    try:
        return reader.read_now(lambda one: check_workspace(one, KEY.verifier_key))
    finally:
        reader.shut()


def check_acknowledged(lost: Cut, found: Contents) -> None:
    """Everything that anyone was told is there."""
    states = job_states(found)
    assert set(lost.accepted) <= set(states)
    assert {job_id: states[job_id] for job_id in lost.ended} == lost.ended
    size, last_hash = lost.head
    assert len(found.events) >= size


async def restart(disk: Disk) -> None:
    """Open the workspace again, let everything run to its end, and close it."""
    world = World(disk, seed=1, later_us=HOUR_US, script=echo)
    await world.start()
    await world.settle()
    for session in await world.workspace.sessions.list():
        if session.paused and session.ending is Ending.OPEN:
            await world.workspace.sessions.get(session.session_id).resume()
    await world.settle()
    await world.close()


def check_recovered(before: Contents, after: Contents) -> None:
    """Every run ended without anyone enqueueing it again, and those that were running went the told way."""
    assert set(job_states(after)) == set(job_states(before))
    assert all(job.state in TERMINAL for job in after.jobs)
    ended = {job.job_id: job.state for job in before.jobs if job.state in TERMINAL}
    assert {job_id: state for job_id, state in job_states(after).items() if job_id in ended} == ended
    fresh = after.events[len(before.events) :]
    recovered = [
        (one.job_id, one.payload["from_state"], one.payload["to_state"], one.payload["reason"])
        for one in fresh
        if one.type == "workflow_recovery"
    ]
    orphans = [job.job_id for job in before.jobs if job.state is JobState.RUNNING]
    assert recovered == [
        step
        for job_id in orphans
        for step in ((job_id, "running", "stalled", "crash_recovery"), (job_id, "stalled", "queued", "policy"))
    ]


@requirement("recovery.power_loss.loses_nothing", "message.append.is_atomic", "recorder.atomic")
@pytest.mark.parametrize("part", range(PARTS))
def test_no_cut_takes_what_was_acknowledged(part: int, tmp_path: Path) -> None:
    whole = undisturbed(tmp_path / "whole")
    for operation in range(whole.first + part, whole.last + 1, PARTS):
        lost = cut(tmp_path / f"{operation}", operation)
        for seed in range(FATES):
            disk = lost.disk.power_loss(tmp_path / f"{operation}-{seed}", seed=seed)
            found = contents(disk)
            assert digest_of(disk) in whole.states[lost.commits : lost.commits + 2]
            check_acknowledged(lost, found)
            if seed == 0:
                asyncio.run(restart(disk))
                check_recovered(found, contents(disk))
