"""Scheduler bench: durable runs, alone and 64 at a time, beside queues of any length, against floor and peers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from handshake.bench import floor, growth, lifecycle
from handshake.bench.crowd import crowds
from handshake.bench.figure import Figure, figure, median
from handshake.bench.peers.environment import PeerRuns
from handshake.bench.plan import Plan
from handshake.bench.workbench import Workbench, run

_MS = 1_000.0


class _Rounds:
    """What the rounds gave so far."""

    def __init__(self, plan: Plan) -> None:
        self.free: list[lifecycle.Throughput] = []
        self.behind: list[lifecycle.Throughput] = []
        self.limited: list[lifecycle.Throughput] = []
        self.gate: list[lifecycle.Throughput] = []
        self.floors: list[float] = []
        self.start: list[float] = []
        self.durable: list[float] = []
        self.alone_floors: list[float] = []
        self.costs: dict[int, list[growth.Costs]] = {size: [] for size in plan.sizes}
        self.fresh: list[growth.Costs] = []
        self.index: dict[int, list[float]] = {size: [] for size in plan.sizes}
        self.crowds: dict[int, list[float]] = {count: [] for count in plan.crowds}


def measure(bench: Workbench, peers: Mapping[str, PeerRuns]) -> dict[str, Figure]:
    """Measure every figure of the scheduler, each round in turn with its floor."""
    plan = bench.plan
    rounds = _Rounds(plan)
    with bench.scratch() as folder:
        run(_all_rounds(folder, bench, rounds))
    bench.say("scheduler: the index alone")
    indexes = {size: growth.Index(size) for size in plan.sizes}
    for _ in range(plan.rounds):
        for size, index in indexes.items():
            rounds.index[size].append(index.step_us(plan.index_steps))
    return _figures(rounds, peers)


async def _all_rounds(folder: Path, bench: Workbench, rounds: _Rounds) -> None:
    plan = bench.plan
    bench.say(f"scheduler: filling queues of up to {max(plan.sizes)} runs")
    together = await floor.record_runs(folder / "together", plan, in_flight=plan.in_flight, count=plan.runs)
    single = await floor.record_runs(folder / "single", plan, in_flight=1, count=plan.alone)
    longest = growth.Filled(folder / "longest", plan)
    await longest.fill(max(plan.sizes))
    fresh = growth.Filled(folder / "fresh", plan)
    await fresh.fill(min(plan.sizes))
    filled = {size: longest.shortened(folder / f"shortened-{size}", size) for size in plan.sizes[:-1]}
    filled[max(plan.sizes)] = longest
    bench.say(f"scheduler: making up to {max(plan.crowds)} sessions")
    crowded = await crowds(folder, plan)
    for number in range(plan.rounds):
        bench.say(f"scheduler: round {number + 1} of {plan.rounds}")
        here = folder / f"round-{number}"
        rounds.free.append(await lifecycle.throughput(here / "free", plan))
        rounds.floors.append(floor.play(together, here / "floor.db"))
        rounds.behind.append(await lifecycle.throughput(longest.root, plan))
        rounds.limited.append(await lifecycle.throughput(here / "limited", plan, limited=True))
        rounds.gate.append(await lifecycle.throughput(here / "gate", plan, through_gate=True))
        alone = await lifecycle.alone(here / "alone", plan)
        rounds.start.append(median(alone.to_start))
        rounds.durable.append(median(alone.to_durable))
        rounds.alone_floors.append(_MS / floor.play(single, here / "alone.db"))
        for size, workspace in filled.items():
            rounds.costs[size].append(await workspace.costs())
        rounds.fresh.append(await fresh.costs())
        for count, crowd in crowded.items():
            rounds.crowds[count].append(await crowd.run_us())


def _figures(rounds: _Rounds, peers: Mapping[str, PeerRuns]) -> dict[str, Figure]:
    runs = [*rounds.free, *rounds.behind, *rounds.limited, *rounds.gate]
    per_s = {name: one.runs_per_s for name, one in peers.items()}
    found = {
        "runs": figure("runs", [one.runs_per_s for one in rounds.free], floors=rounds.floors, peers=per_s),
        "runs_behind_queue": figure(
            "runs_behind_queue", [one.runs_per_s for one in rounds.behind], floors=rounds.floors
        ),
        "runs_limited": figure("runs_limited", [one.runs_per_s for one in rounds.limited], floors=rounds.floors),
        "runs_through_gate": figure("runs_through_gate", [one.runs_per_s for one in rounds.gate], floors=rounds.floors),
        "events_per_run": figure("events_per_run", [min(one.events_per_run for one in runs)]),
        "commits_per_run": figure("commits_per_run", [min(one.commits_per_run for one in runs)]),
        "runs_per_commit": figure("runs_per_commit", [one.runs_per_commit for one in rounds.free]),
        "alone_start": figure("alone_start", rounds.start, peers={name: one.start_ms for name, one in peers.items()}),
        "alone_durable": figure(
            "alone_durable",
            rounds.durable,
            floors=rounds.alone_floors,
            peers={name: one.durable_ms for name, one in peers.items()},
        ),
    }
    choosing = {size: [one.choose_us for one in costs] for size, costs in rounds.costs.items()}
    enqueueing = {size: [one.enqueue_us for one in costs] for size, costs in rounds.costs.items()}
    found["choose_growth"] = _growth("choose_growth", choosing)
    found["enqueue_growth"] = _growth("enqueue_growth", enqueueing)
    found["history_growth"] = _history(rounds.fresh, rounds.costs[min(rounds.costs)])
    found["index_growth"] = _growth("index_growth", rounds.index)
    found["sessions_growth"] = _growth("sessions_growth", rounds.crowds)
    restarts = {size: [one.restart_ms for one in costs] for size, costs in rounds.costs.items()}
    found["restart"] = figure(
        "restart",
        [one / _MS for one in restarts[max(restarts)]],
        by_size={size: median(took) for size, took in restarts.items()},
    )
    return found


def _growth(name: str, by_size: Mapping[int, list[float]]) -> Figure:
    """Return the ratio between the largest and the smallest size, of each round's own measurements."""
    ratios = [large / small for small, large in zip(by_size[min(by_size)], by_size[max(by_size)], strict=True)]
    return figure(name, ratios, by_size={size: median(rounds) for size, rounds in by_size.items()})


def _history(fresh: list[growth.Costs], filled: list[growth.Costs]) -> Figure:
    """Return what the same queue costs in a workspace that holds as many runs of the past as the longest queue."""
    ratios = [
        (many.choose_us + many.enqueue_us) / (few.choose_us + few.enqueue_us)
        for few, many in zip(fresh, filled, strict=True)
    ]
    return figure("history_growth", ratios)
