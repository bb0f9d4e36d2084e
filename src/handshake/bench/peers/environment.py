"""Environment: where a peer is installed by whoever wants it, and its program run as a process of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from handshake.bench.workbench import Workbench

T = TypeVar("T", "PeerRuns", "PeerDecisions")

PEERS = {"dbos": "dbos_queue.py", "huey": "huey_queue.py"}
"""Queues by their package's name, with the program that works them."""
DECIDERS = {"casbin": "casbin_decision.py", "cedarpy": "cedar_decision.py"}
"""Policy engines, likewise."""
_LIMIT_S = 120
"""A peer that takes longer is left out."""


class PeerRuns(msgspec.Struct, frozen=True):
    """What a peer's program tells: the same figures as ours, and what it ran on."""

    peer: str
    version: str
    sqlite: str
    runs_per_s: float
    start_ms: float
    durable_ms: float


class PeerDecisions(msgspec.Struct, frozen=True):
    """What a policy engine's program tells: microseconds for one decision, by the number of grants."""

    peer: str
    version: str
    decide_us: dict[int, float]


def home_of(peer: str, results: Path) -> Path:
    """Return the folder of a peer's environment below the folder for results."""
    return results / "peers" / peer


def measure(bench: Workbench, note: Callable[[str], None]) -> dict[str, PeerRuns]:
    """Return what each queue does; `note` hears what it ran on, or why one is left out."""
    plan = bench.plan
    given = {"--runs": plan.peer_runs, "--in-flight": plan.in_flight, "--alone": plan.peer_alone}
    options = [word for name, count in given.items() for word in (name, str(count))]
    found = {}
    for peer, program in PEERS.items():
        one = _told(bench, peer, program, options, PeerRuns, note)
        if one is not None:
            note(f"{peer} {one.version} on SQLite {one.sqlite}")
            found[peer] = one
    return found


def measure_decisions(bench: Workbench, note: Callable[[str], None]) -> dict[str, PeerDecisions]:
    """Return what each policy engine takes; `note` hears how it grows, or why one is left out."""
    plan = bench.plan
    options = ["--decisions", str(plan.peer_decisions), "--grants", ",".join(map(str, plan.grants))]
    found = {}
    for peer, program in DECIDERS.items():
        one = _told(bench, peer, program, options, PeerDecisions, note)
        if one is not None:
            grown = ", ".join(f"{count}: {took:.4g} µs" for count, took in sorted(one.decide_us.items()))
            note(f"{peer} {one.version}, one decision by number of grants: {grown}")
            found[peer] = one
    return found


def _told(
    bench: Workbench, peer: str, program: str, options: list[str], kind: type[T], note: Callable[[str], None]
) -> T | None:
    """Return what a peer's program tells, or None if it is not installed or does not finish."""
    home = home_of(peer, bench.results)
    if not _interpreter(home).exists():
        note(f"{peer} is left out; for it: `python -m venv {home} && {home}/bin/pip install {peer}`")
        return None
    bench.say(f"peers: {peer}")
    try:
        with bench.scratch() as folder:
            called: list[str] = [str(_interpreter(home).absolute()), str(Path(__file__).parent / program)]
            words = [*called, "--folder", str(folder), *options]
            done = subprocess.run(words, cwd=folder, stdout=subprocess.PIPE, check=True, timeout=_LIMIT_S)
            return msgspec.json.decode(done.stdout.strip().rsplit(b"\n", 1)[-1], type=kind)
    except (subprocess.SubprocessError, msgspec.MsgspecError) as broken:
        note(f"{peer} did not finish: {type(broken).__name__}")
        return None


def _interpreter(home: Path) -> Path:
    return home / "bin" / "python"
