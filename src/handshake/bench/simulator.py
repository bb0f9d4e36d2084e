"""Simulator bench: how fast simulated time passes under light load, and how many seeds a core gets through."""

from __future__ import annotations

import gc
import time

from handshake.bench.figure import Figure, figure
from handshake.bench.workbench import Workbench
from handshake.testing.simulator import load, simulate
from handshake.testing.simulator.scenario import Scenario
from handshake.testing.simulator.simulation import hours

LIGHT = "quiet"
STANDARD = "standard"


def measure(bench: Workbench) -> dict[str, Figure]:
    """Measure every figure of the simulator, each round with seeds of its own."""
    plan = bench.plan
    light, standard = load(LIGHT), load(STANDARD)
    _simulated(light, 0, 1)  # the first of them loads modules and compiles queries
    passing, seeds = [], []
    for number in range(plan.rounds):
        bench.say(f"simulator: round {number + 1} of {plan.rounds}")
        took_s, simulated_h = _simulated(light, number, 1)
        passing.append(simulated_h / took_s)
        took_s, _ = _simulated(standard, number * plan.seeds, plan.seeds)
        seeds.append(plan.seeds / took_s)
    return {"simulated_hours": figure("simulated_hours", passing), "seeds": figure("seeds", seeds)}


def _simulated(scenario: Scenario, first_seed: int, count: int) -> tuple[float, float]:
    """Return the seconds that some seeds took, and the hours that passed in them."""
    gc.collect()
    passed_h = 0.0
    begun = time.perf_counter()
    for seed in range(first_seed, first_seed + count):
        verdict = simulate(scenario, seed)
        if not verdict.passed:
            raise RuntimeError(
                f"a promise did not hold: handshake simulate --scenario {scenario.name} --first-seed {seed}"
            )
        passed_h += hours(verdict.virtual_us)
    return time.perf_counter() - begun, passed_h
