"""Simulator: the real runtime on virtual time and one seed, with scripted providers and faults, checked each step."""

from __future__ import annotations

from handshake.testing.simulator.kept_seed import KeptSeed, keep, read_kept
from handshake.testing.simulator.scenario_file import load, shipped
from handshake.testing.simulator.simulation import Failure, Verdict, simulate
from handshake.testing.simulator.violation import Violation

__all__ = [
    "Failure",
    "KeptSeed",
    "Verdict",
    "Violation",
    "keep",
    "load",
    "read_kept",
    "shipped",
    "simulate",
]
