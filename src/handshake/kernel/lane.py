"""Lanes: classes of service, and the stride passes by which they share slots.

Every lane has a pass. Of the lanes that can start a run, the one with the lowest pass goes next; then its pass
grows by a stride that is the smaller the greater its weight. Virtual time follows the lowest pass of those that
could go. A lane that had nothing to run comes back at virtual time, so idling saves no credit. One that waits for
slots of its own keeps its place before those that went on meanwhile, but pays for its dispatch as of virtual
time, so waiting saves it one dispatch and not more.

Source:
    01 §5; C. A. Waldspurger, W. E. Weihl, "Stride Scheduling", MIT/LCS/TM-528, 1995.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

STRIDE_UNIT = 5_040
"""Divided by a weight to give a stride; divisible by 1 to 10, so that usual weights share exactly."""

MAX_WEIGHT = STRIDE_UNIT


class Lane(StrEnum):
    """The class of service of a run."""

    PRIMARY = "PRIMARY"
    VALIDATION = "VALIDATION"
    SUBAGENT = "SUBAGENT"
    BACKGROUND = "BACKGROUND"


LANES = tuple(Lane)
"""All lanes, in the order that breaks ties."""

_RANK = {lane: rank for rank, lane in enumerate(LANES)}


def stride(weight: int) -> int:
    """Return by how much one dispatch moves the pass of a lane of this weight, 1 ≤ weight ≤ `MAX_WEIGHT`."""
    return STRIDE_UNIT // weight


def rejoin(own_pass: int, virtual_time: int) -> int:
    """Return the pass with which a lane comes back after it had nothing to run."""
    return max(own_pass, virtual_time)


def charge(own_pass: int, virtual_time: int, *, weight: int) -> int:
    """Return the pass of a lane after a dispatch; what its reserve let it take too early is forgiven soon."""
    return min(max(own_pass, virtual_time) + stride(weight), virtual_time + STRIDE_UNIT)


def next_lane(admissible: Iterable[Lane], passes: Mapping[Lane, int]) -> Lane | None:
    """Return the admissible lane with the lowest pass, ties by rank; None if there is none."""
    return min(admissible, key=lambda lane: (passes[lane], _RANK[lane]), default=None)


def may_take(lane: Lane, *, running: int, primary: int, limit: int, reserved: int) -> bool:
    """Return whether `lane` may take one more of `limit` global slots, of which `reserved` are kept for PRIMARY.

    The other lanes together never hold the reserve. Whether PRIMARY uses it now does not matter: were the last
    free slot PRIMARY's alone, a PRIMARY load that never ends would keep every other lane out.

    Args:
        lane: who asks.
        running: runs in progress, of all lanes.
        primary: how many of them are PRIMARY's.
        limit: all slots.
        reserved: below `limit`.

    Source:
        scheduler.lane.primary_never_starves (INV-SCHED-005), scheduler.lane.low_lanes_progress (01 §5).
    """
    return running < limit and (lane is Lane.PRIMARY or running - primary < limit - reserved)
