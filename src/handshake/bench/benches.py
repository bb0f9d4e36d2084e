"""Benches: all of them by name, and one run of one or all, from the peers to the result that is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from handshake.bench import gate, recorder, report, scheduler, simulator, start
from handshake.bench.figure import TABLE, Figure, Result
from handshake.bench.machine import machine
from handshake.bench.peers import environment
from handshake.bench.peers.environment import PeerDecisions, PeerRuns
from handshake.bench.workbench import Workbench


class Peers(NamedTuple):
    """What others do: queues with runs, policy engines with decisions."""

    runs: Mapping[str, PeerRuns] = {}
    decisions: Mapping[str, PeerDecisions] = {}


BENCHES: dict[str, Callable[[Workbench, Peers], dict[str, Figure]]] = {
    "scheduler": lambda bench, peers: scheduler.measure(bench, peers.runs),
    "gate": lambda bench, peers: gate.measure(bench, peers.decisions),
    "recorder": lambda bench, peers: recorder.measure(bench),
    "start": lambda bench, peers: start.measure(bench),
    "simulator": lambda bench, peers: simulator.measure(bench),
}


def measure(name: str, bench: Workbench, *, with_peers: bool) -> Result:
    """Run one bench, or all of them; keep the result in the folder for results, and return it.

    Args:
        name: a key of `BENCHES`, or `all`.
        bench: how much is measured, and where.
        with_peers: whether the peers that are installed are measured too.
    """
    chosen = [one for one in BENCHES if name in ("all", one)]
    notes: list[str] = []
    peers = Peers()
    if with_peers and "scheduler" in chosen:
        peers = peers._replace(runs=environment.measure(bench, notes.append))
    if with_peers and "gate" in chosen:
        peers = peers._replace(decisions=environment.measure_decisions(bench, notes.append))
    found: dict[str, Figure] = {}
    for one in chosen:
        found |= BENCHES[one](bench, peers)
    figures = {key: found[key] for key in TABLE if key in found}
    result = Result(bench=name, machine=machine(bench), figures=figures, notes=tuple(notes))
    (bench.results / f"{name}.json").write_bytes(report.as_json(result))
    return result
