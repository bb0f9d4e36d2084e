"""Must fail: each rule that is broken on purpose is noticed within few seeds, under the name of its promise."""

from __future__ import annotations

import re
import tomllib

import pytest

from handshake.testing.simulator import load, simulate
from tests.simulation.must_fail import scheduling, sessions, spending, surviving, tooling
from tests.simulation.must_fail.mutant import MUTANTS
from tests.structure.test_requirements import PROMISES, built, promised
from tests.structure.tree import python_files, text

LEAST = 20
ID = re.compile(r'"((?:session|message|scheduler|recovery|recorder)\.[a-z_]+(?:\.[a-z_]+)?)"')
OF_MANY_RUNS = {
    "scheduler.cancel.is_deterministic",
    "scheduler.order.is_deterministic",
    "session.state.mapping_total",
}
"""Promises about all runs together; the histories of one seed in two processes, and laws of the kernel, prove them."""
EVENT_TYPES = frozenset({"session.message", "session.created", "session.completed", "session.state_change"})
"""Look like promises, and are types of events."""
PARTS = (sessions, scheduling, spending, surviving, tooling)


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


def test_every_hard_promise_is_checked_by_name() -> None:
    """Those of the areas and parts built so far, but for what is not of one run: the same seed shows that it is so."""
    areas = ("session", "message", "scheduler", "recovery", "recorder")
    tables = tomllib.loads(text(PROMISES))
    hard = {one for area in areas for one, said in tables[area].items() if said.endswith(" hard")}
    checked = {one for path in python_files("src/handshake/testing/simulator") for one in ID.findall(text(path))}
    assert (hard & built()) - checked == OF_MANY_RUNS
    assert {one for one in checked if one.partition(".")[0] in areas} - promised() - EVENT_TYPES == set()


def test_there_are_enough_and_each_names_promises() -> None:
    assert len(MUTANTS) >= LEAST
    assert sum(name in dir(part) for part in PARTS for name in MUTANTS) == len(MUTANTS)
    assert {one for mutant in MUTANTS.values() for one in mutant.promises} - promised() == set()
