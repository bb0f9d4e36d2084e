"""Scenarios: every shipped one holds every promise, with a few seeds here and many in `make simulate`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from handshake.testing.simulator import load, read_kept, shipped, simulate
from tests.requirement import requirement

SEEDS = 2
KEPT = Path(__file__).parent / "seeds"
_HISTORY = """
import json
from handshake.testing.simulator import load, simulate
print(json.dumps([simulate(load("standard"), seed).history for seed in (41, 42)]))
"""


@pytest.mark.parametrize("seed", range(1, 1 + SEEDS))
@pytest.mark.parametrize("name", shipped())
def test_a_shipped_scenario_holds(name: str, seed: int) -> None:
    verdict = simulate(load(name), seed)
    assert verdict.passed, verdict.failure
    assert verdict.jobs > 0


def test_every_seed_that_failed_once_holds() -> None:
    for path in sorted(KEPT.glob("*.toml")):
        kept = read_kept(path)
        verdict = simulate(load(kept.scenario), kept.seed)
        assert verdict.passed, (path.name, verdict.failure)


@requirement("scheduler.order.is_deterministic", "scheduler.cancel.is_deterministic")
def test_the_same_seed_gives_the_same_history_in_another_process() -> None:
    """Whatever order the hashes of strings give to sets, what happens is the same."""
    histories = []
    for hash_seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", _HISTORY],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        histories.append(json.loads(run.stdout))
    here = [simulate(load("standard"), seed).history for seed in (41, 42)]
    assert histories == [here, here]
    assert here[0] != here[1]
