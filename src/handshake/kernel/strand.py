"""Strand: the offered runs of one tree of sessions, and the bins in which strands stand in their order.

A bin holds what waits for the same slots in one lane. In it lies a level per priority, and in a level a strand per
tree, in order of (the tree's round, acceptance of its head).

Heaps are corrected lazily: what is no longer true is dropped when it surfaces. They are made anew before more than
half of one is untrue, so that memory follows what waits and not what once waited.
"""

from __future__ import annotations

from bisect import insort
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from handshake.kernel.ids import JobId

_SLACK = 16
"""Untrue entries that are not worth making a heap anew."""
_NOWHERE = (-1, -1)


class Tree:
    """One tree of sessions among the others of its lane and priority, while it has a run to offer."""

    __slots__ = ("offered", "round")

    def __init__(self, joins_in: int) -> None:
        self.round = joins_in
        """The round in which it goes next; it only grows."""
        self.offered = 0
        """Its runs that are offered, in all bins of the lane."""


class Head(NamedTuple):
    """The run that a bin would start first, in the order by which the bins of a lane are compared."""

    priority: int
    round: int
    enqueue_seq: int
    tree: str
    job_id: JobId


class _Strand:
    __slots__ = ("heap", "live", "place", "tree")

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.live: dict[JobId, int] = {}
        """The offered runs, with their numbers of acceptance."""
        self.heap: list[tuple[int, JobId]] = []
        self.place = _NOWHERE
        """Round and number of acceptance under which the strand stands in its level now."""

    def add(self, job_id: JobId, enqueue_seq: int) -> None:
        self.live[job_id] = enqueue_seq
        heappush(self.heap, (enqueue_seq, job_id))
        self._tidy()

    def remove(self, job_id: JobId) -> None:
        del self.live[job_id]
        self._tidy()

    def head(self) -> tuple[int, JobId]:
        while self.heap[0][1] not in self.live:
            heappop(self.heap)
        return self.heap[0]

    def _tidy(self) -> None:
        if len(self.heap) > 2 * len(self.live) + _SLACK:
            self.heap = [(seq, job_id) for job_id, seq in self.live.items()]
            heapify(self.heap)


class _Level:
    """The strands of one priority."""

    __slots__ = ("heap", "strands")

    def __init__(self) -> None:
        self.strands: dict[str, _Strand] = {}
        self.heap: list[tuple[int, int, str]] = []

    def add(self, name: str, tree: Tree, job_id: JobId, enqueue_seq: int) -> None:
        strand = self.strands.get(name)
        if strand is None:
            strand = self.strands[name] = _Strand(tree)
        strand.add(job_id, enqueue_seq)
        self._put(name, strand)

    def remove(self, name: str, job_id: JobId) -> None:
        strand = self.strands[name]
        strand.remove(job_id)
        if not strand.live:
            del self.strands[name]
            self._tidy()

    def top(self) -> tuple[int, int, str, JobId]:
        """Return round, number, tree and run of the strand that goes first; there is one."""
        while True:
            round_, seq, name = self.heap[0]
            strand = self.strands.get(name)
            if strand is not None and strand.place == (round_, seq):
                head_seq, job_id = strand.head()
                if (strand.tree.round, head_seq) == (round_, seq):
                    return round_, seq, name, job_id
                heappop(self.heap)
                self._put(name, strand)
            else:
                heappop(self.heap)

    def _put(self, name: str, strand: _Strand) -> None:
        """Enter a strand where it belongs now; what it was entered under before is no longer true."""
        place = (strand.tree.round, strand.head()[0])
        if strand.place != place:
            strand.place = place
            heappush(self.heap, (*place, name))
            self._tidy()

    def _tidy(self) -> None:
        if len(self.heap) > 2 * len(self.strands) + _SLACK:
            self.heap = [(*strand.place, name) for name, strand in self.strands.items()]
            heapify(self.heap)


class Bin:
    """The offered runs of one lane that wait for the same slots."""

    __slots__ = ("_levels", "_priorities")

    def __init__(self) -> None:
        self._levels: dict[int, _Level] = {}
        self._priorities: list[int] = []
        """Those of the levels, in order."""

    def __bool__(self) -> bool:
        """Return whether there is a run."""
        return bool(self._levels)

    def add(self, job_id: JobId, enqueue_seq: int, priority: int, name: str, tree: Tree) -> None:
        """Offer a run of the tree `name`; 0 is the priority that goes first."""
        level = self._levels.get(priority)
        if level is None:
            level = self._levels[priority] = _Level()
            insort(self._priorities, priority)
        level.add(name, tree, job_id, enqueue_seq)

    def remove(self, job_id: JobId, priority: int, name: str) -> None:
        """Take back a run that is offered."""
        level = self._levels[priority]
        level.remove(name, job_id)
        if not level.strands:
            del self._levels[priority]
            self._priorities.remove(priority)

    def head(self) -> Head:
        """Return the run that goes first of those offered; there is at least one."""
        priority = self._priorities[0]
        return Head(priority, *self._levels[priority].top())
