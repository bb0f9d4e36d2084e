"""Power loss: wherever the power goes, what was acknowledged is there, and what is there is whole."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from handshake.kernel.errors import HandshakeError, IntegrityBroken
from handshake.kernel.ids import ArtifactId, JobId
from handshake.kernel.job import TERMINAL, JobState
from handshake.kernel.session import Ending
from handshake.kernel.settings import MAX_INLINE_ARTIFACT_BYTES
from handshake.ports.files import FilePath, Files
from handshake.ports.store import Content, Reader, Tx
from handshake.storage.readonly_store import ReadOnlyStore
from handshake.storage.sqlite_store import SqliteStore
from handshake.testing.invariants import Contents, check_log, job_states
from handshake.testing.medium_files import MediumFiles
from handshake.testing.power_loss import Disk
from handshake.testing.scripted_model import echo
from handshake.testing.seeded_chance import SeededChance
from handshake.testing.serial_store import SerialStore
from handshake.testing.store_conformance import number, numbers_told, state_and_evidence
from handshake.testing.virtual_clock import VirtualClock
from tests.requirement import requirement
from tests.simulation.scenario import (
    IDLE_TURNS,
    KEY,
    SETTINGS,
    WHOLE,
    WatchedStore,
    Work,
    World,
    contents,
    digest_of,
    give_up,
    new_disk,
    place_on,
    run,
    scratch,
)

PARTS = 8
FATES = 2
"""Ways in which the disk may come out of one power loss that are looked at."""
GROUPS = 8
GROUP_UNITS = 5
HOUR_US = 3_600_000_000


class Undisturbed(msgspec.Struct):
    """What happens when nothing happens: the numbers of the operations, and the state after every commit."""

    first: int
    last: int
    states: list[str]


class Cut(msgspec.Struct):
    """A runtime whose disk lost its power, and how much it had acknowledged by then."""

    disk: Disk
    commits: int = 0
    accepted: list[JobId] = []
    ended: dict[JobId, JobState] = {}


def undisturbed(disk: Disk, work: Work = WHOLE) -> Undisturbed:
    first = disk.operations + 1
    world = World(disk, store_kind=WatchedStore)
    asyncio.run(run(world, work))
    assert isinstance(world.store, WatchedStore)
    assert world.store.commits == len(world.store.states), "only the last commit, which signs, is not watched"
    return Undisturbed(first, disk.operations, [*world.store.states, digest_of(disk)])


def cut(disk: Disk, operation: int, work: Work = WHOLE, store_kind: type[SerialStore] = SerialStore) -> Cut:
    """Do the work until the power goes, and take in what was answered until then."""

    async def until_cut() -> None:
        working = asyncio.ensure_future(run(world, work))
        turns = 0
        while not working.done() and turns < IDLE_TURNS:
            await asyncio.sleep(0)
            turns += disk.is_dead
        await give_up()
        found.commits = world.store.commits
        found.accepted = [turn.job_id for turn in world.turns.values()]
        found.ended = world.ended
        await world.store.close()
        with suppress(asyncio.CancelledError, HandshakeError):
            working.result()

    disk.cut_at(operation)
    found = Cut(disk)
    with suppress(HandshakeError):
        world = World(disk, store_kind=store_kind)
        asyncio.run(until_cut())
    assert disk.is_dead
    return found


def check_acknowledged(lost: Cut, found: Contents) -> None:
    """Everything that anyone was told is there."""
    states = job_states(found)
    assert set(lost.accepted) <= set(states)
    assert {job_id: states[job_id] for job_id in lost.ended} == lost.ended


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
    whole = undisturbed(new_disk(tmp_path / "whole"))
    for operation in range(whole.first + part, whole.last + 1, PARTS):
        with scratch(tmp_path) as folder:
            lost = cut(new_disk(folder / "before"), operation)
            disks = [lost.disk.power_loss(folder / f"{seed}", seed=seed) for seed in range(FATES)]
            for disk in disks:
                assert digest_of(disk) in whole.states[lost.commits : lost.commits + 2]
                check_acknowledged(lost, contents(disk))
            before = contents(disks[0])
            asyncio.run(restart(disks[0]))
            check_recovered(before, contents(disks[0]))


@requirement("recovery.power_loss.loses_nothing", "recovery.start.dispatches_queue")
def test_no_cut_in_the_middle_of_recovery_loses_a_run(tmp_path: Path) -> None:
    busy = cut_while_running(tmp_path / "busy")
    whole = undisturbed(Disk(shutil.copytree(busy, tmp_path / "whole")), ())
    for operation in range(whole.first, whole.last + 1):
        with scratch(tmp_path) as folder:
            lost = cut(Disk(shutil.copytree(busy, folder / "before")), operation, ())
            disk = lost.disk.power_loss(folder / "after", seed=operation)
            before = contents(disk)
            assert digest_of(disk) in whole.states[lost.commits : lost.commits + 2]
            asyncio.run(restart(disk))
            check_recovered(before, contents(disk))


def cut_while_running(folder: Path) -> Path:
    """Return a folder as a power loss left it while two runs were waiting for their models, and one in the queue."""

    async def work(world: World) -> None:
        await world.start()
        await world.create("a", "b", "c")
        await world.send(a1="wait", b1="wait", c1="in the queue")
        await world.settle_queue()
        world.disk.power_loss(folder)
        await give_up()
        await world.store.close()

    asyncio.run(work(World(new_disk(folder.with_name("before")))))
    states = Counter(job.state for job in contents(Disk(folder)).jobs)
    assert states == {JobState.RUNNING: 2, JobState.QUEUED: 1}
    return folder


class Hasty(SerialStore):
    """A store whose commits do not wait for the disk."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.opened.db.execute("PRAGMA synchronous=NORMAL").close()


