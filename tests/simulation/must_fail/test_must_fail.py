"""Must fail: each rule that is broken on purpose is noticed within few seeds, under the name of its promise."""

from __future__ import annotations

import pytest

from handshake.testing.simulator import load, simulate
from tests.simulation.must_fail import scheduling, sessions, spending, surviving
from tests.simulation.must_fail.mutant import MUTANTS
from tests.structure.test_requirements import promised

LEAST = 20
PARTS = (sessions, scheduling, spending, surviving)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_rule_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = MUTANTS[name]
    scenario = load(mutant.scenario)
    with monkeypatch.context() as patch:
        mutant.break_it(patch)
        verdicts = (simulate(scenario, seed) for seed in range(1, 1 + mutant.seeds))
        failure = next((verdict.failure for verdict in verdicts if verdict.failure is not None), None)
    assert failure is not None, f"{name} was not noticed in {mutant.seeds} seeds"
    assert failure.requirement in mutant.promises, failure


@pytest.mark.parametrize("name", sorted({mutant.scenario for mutant in MUTANTS.values()}))
def test_the_same_seeds_hold_unbroken(name: str) -> None:
    scenario = load(name)
    seeds = max(mutant.seeds for mutant in MUTANTS.values() if mutant.scenario == name)
    assert [simulate(scenario, seed).failure for seed in range(1, 1 + seeds)] == [None] * seeds


def test_there_are_enough_and_each_names_promises() -> None:
    assert len(MUTANTS) >= LEAST
    assert sum(name in dir(part) for part in PARTS for name in MUTANTS) == len(MUTANTS)
    assert {one for mutant in MUTANTS.values() for one in mutant.promises} - promised() == set()
