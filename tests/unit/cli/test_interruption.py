"""Interruption: a signal ends the scope it falls into, never what stands outside of one."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import NoReturn

import pytest

from handshake.cli.border import Interrupted
from handshake.cli.interruption import Interruption, run_async
from tests.requirement import requirement

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_scope(number: signal.Signals) -> None:
    seen = []

    async def main(interruption: Interruption) -> None:
        try:
            async with interruption.scope():
                signal.raise_signal(number)
                await asyncio.Event().wait()
        finally:
            seen.append(interruption.happened)

    with pytest.raises(Interrupted):
        run_async(main)
    assert seen == [True]


def test_outside_of_scopes_it_waits_for_the_next_one() -> None:
    done = []

    async def main(interruption: Interruption) -> None:
        interruption.note()
        done.append("committed and told")
        async with interruption.scope():
            done.append("never")

    with pytest.raises(Interrupted):
        run_async(main)
    assert done == ["committed and told"]


def test_work_goes_on_after_an_ended_scope() -> None:
    async def main(interruption: Interruption) -> str:
        try:
            async with interruption.scope():
                signal.raise_signal(signal.SIGINT)
                await asyncio.Event().wait()
        except Interrupted:
            await asyncio.sleep(0)
            async with asyncio.timeout(60):
                await asyncio.sleep(0)
            return "put in order"
        return "never"

    assert run_async(main) == "put in order"


def test_a_timeout_inside_is_none_of_its_business() -> None:
    async def main(interruption: Interruption) -> None:
        async with interruption.scope(), asyncio.timeout(0):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        run_async(main)


@pytest.mark.parametrize("returned", [1, None])
def test_without_a_signal_the_result_comes_back(returned: int | None) -> None:
    async def main(interruption: Interruption) -> int | None:
        async with interruption.scope():
            return returned

    assert run_async(main) == returned


def test_signals_are_what_they_were_afterwards() -> None:
    def now() -> list[Callable[..., object] | int | None]:
        return [signal.getsignal(number) for number in SIGNALS]

    async def main(interruption: Interruption) -> None:
        return None

    before = now()
    run_async(main)
    assert now() == before


def test_a_second_signal_ends_the_process_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(code: int) -> NoReturn:
        raise SystemExit(code)

    monkeypatch.setattr("os._exit", leave)
    interruption = Interruption()
    interruption.note()
    with pytest.raises(SystemExit) as left:
        interruption.note()
    assert left.value.code == 130


@requirement("scheduler.draining.finishes")
async def test_a_sigterm_lets_work_that_can_drain_go_on_for_a_while() -> None:
    interruption, drained = Interruption(), list[int]()
    interruption.drains(lambda: drained.append(1), 60)
    async with interruption.scope():
        interruption.note(signal.SIGTERM)
        await asyncio.sleep(0)
        assert (drained, interruption.happened, interruption.is_draining) == ([1], True, True)


@requirement("scheduler.draining.finishes")
@pytest.mark.parametrize(("number", "drains"), [(signal.SIGTERM, True), (signal.SIGINT, False), (signal.SIGHUP, False)])
async def test_only_a_sigterm_drains_and_not_for_ever(number: signal.Signals, drains: bool) -> None:
    interruption, drained = Interruption(), list[int]()
    interruption.drains(lambda: drained.append(1), 0)

    async def work() -> None:
        async with interruption.scope():
            interruption.note(number)
            await asyncio.Event().wait()

    with pytest.raises(Interrupted):
        await work()
    assert (bool(drained), interruption.is_draining) == (drains, drains)


async def test_a_sigterm_that_came_before_the_scope_leaves_it_time_to_drain() -> None:
    interruption = Interruption()
    drained: list[bool] = []
    interruption.drains(lambda: drained.append(True), 0)
    interruption.note(signal.SIGTERM)
    assert drained == [True]
    with pytest.raises(Interrupted):
        async with interruption.scope():
            await asyncio.Event().wait()
    patient = Interruption()
    patient.drains(lambda: None, 600)
    patient.note(signal.SIGTERM)
    async with patient.scope():
        await asyncio.sleep(0)