def test_store_that_does_not_wait_for_the_disk_is_caught(tmp_path: Path) -> None:
    whole = undisturbed(new_disk(tmp_path / "whole"))
    caught = 0
    for operation in range(whole.first + 40, whole.last - 100, 29):  # it syncs less, and so does less
        with scratch(tmp_path) as folder:
            lost = cut(new_disk(folder / "before"), operation, store_kind=Hasty)
            disk = lost.disk.power_loss(folder / "after", seed=operation)
            caught += digest_of(disk) not in whole.states[lost.commits : lost.commits + 2]
    assert caught


def large(first: int) -> bytes:
    """Return the artifact of the group that begins with a number."""
    return f"{first} ".encode() * MAX_INLINE_ARTIFACT_BYTES


async def write_in_groups(disk: Disk, files: Files, told: list[int]) -> None:
    """Commit groups of units, each with a large artifact of its own, and keep what was answered."""
    store = SqliteStore(
        place_on(disk), files=files, clock=VirtualClock(), chance=SeededChance(0), key=KEY,
        recorder=SETTINGS.recorder, free_bytes=disk.free_bytes,
    )  # fmt: skip
    store._db.wal_autocheckpoint(20)
    try:
        for first in range(0, GROUPS * GROUP_UNITS, GROUP_UNITS):
            content = await store.prepare(large(first), "text/plain; charset=utf-8")

            def unit(tx: Tx, content: Content = content, first: int = first) -> int:
                tx.put(content)
                return state_and_evidence(first)(tx)

            rest = (state_and_evidence(value) for value in range(first + 1, first + GROUP_UNITS))
            told += await asyncio.gather(store.write(unit), *map(store.write, rest))
    finally:
        await store.close()


def groups_on(disk: Disk) -> list[int]:
    """Return what a disk holds of the groups: whole ones, with their state and artifacts, or this raises."""
    reader = ReadOnlyStore(place_on(disk), files=disk.files)

    def query(one: Reader) -> list[int]:
        check_log(one, KEY.verifier_key)
        numbers = numbers_told(one)
        assert numbers == list(range(len(numbers)))
        assert len(numbers) % GROUP_UNITS == 0
        assert [number(one, str(value)) for value in range(len(numbers) + 1)] == [*numbers, 0]
        for first in numbers[::GROUP_UNITS]:
            assert one.artifact(ArtifactId(sha256(large(first)).hexdigest())) == large(first)
        return numbers

    try:
        return reader.read_now(query)
    finally:
        reader.shut()


def cut_groups(folder: Path, operation: int, files: Callable[[Disk], Files]) -> tuple[Disk, list[int]]:
    """Cut the power during an operation, 0 for none; return the disk, and the numbers that were acknowledged."""
    disk = new_disk(folder)
    if operation:
        disk.cut_at(operation)
    told: list[int] = []
    with suppress(HandshakeError):
        asyncio.run(write_in_groups(disk, files(disk), told))
    assert disk.is_dead == bool(operation)
    return disk, told


@requirement("recovery.power_loss.loses_nothing", "recovery.batch.rollback_is_whole")
def test_no_cut_takes_a_part_of_a_group(tmp_path: Path) -> None:
    first = new_disk(tmp_path / "new").operations + 1
    whole, told = cut_groups(tmp_path / "whole", 0, lambda disk: disk.files)
    last = whole.operations
    assert told == groups_on(whole) == list(range(GROUPS * GROUP_UNITS))
    for operation in range(first, last + 1):
        with scratch(tmp_path) as folder:
            disk, told = cut_groups(folder / "before", operation, lambda disk: disk.files)
            found = groups_on(disk.power_loss(folder / "after", seed=operation))
            assert len(found) in (len(told), len(told) + GROUP_UNITS)


class Careless(MediumFiles):
    """Files whose names are left to chance."""

    def sync_folder(self, path: FilePath) -> None:
        """Do not."""


def test_file_that_is_not_durable_before_its_row_is_caught(tmp_path: Path) -> None:
    whole, _ = cut_groups(tmp_path / "whole", 0, Careless)
    caught = 0
    for seed in range(20):
        try:
            groups_on(whole.power_loss(tmp_path / f"{seed}", seed=seed))
        except IntegrityBroken:
            caught += 1
    assert caught
