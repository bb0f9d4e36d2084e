"""Environment: where a peer is installed, on demand, and its program run as a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from bench.machine import RESULTS, scratch
from bench.plan import Plan

PEERS = {"dbos": "dbos_queue.py", "huey": "huey_queue.py"}
"""Peers by their package's name, with the program that works them."""
ENVIRONMENTS = RESULTS / "peers-venv"
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


def install(say: Callable[[str], None]) -> None:
    """Make an environment for each peer and install it there by its name."""
    for peer in PEERS:
        folder = ENVIRONMENTS / peer
        say(f"installing {peer}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(_interpreter(peer)), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", peer]
        subprocess.run(pip, check=True)


def measure(plan: Plan, say: Callable[[str], None]) -> dict[str, PeerRuns]:
    """Return what each peer does; one that is not installed or fails is left out, and told of."""
    found = {}
    for peer, program in PEERS.items():
        if not _interpreter(peer).exists():
            say(f"{peer} is not installed here: `python -m bench peers-install`")
            continue
        try:
            with scratch() as folder:
                found[peer] = _run(peer, program, folder, plan)
        except (subprocess.SubprocessError, msgspec.MsgspecError) as broken:
            say(f"{peer} did not finish: {type(broken).__name__}")
            continue
        one = found[peer]
        say(f"{peer} {one.version} on SQLite {one.sqlite}")
    return found


def _run(peer: str, program: str, folder: Path, plan: Plan) -> PeerRuns:
    command = [
        str(_interpreter(peer)), str(Path(__file__).parent / program),
        "--folder", str(folder), "--runs", str(plan.peer_runs), "--in-flight", str(plan.in_flight),
        "--alone", str(plan.peer_alone),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, check=True, timeout=_LIMIT_S)
    return msgspec.json.decode(done.stdout.strip().rsplit(b"\n", 1)[-1], type=PeerRuns)


def _interpreter(peer: str) -> Path:
    return ENVIRONMENTS / peer / "bin" / "python"
