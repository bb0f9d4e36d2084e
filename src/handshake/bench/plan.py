"""Plan: how much is measured, so that all takes some minutes, or half a minute, or a blink in a test."""

from __future__ import annotations

import msgspec

IN_FLIGHT = 64
"""Clients that each wait for their run; also the units that share a commit."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of one run of the benches."""

    rounds: int
    """Times that a figure and its floor are measured in turn."""
    in_flight: int
    runs: int
    """Runs of one round."""
    alone: int
    """Runs of one round, one at a time."""
    sizes: tuple[int, ...]
    """Lengths of the queue."""
    sessions: int
    """Sessions over which each queue is spread: at most as many as a workspace may have open by default."""
    crowds: tuple[int, ...]
    """Numbers of open sessions."""
    beside: int
    """Runs that are enqueued or started at once beside each queue: as many as the shortest holds."""
    cycles: int
    """Times that `beside` runs are enqueued and started beside each queue, and carried out in each crowd."""
    index_steps: int
    """Runs taken from and added to the index in one round."""
    events: int
    """Events of one round."""
    verified_events: int
    """Events of the log that is verified, at least."""
    starts: int
    """Processes started for one figure."""
    idle_sessions: int
    """Sessions whose memory is measured."""
    seeds: int
    """Seeds of the standard scenario in one round."""
    grants: tuple[int, ...]
    """Numbers of grants that one session holds."""
    decisions: int
    """Decisions of one round, for each number of grants."""
    calls: int
    """Calls of tools in one round."""
    peer_runs: int
    peer_alone: int
    peer_decisions: int


FULL = Plan(
    rounds=3,
    in_flight=IN_FLIGHT,
    runs=4_800,
    alone=300,
    sizes=(10, 100, 1_000, 10_000, 100_000),
    sessions=10_000,
    crowds=(10, 100, 1_000, 10_000, 100_000),
    beside=10,
    cycles=60,
    index_steps=4_000,
    events=65_536,
    verified_events=200_000,
    starts=10,
    idle_sessions=10_000,
    seeds=20,
    grants=(10, 200, 1_000),
    decisions=20_000,
    calls=6_400,
    peer_runs=1_000,
    peer_alone=100,
    peer_decisions=500,
)
QUICK = Plan(
    rounds=1,
    in_flight=IN_FLIGHT,
    runs=1_920,
    alone=60,
    sizes=(10, 1_000),
    sessions=1_000,
    crowds=(10, 1_000),
    beside=10,
    cycles=20,
    index_steps=1_000,
    events=16_384,
    verified_events=16_384,
    starts=3,
    idle_sessions=1_000,
    seeds=4,
    grants=(10, 200, 1_000),
    decisions=5_000,
    calls=1_920,
    peer_runs=256,
    peer_alone=10,
    peer_decisions=100,
)
SMALLEST = Plan(
    rounds=1,
    in_flight=4,
    runs=8,
    alone=2,
    sizes=(4, 8),
    sessions=4,
    crowds=(4, 8),
    beside=4,
    cycles=1,
    index_steps=8,
    events=64,
    verified_events=64,
    starts=1,
    idle_sessions=8,
    seeds=1,
    grants=(2, 4),
    decisions=8,
    calls=8,
    peer_runs=8,
    peer_alone=2,
    peer_decisions=4,
)
"""Shows that every figure is still measured, not how good it is."""
