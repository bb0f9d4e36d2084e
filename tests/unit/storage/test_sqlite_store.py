"""SQLite store: group commit on a thread, bounded waiting, consistent reads, and an end that leaves one file."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from handshake.kernel.errors import StateConflict, StoreFailed
from handshake.kernel.settings import (
    MAX_BATCH_UNITS,
    MAX_READ_CONNECTIONS,
    MAX_WAITING_UNITS,
    MIN_FREE_BYTES,
    RecorderSettings,
)
from handshake.kernel.units import US_PER_S
from handshake.ports.store import Reader, Tx
from handshake.storage.files import OsFiles
from handshake.storage.signing import SEED_BYTES, SigningKey
from handshake.storage.sqlite_store import Place, SqliteStore, create
from handshake.testing.invariants import check_log
from handshake.testing.power_loss import Disk
from handshake.testing.seeded_chance import SeededChance
from handshake.testing.store_conformance import number, numbers_told, put, state_and_evidence
from handshake.testing.virtual_clock import VirtualClock
from tests.requirement import requirement

KEY = SigningKey("handshake.log/store", bytes(SEED_BYTES))
PLENTY = 1 << 50


class Setting:
    """A store on files, with everything that a test may want to turn."""

    def __init__(self, folder: Path, *, disk: Disk | None = None) -> None:
        self.clock = VirtualClock()
        self.free: Callable[[Path], int] = lambda _: PLENTY
        root = disk.root if disk else folder
        self.place = Place(root / "state.db", root / "artifacts", disk.vfs if disk else None)
        create(self.place, "store", self.clock.now_us())
        self.files = disk.files if disk else OsFiles()

    def _free_bytes(self, folder: Path) -> int:
        return self.free(folder)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[SqliteStore]:
        store = SqliteStore(
            self.place,
            files=self.files,
            clock=self.clock,
            chance=SeededChance(0),
            key=KEY,
            recorder=RecorderSettings(),
            free_bytes=self._free_bytes,
        )
        try:
            yield store
        finally:
            await store.close()


class Gate:
    """A unit or query that holds its thread until it is let go."""

    def __init__(self) -> None:
        self.reached = threading.Semaphore(0)
        self._open = threading.Event()

    def __call__(self, reader: Reader) -> int:
        before = number(reader, "count")
        self.reached.release()
        assert self._open.wait(timeout=20)
        assert number(reader, "count") == before
        return before

    async def wait(self, times: int = 1) -> None:
        """Return when so many threads are held."""
        for _ in range(times):
            assert await asyncio.to_thread(self.reached.acquire, timeout=20)

    def let_go(self) -> None:
        self._open.set()


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_units_of_one_turn_share_commits(tmp_path: Path) -> None:
    async with Setting(tmp_path).opened() as store:
        await asyncio.gather(*(store.write(state_and_evidence(value)) for value in range(MAX_BATCH_UNITS)))
        assert store.batches == 1
        await asyncio.gather(*(store.write(state_and_evidence(value)) for value in range(2 * MAX_BATCH_UNITS + 1)))
        assert store.batches == 4


async def test_what_comes_while_the_writer_works_is_committed_together(tmp_path: Path) -> None:
    gate = Gate()
    async with Setting(tmp_path).opened() as store:
        held = asyncio.ensure_future(store.write(gate))
        await gate.wait()
        rest = []
        for value in range(10):
            rest.append(asyncio.ensure_future(store.write(state_and_evidence(value))))
            await turns(2)
        assert not any(one.done() for one in rest)
        gate.let_go()
        await asyncio.gather(held, *rest)
        assert store.batches == 2


async def test_waiting_is_bounded(tmp_path: Path) -> None:
    gate = Gate()
    more = 100
    async with Setting(tmp_path).opened() as store:
        held = asyncio.ensure_future(store.write(gate))
        await gate.wait()
        ran: list[object] = []
        writes = [asyncio.ensure_future(store.write(ran.append)) for _ in range(MAX_WAITING_UNITS + more)]
        await turns()
        assert store._in_flight == MAX_WAITING_UNITS
        gate.let_go()
        await asyncio.gather(held, *writes)
        assert len(ran) == MAX_WAITING_UNITS + more
        assert store._in_flight == 0


async def test_who_waits_for_room_when_the_store_closes_is_refused(tmp_path: Path) -> None:
    gate = Gate()
    async with Setting(tmp_path).opened() as store:
        held = asyncio.ensure_future(store.write(gate))
        await gate.wait()
        accepted = [asyncio.ensure_future(store.write(state_and_evidence(0))) for _ in range(MAX_WAITING_UNITS - 1)]
        late = [asyncio.ensure_future(store.write(state_and_evidence(1))) for _ in range(3)]
        await turns()
        closing = asyncio.ensure_future(store.close())
        await turns()
        gate.let_go()
        results = await asyncio.gather(held, *accepted, *late, closing, return_exceptions=True)
        assert results[:MAX_WAITING_UNITS] == [0] * MAX_WAITING_UNITS
        assert [type(one) for one in results[MAX_WAITING_UNITS:-1]] == [StoreFailed] * 3


async def test_caller_that_goes_away_takes_nobody_with_it(tmp_path: Path) -> None:
    gate = Gate()
    async with Setting(tmp_path).opened() as store:
        held = asyncio.ensure_future(store.write(gate))
        await gate.wait()
        gone = asyncio.ensure_future(store.write(state_and_evidence(1)))
        stays = asyncio.ensure_future(store.write(state_and_evidence(2)))
        await turns()
        gone.cancel()
        gate.let_go()
        assert (await held, await stays) == (0, 2)
        assert gone.cancelled()
        assert store.read_now(numbers_told) == [1, 2], "what was handed in is done, whoever still listens"


# ── reading ────────────────────────────────────────────────────────────────────────────────────────────────


def count_up(tx: Tx) -> int:
    put(tx, "count", number(tx, "count") + 1)
    return number(tx, "count")


@requirement("recorder.read.while_writing")
async def test_query_sees_one_state_while_others_write(tmp_path: Path) -> None:
    gate = Gate()
    async with Setting(tmp_path).opened() as store:
        await store.write(count_up)
        reading = [asyncio.ensure_future(store.read(gate)) for _ in range(2)]
        await gate.wait(times=2)
        for _ in range(5):
            await store.write(count_up)
        assert store.read_now(lambda reader: number(reader, "count")) == 6
        gate.let_go()
        assert await asyncio.gather(*reading) == [1, 1]
        assert await store.read(lambda reader: number(reader, "count")) == 6


async def test_readers_are_bounded_and_all_come_to_their_turn(tmp_path: Path) -> None:
    gate = Gate()
    async with Setting(tmp_path).opened() as store:
        reading = [asyncio.ensure_future(store.read(gate)) for _ in range(3 * MAX_READ_CONNECTIONS)]
        await gate.wait(times=MAX_READ_CONNECTIONS)
        assert not gate.reached.acquire(blocking=False)
        assert await store.write(count_up) == 1, "a writer does not wait for readers"
        gate.let_go()
        results = await asyncio.gather(*reading)
        assert set(results[:MAX_READ_CONNECTIONS]) == {0}
        assert len(store._idle_readers) <= MAX_READ_CONNECTIONS


async def test_failing_query_reaches_its_caller_and_breaks_nothing(tmp_path: Path) -> None:
    def query(reader: Reader) -> None:
        raise StateConflict(reason="query")

    def bug(reader: Reader) -> object:
        return reader.row("there is no such query")

    async with Setting(tmp_path).opened() as store:
        for _ in range(2 * MAX_READ_CONNECTIONS):
            with pytest.raises(StateConflict):
                await store.read(query)
            with pytest.raises(KeyError):
                await store.read(bug)
            with pytest.raises(KeyError):
                store.read_now(bug)
        assert await store.read(numbers_told) == []


async def test_close_waits_for_readers_and_refuses_later_ones(tmp_path: Path) -> None:
    gate = Gate()
    async with Setting(tmp_path).opened() as store:
        reading = asyncio.ensure_future(store.read(gate))
        await gate.wait()
        closing = asyncio.ensure_future(store.close())
        await turns()
        with pytest.raises(StoreFailed):
            await store.read(numbers_told)
        assert not closing.done()
        gate.let_go()
        assert await reading == 0
        await closing


async def test_closed_store_leaves_one_file_and_a_signed_log(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    async with setting.opened() as store:
        await store.write(state_and_evidence(1))
        await asyncio.gather(*(store.read(numbers_told) for _ in range(10)))
        await store.write(state_and_evidence(2))
    assert os.listdir(tmp_path) == ["state.db"]
    async with setting.opened() as store:
        events = store.read_now(lambda reader: check_log(reader, KEY.verifier_key))
        assert events[-1].type == "meta.checkpoint_signed"
        assert events[-1].payload["tree_size"] == len(events) - 1


# ── a disk in trouble ──────────────────────────────────────────────────────────────────────────────────────


@requirement("recorder.disk_full.fails_whole")
async def test_new_work_is_refused_below_the_reserve_and_outcomes_are_not(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.free = lambda _: MIN_FREE_BYTES - 1
    async with setting.opened() as store:
        results = await asyncio.gather(
            store.write(state_and_evidence(1)),
            store.write(state_and_evidence(2), outcome=True),
            store.write(state_and_evidence(3)),
            return_exceptions=True,
        )
        assert [getattr(one, "code", one) for one in results] == ["HSK-507-STORE", 2, "HSK-507-STORE"]
        assert store.read_now(numbers_told) == [2]
        setting.free = lambda _: MIN_FREE_BYTES
        with pytest.raises(StoreFailed):
            await store.write(state_and_evidence(4))
        setting.clock.advance(US_PER_S)
        assert await store.write(state_and_evidence(5)) == 5


@requirement("recorder.disk_full.fails_whole")
async def test_disk_that_does_not_tell_its_room_counts_as_full(tmp_path: Path) -> None:
    def broken(_: Path) -> int:
        raise OSError(5, "broken")

    setting = Setting(tmp_path)
    setting.free = broken
    async with setting.opened() as store:
        with pytest.raises(StoreFailed) as refused:
            await store.write(state_and_evidence(1))
        assert refused.value.context["reason"] == "disk_nearly_full"
        assert await store.write(state_and_evidence(2), outcome=True) == 2


@requirement("recovery.batch.rollback_is_whole", "recorder.disk_full.fails_whole")
@pytest.mark.parametrize("trouble", [Disk.fill_at, Disk.break_at], ids=["full", "broken"])
async def test_group_on_a_disk_in_trouble_is_done_once_or_not_at_all(
    trouble: Callable[[Disk, int], None], tmp_path: Path
) -> None:
    refused = 0
    for operation in range(40):
        disk = Disk(tmp_path / f"{operation}")
        async with Setting(tmp_path, disk=disk).opened() as store:
            await store.write(state_and_evidence(0))
            trouble(disk, disk.operations + 1 + operation)
            waiting = list(range(1, 30))
            while waiting:
                group = waiting[:7]
                results = await asyncio.gather(
                    *(store.write(state_and_evidence(value)) for value in group), return_exceptions=True
                )
                done = [one for one in results if isinstance(one, int)]
                assert sorted(store.read_now(numbers_told)[-len(done) :]) == done or not done
                failures = [one for one in results if not isinstance(one, int)]
                assert all(isinstance(one, StoreFailed) for one in failures)
                refused += len(failures)
                waiting = [value for value in waiting if value not in done]
                if failures:
                    disk.lift()
            assert sorted(store.read_now(numbers_told)) == list(range(30))
            store.read_now(lambda reader: check_log(reader, KEY.verifier_key))
            disk.lift()
    assert refused > 40


async def test_a_callback_that_raises_keeps_nobody_from_an_answer(tmp_path: Path) -> None:
    seen: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, told: seen.append(str(told["exception"])))

    def broken(value: int) -> None:
        raise RuntimeError("a bug")

    async with Setting(tmp_path).opened() as store:
        async with asyncio.timeout(60):
            first, second = await asyncio.gather(store.write(lambda tx: 1, then=broken), store.write(lambda tx: 2))
    assert (first, second) == (1, 2)
    assert seen == ["callbacks of a commit (1 sub-exception)"]
