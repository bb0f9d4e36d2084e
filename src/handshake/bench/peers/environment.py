"""Environment: where a peer is installed by whoever wants it, and its program run as a process of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec

from handshake.bench.plan import Plan
from handshake.bench.workbench import Workbench

PEERS = {"dbos": "dbos_queue.py", "huey": "huey_queue.py"}
"""Peers by their package's name, with the program that works them."""
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


def home_of(peer: str, results: Path) -> Path:
    """Return the folder of a peer's environment below the folder for results."""
    return results / "peers" / peer


def measure(bench: Workbench, note: Callable[[str], None]) -> dict[str, PeerRuns]:
    """Return what each peer does; `note` hears what it ran on, or why one is left out."""
    found = {}
    for peer, program in PEERS.items():
        home = home_of(peer, bench.results)
        if not _interpreter(home).exists():
            note(f"{peer} is left out; for it: `python -m venv {home} && {home}/bin/pip install {peer}`")
            continue
        bench.say(f"peers: {peer}")
        try:
            with bench.scratch() as folder:
                found[peer] = _run(_interpreter(home), program, folder, bench.plan)
        except (subprocess.SubprocessError, msgspec.MsgspecError) as broken:
            note(f"{peer} did not finish: {type(broken).__name__}")
            continue
        one = found[peer]
        note(f"{peer} {one.version} on SQLite {one.sqlite}")
    return found


def _run(interpreter: Path, program: str, folder: Path, plan: Plan) -> PeerRuns:
    command = [
        str(interpreter.absolute()), str(Path(__file__).parent / program),
        "--folder", str(folder), "--runs", str(plan.peer_runs), "--in-flight", str(plan.in_flight),
        "--alone", str(plan.peer_alone),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, check=True, timeout=_LIMIT_S)
    return msgspec.json.decode(done.stdout.strip().rsplit(b"\n", 1)[-1], type=PeerRuns)


def _interpreter(home: Path) -> Path:
    return home / "bin" / "python"
