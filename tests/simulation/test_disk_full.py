"""Disk full and disk broken: at whatever write it begins, the operation fails whole, and later ones are well."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from handshake.bootstrap import limits_of
from handshake.kernel.errors import StoreFailed
from handshake.kernel.job import JobState
from handshake.kernel.lane import LANES
from handshake.kernel.queue import RunQueue
from handshake.kernel.settings import MIN_FREE_BYTES
from handshake.kernel.units import US_PER_S, Bytes
from handshake.kernel.waiting import WaitReason
from handshake.scheduler.dispatcher import Dispatcher
from handshake.storage.ballast import Ballast
from handshake.testing.invariants import Contents, check_log, check_workspace, job_states
from handshake.testing.power_loss import Disk
from handshake.testing.scripted_model import Step
from handshake.testing.virtual_clock import START_US
from tests.requirement import requirement
from tests.simulation.scenario import (
    IDLE_TURNS,
    KEY,
    LARGE_TEXT,
    SETTINGS,
    SHORT,
    WatchedStore,
    Work,
    World,
    answer,
    contents,
    digest,
    digest_of,
    give_up,
    new_disk,
    run,
    scratch,
)

PARTS = 4
BACKLOG = 6
"""Runs of paused sessions, that are still queued when the work is done."""
DONE = {"a1": JobState.COMPLETED, "a2": JobState.COMPLETED, "b1": JobState.CANCELLED, "b2": JobState.COMPLETED}
WAITING = dict.fromkeys(("c1", "c2", "d1", "d2", "e1", "e2"), JobState.QUEUED)
FAR_US = START_US + 86_400 * US_PER_S

WORK: Work = (
    *SHORT,
    lambda world: world.create("c", "d", "e"),
    lambda world: world.change("c", "pause"),
    lambda world: world.change("d", "pause"),
    lambda world: world.change("e", "pause"),
    lambda world: world.send(c1="1", d1="2", c2="3", e1="4", d2="5", e2="6"),
)
MINUTE_US = 60 * US_PER_S
BALLAST = 1024 * 1024

Trouble = Callable[[Disk, int], None]
TROUBLES: dict[str, Trouble] = {"full": Disk.fill_at, "broken": Disk.break_at}


def check_nothing_was_written(world: World) -> None:
    """The database is what the last commit made it, as this runtime and as another reader sees it."""
    assert isinstance(world.store, WatchedStore)
    assert digest(world.store.opened.db) == digest_of(world.disk) == world.store.states[-1]


def order_of(queue: RunQueue) -> list[str]:
    """Return the runs in the order in which an index starts them, one at a time, once nothing holds them."""
    order: list[str] = []
    while (run := queue.take(FAR_US)) is not None:
        order.append(run.job_id)
        queue.free_connection(run.key)
        queue.vacate(run.session_id, run.lane)
    return order


async def reload(disk: Disk, dispatcher: Dispatcher) -> None:
    """Let a dispatcher read its index from a disk."""
    store = World(disk).store
    store.follow(dispatcher)
    await store.write(lambda tx: None)
    await store.close()


def check_index_is_true(world: World, found: Contents) -> None:
    """The index that runs are chosen by chooses as the one does that is read from the rows; this uses both up."""
    live = world.runtime.queue
    weights = {lane: SETTINGS.scheduler.lane_weights.of(lane) for lane in LANES}
    fresh = RunQueue(limits_of(SETTINGS), weights)
    asyncio.run(reload(world.disk, Dispatcher(fresh, world.clock, world.runtime.dispatcher.epoch)))
    queued = {job.job_id for job in found.jobs if job.state is JobState.QUEUED}
    assert len(live) == len(fresh) == len(queued) == BACKLOG
    assert (live.usage.total, live.usage.primary) == (fresh.usage.total, fresh.usage.primary) == (0, 0)
    assert not live.usage.largest()
    assert order_of(live) == order_of(fresh) == []
    for session in found.sessions:
        live.unhold(session.session_id)
        fresh.unhold(session.session_id)
    order = order_of(live)
    assert order == order_of(fresh)
    assert set(order) == queued


class Troubled:
    """Does work on a disk in trouble: what is refused is done again once the trouble is over."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.refused = 0

    async def open(self, script: Callable[[str], Any]) -> World:
        """Open the workspace, after the trouble if need be."""
        for _ in range(2):
            try:
                world = World(self.disk, store_kind=WatchedStore, script=script)
                try:
                    await world.start()
                    return world
                except StoreFailed:
                    check_nothing_was_written(world)
                    await world.store.close()
                    raise
            except StoreFailed as refused:
                self.over(refused)
        raise AssertionError("refused without trouble")

    async def do(self, world: World, step: Callable[[World], Awaitable[None]]) -> None:
        """Do one step of the work, twice if it is refused; time goes on where only time can help."""
        for _ in range(2):
            working = asyncio.ensure_future(step(world))
            turns = 0
            while not working.done():
                await asyncio.sleep(0)
                turns += 1
                if turns % IDLE_TURNS == 0:  # an outcome could not be stored: it waits, and so does who asked for it
                    check_nothing_was_written(world)
                    self.over(None)
                    world.clock.advance(MINUTE_US)
            try:
                return working.result()
            except StoreFailed as refused:
                check_nothing_was_written(world)
                self.over(refused)
        raise AssertionError("refused without trouble")

    def over(self, refused: StoreFailed | None) -> None:
        """Note a refusal, and end the trouble."""
        assert refused is None or refused.code == "HSK-507-STORE"
        self.refused += 1
        self.disk.lift()


