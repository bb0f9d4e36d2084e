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


@requirement(
    "capability.default.denies", "capability.session.intersection", "gate.approval.bound_to_call",
    "gate.event.on_every_path", "gate.result.correlated", "gate.tools.single_door", "recovery.tools.reevaluated",
    "scheduler.tools.resume_without_second_call",
    "message.append.is_atomic", "message.content.only_in_artifacts", "message.thread.rebuilds_same_bytes",
    "recorder.atomic", "recorder.disk_full.fails_whole", "recorder.log.verifies", "recorder.schema.enforced",
    "recovery.batch.rollback_is_whole", "recovery.clock.jumps_are_harmless", "recovery.kill.loses_nothing",
    "recovery.lease.late_result_is_fenced",
    "recovery.outcome.never_lost", "recovery.power_loss.loses_nothing",
    "recovery.start.dispatches_queue", "recovery.start.stalls_orphans",
    "scheduler.budget.reserved_before_dispatch", "scheduler.cancel.is_prompt", "scheduler.events.on_every_step",
    "scheduler.fairness.between_trees", "scheduler.idempotency.same_key_same_job",
    "scheduler.job.transitions_closed", "scheduler.lane.low_lanes_progress", "scheduler.lane.primary_never_starves",
    "scheduler.limit.is_never_exceeded", "scheduler.order.follows_priority_then_sequence", "scheduler.path.is_single",
    "scheduler.queue.never_drops", "scheduler.queue.no_head_of_line_blocking", "scheduler.rate.backoff_is_logged",
    "scheduler.rate.honours_retry_after", "scheduler.rate.requests_and_tokens", "scheduler.rate.survives_restart",
    "scheduler.retry.not_after_bytes", "scheduler.retry.transient_only", "scheduler.session.head_only",
    "scheduler.timeout.is_enforced", "session.pause.keeps_queue", "session.state.active_iff_one_running",
    "session.state.is_derived", "session.state.terminal_is_sticky",
)  # fmt: skip
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
