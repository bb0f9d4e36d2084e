"""Tests of the order's rows: what a gate owes comes back as it was, by whichever clock leads to it."""

from __future__ import annotations

import pytest

from handshake.bootstrap import limits_of
from handshake.kernel.bucket import UNITS_PER_ONE, Bucket
from handshake.kernel.lane import LANES
from handshake.kernel.queue import RunQueue
from handshake.kernel.rate import Gate
from handshake.kernel.retry import RETRY_AFTER_MAX_MS
from handshake.operations import order
from handshake.operations.order import Instant
from handshake.ports.store import Tx
from tests.requirement import requirement
from tests.running import Stage

GATE = Gate(Bucket(3 * UNITS_PER_ONE, 40), Bucket(50, 60), 900)
STORED = Instant(now_us=100, wall_us=5_000, epoch=7)


async def read_at(at: Instant, gate: Gate = GATE) -> Gate:
    """Store a gate at `STORED`, and return it as an index that is filled at `at` has it."""
    stage = await Stage.open(dispatch=False)
    queue = RunQueue(limits_of(stage.settings), dict.fromkeys(LANES, 1))
    queue.admission.rates.restore("p", gate)
    queue.close_provider("p", 1)
    queue.wake(0)

    def unit(tx: Tx) -> Gate:
        order.store(tx, queue, STORED)
        queue.clear()
        order.restore(tx, queue, at)
        queue.close_provider("p", 1)
        queue.wake(0)
        return queue.admission.rates.drain_dirty()["p"]

    return await stage.store.write(unit)


@requirement("scheduler.rate.survives_restart", "recovery.clock.jumps_are_harmless")
@pytest.mark.parametrize("wall_us", [5_200, 9_000_000, 0])
async def test_in_the_same_runtime_a_gate_comes_back_to_the_microsecond(wall_us: int) -> None:
    assert await read_at(Instant(300, wall_us, 7)) == GATE


@requirement("scheduler.rate.survives_restart")
async def test_a_later_runtime_has_the_same_gate_by_its_own_clock() -> None:
    found = await read_at(Instant(10_000, 5_200, 8))
    assert found == Gate(Bucket(3 * UNITS_PER_ONE, 9_740), Bucket(50, 9_760), 10_600)


@requirement("scheduler.rate.survives_restart")
async def test_a_wall_clock_that_stands_before_the_rows_freezes_nothing() -> None:
    found = await read_at(Instant(10_000, 1_000, 8))
    assert found == Gate(Bucket(3 * UNITS_PER_ONE, 10_000), Bucket(50, 10_000), 14_800)
    forever = await read_at(Instant(10_000, 1_000, 8), Gate(closed_until_us=10**15))
    assert forever.closed_until_us == 10_000 + RETRY_AFTER_MAX_MS * 1_000