async def work_in_trouble(disk: Disk) -> tuple[World, int]:
    """Do the work and close; return what did it, and how often something was refused."""
    troubled = Troubled(disk)
    world = await troubled.open(answer)
    for step in WORK:
        await troubled.do(world, step)
        world.clock.advance(US_PER_S)
    check_nothing_was_written(world)
    await world.close()
    disk.lift()
    return world, troubled.refused


def operations(folder: Path) -> range:
    """Return the numbers of the operations of the undisturbed work."""
    disk = new_disk(folder)
    first = disk.operations + 1
    asyncio.run(run(World(disk), WORK))
    return range(first, disk.operations + 1)


@requirement("recorder.disk_full.fails_whole", "recovery.batch.rollback_is_whole", "recorder.atomic")
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_a_disk_refuses_fails_whole(trouble: str, part: int, tmp_path: Path) -> None:
    refused = 0
    for operation in operations(tmp_path / "whole")[part::PARTS]:
        with scratch(tmp_path) as folder:
            disk = new_disk(folder / "before")
            TROUBLES[trouble](disk, operation)
            world, times = asyncio.run(work_in_trouble(disk))
            refused += times > 0
            found = contents(disk)
            states = job_states(found)
            assert {name: states[turn.job_id] for name, turn in world.turns.items()} == {**DONE, **WAITING}
            assert len(states) == len(DONE) + BACKLOG
            check_index_is_true(world, found)
            done = digest_of(disk)
            assert digest_of(disk.power_loss(folder / "after", seed=operation)) == done
    assert refused > 40


def used_bytes(disk: Disk) -> int:
    plenty = Bytes(1 << 40)
    disk.limit(plenty)
    return plenty - disk.free_bytes(disk.root)


@requirement("recorder.disk_full.fails_whole", "recovery.outcome.never_lost")
async def test_outcome_may_use_the_room_that_new_work_may_not(tmp_path: Path) -> None:
    """Below the reserve no new turn is taken and none starts, and the answer that comes in is stored."""
    waiting = asyncio.Event()

    def script(text: str) -> Sequence[Step]:
        return (waiting, "at last") if text == "wait" else ("at once",)

    disk = new_disk(tmp_path / "disk")
    world = World(disk, script=script)
    await world.start()
    await world.create("a", "b")
    await world.send(a1="wait", a2="behind")
    await world.settle_queue()
    before = len(world.store.read_now(lambda reader: check_log(reader, KEY.verifier_key)))
    disk.limit(Bytes(used_bytes(disk) + MIN_FREE_BYTES - 1))
    with pytest.raises(StoreFailed) as refused:
        await world.send(b1="now")
    assert refused.value.context == {"reason": "disk_nearly_full", "min_free_bytes": MIN_FREE_BYTES}
    with pytest.raises(StoreFailed):
        await world.create("c")
    assert len(world.store.read_now(lambda reader: check_log(reader, KEY.verifier_key))) == before
    waiting.set()
    await world.finish("a1")
    for _ in range(3):
        await world.settle_queue()
        world.clock.advance(MINUTE_US)
    behind = world.turns["a2"].job_id
    (item,) = (await world.workspace.queue()).items
    assert (item.job_id, item.wait_reason) == (behind, WaitReason.STORE_FULL)
    assert len(world.model.bodies) == 1
    disk.lift()
    await world.settle_queue()
    world.clock.advance(US_PER_S)
    await world.finish("a2")
    assert set(world.ended.values()) == {JobState.COMPLETED}
    await world.send(b1="now")
    await world.finish("b1")
    await world.close()
    assert {job.state for job in contents(disk).jobs} == {JobState.COMPLETED}


@requirement("recovery.outcome.never_lost")
async def test_outcome_waits_as_long_as_the_disk_is_full(tmp_path: Path) -> None:
    """The slot stays taken, nothing is sent twice, and the answer is stored once there is room."""
    waiting = asyncio.Event()
    disk = new_disk(tmp_path / "disk")
    world = World(disk, script=lambda text: (waiting, "at last"))
    await world.start()
    await world.create("a")
    await world.send(a1="hello")
    await world.settle_queue()
    disk.fill_at(1)
    waiting.set()
    for _ in range(10):
        await world.settle_queue()
        world.clock.advance(MINUTE_US)
        assert len(world.model.bodies) == world.runtime.dispatcher.live_count == 1
    states = world.store.read_now(lambda reader: check_workspace(reader, KEY.verifier_key))
    assert set(job_states(states).values()) == {JobState.RUNNING}
    disk.lift()
    finishing = asyncio.ensure_future(world.finish("a1"))
    while not finishing.done():
        await world.settle_queue()
        world.clock.advance(MINUTE_US)
    await finishing
    assert len(world.model.bodies) == 1
    assert [job.attempt for job in contents(disk).jobs] == [1]
    await world.close()


def ballast_on(disk: Disk) -> Ballast:
    """Return a small ballast on a simulated disk."""
    run = disk.root / "run"
    return Ballast(disk.files, run / "ballast", run / "ballast.new", run, size_bytes=BALLAST)


@requirement("recovery.outcome.never_lost")
async def test_ballast_is_given_up_for_an_outcome_on_a_full_disk_and_made_again(tmp_path: Path) -> None:
    waiting = asyncio.Event()
    disk = new_disk(tmp_path / "disk")
    world = World(disk, script=lambda text: (waiting, LARGE_TEXT), ballast=ballast_on(disk))
    await world.start()
    await world.create("a")
    await world.send(a1="hello")
    await world.settle_queue()
    ballast = disk.root / "run" / "ballast"
    assert disk.files.exists(ballast)
    disk.limit(Bytes(used_bytes(disk)))
    waiting.set()
    await world.finish("a1")
    assert world.ended == {world.turns["a1"].job_id: JobState.COMPLETED}, "at once, though the disk is full"
    assert not disk.files.exists(ballast)
    disk.lift()
    await world.send(a2="again")
    assert disk.files.exists(ballast)
    await world.finish("a2")
    await world.close()


@requirement("recovery.outcome.never_lost")
async def test_start_on_a_full_disk_gives_the_ballast_up_and_takes_over_what_was_lost(tmp_path: Path) -> None:
    disk = new_disk(tmp_path / "disk")
    first = World(disk, script=lambda text: (asyncio.Event(),), ballast=ballast_on(disk))
    await first.start()
    await first.create("a")
    await first.send(a1="hello")
    await first.settle_queue()
    disk.die()
    await give_up()
    after = disk.power_loss(tmp_path / "after", seed=1)
    ballast = after.root / "run" / "ballast"
    assert after.files.exists(ballast)
    assert [job.state for job in contents(after).jobs] == [JobState.RUNNING]
    after.limit(Bytes(used_bytes(after)))
    second = World(after, seed=1, later_us=MINUTE_US, ballast=ballast_on(after))
    await second.start()
    assert not after.files.exists(ballast)
    assert [job.state for job in contents(after).jobs] == [JobState.QUEUED]
    after.lift()
    second.clock.advance(US_PER_S)
    await second.settle()
    await second.close()
    assert [job.state for job in contents(after).jobs] == [JobState.COMPLETED]


@requirement("recovery.start.dispatches_queue")
async def test_workspace_opens_below_the_reserve_and_ends_what_was_accepted_once_there_is_room(tmp_path: Path) -> None:
    disk = new_disk(tmp_path / "disk")
    first = World(disk, script=lambda text: (asyncio.Event(),))
    await first.start()
    await first.create("a", "b", "c")
    await first.send(a1="1", b1="2", c1="3")
    await first.settle_queue()
    await first.close()
    disk.limit(Bytes(used_bytes(disk) + MIN_FREE_BYTES - 1))
    second = World(disk, seed=1, later_us=MINUTE_US)
    await second.start()
    await second.settle()
    assert second.runtime.queue.usage.total == 0
    second.sessions = {"a": second.workspace.sessions.get(first.sessions["a"].session_id)}
    with pytest.raises(StoreFailed):
        await second.send(a2="4")
    disk.lift()
    second.clock.advance(US_PER_S)
    await second.settle()
    await second.close()
    assert [job.state for job in contents(disk).jobs] == [JobState.COMPLETED] * 3
