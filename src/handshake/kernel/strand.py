"""Strand: the offered runs of one tree of sessions, and the bins in which strands stand in their order.

A bin holds what waits for the same slots in one lane. In it lies a level per priority, and in a level a strand per
tree. A strand whose pass is not above the level's virtual time is due, and due strands go by acceptance alone, so
that virtual time may move on without touching them; the others are ahead, in order of their pass.

Heaps are corrected lazily: what is no longer true is dropped when it surfaces. They are made anew before more than
half of one is untrue, so that memory follows what waits and not what once waited.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from handshake.kernel.ids import JobId

_DUE = -1
"""Stands for every pass that is not above virtual time."""
_SLACK = 16
"""Untrue entries that are not worth making a heap anew."""


class Head(NamedTuple):
    """The run that a bin would start first, in the order by which bins of a lane are compared."""

    priority: int
    tree_pass: int
    enqueue_seq: int
    tree: str
    job_id: JobId


class _Strand:
    __slots__ = ("heap", "live", "place")

    def __init__(self) -> None:
        self.live: dict[JobId, int] = {}
        """The offered runs, with their numbers of acceptance."""
        self.heap: list[tuple[int, JobId]] = []
        self.place: tuple[int, int] = (_DUE, -1)
        """Pass and number of acceptance under which the strand stands in its level now."""

    def add(self, job_id: JobId, enqueue_seq: int) -> None:
        self.live[job_id] = enqueue_seq
        heappush(self.heap, (enqueue_seq, job_id))
        self._tidy()

    def remove(self, job_id: JobId) -> None:
        del self.live[job_id]
        self._tidy()

    def _tidy(self) -> None:
        if len(self.heap) > 2 * len(self.live) + _SLACK:
            self.heap = [(seq, job_id) for job_id, seq in self.live.items()]
            heapify(self.heap)

    def head(self) -> tuple[int, JobId]:
        while self.heap[0][1] not in self.live:
            heappop(self.heap)
        return self.heap[0]


class _Level:
    """The strands of one priority."""

    __slots__ = ("ahead", "due", "strands")

    def __init__(self) -> None:
        self.strands: dict[str, _Strand] = {}
        self.due: list[tuple[int, int, str]] = []
        self.ahead: list[tuple[int, int, str]] = []

    def add(self, tree: str, job_id: JobId, enqueue_seq: int, tree_pass: int, virtual: int) -> None:
        strand = self.strands.get(tree)
        if strand is None:
            strand = self.strands[tree] = _Strand()
        strand.add(job_id, enqueue_seq)
        self._put(tree, strand, tree_pass, virtual)

    def remove(self, tree: str, job_id: JobId) -> None:
        strand = self.strands[tree]
        strand.remove(job_id)
        if not strand.live:
            del self.strands[tree]
            self._tidy()

    def top(self, passes: Mapping[str, int], virtual: int) -> tuple[int, int, str, JobId]:
        """Return pass, number, tree and run of the strand that goes first; there is one."""
        while True:
            self._advance(virtual)
            heap = self.due or self.ahead
            at, seq, tree = heap[0]
            strand = self.strands.get(tree)
            if strand is None or strand.place != (at, seq):
                heappop(heap)
                continue
            tree_pass = passes.get(tree, 0)
            head_seq, job_id = strand.head()
            if (at, seq) == (_DUE if tree_pass <= virtual else tree_pass, head_seq):
                return max(tree_pass, virtual), seq, tree, job_id
            heappop(heap)
            self._put(tree, strand, tree_pass, virtual)

    def _put(self, tree: str, strand: _Strand, tree_pass: int, virtual: int) -> None:
        """Enter a strand where it belongs now; what it was entered under before is no longer true."""
        place = (_DUE if tree_pass <= virtual else tree_pass, strand.head()[0])
        if strand.place == place:
            return
        strand.place = place
        heappush(self.due if place[0] == _DUE else self.ahead, (*place, tree))
        self._tidy()

    def _tidy(self) -> None:
        if len(self.due) + len(self.ahead) > 2 * len(self.strands) + _SLACK:
            entries = [(*one.place, name) for name, one in self.strands.items()]
            self.due[:] = [entry for entry in entries if entry[0] == _DUE]
            self.ahead[:] = [entry for entry in entries if entry[0] != _DUE]
            heapify(self.due)
            heapify(self.ahead)

    def _advance(self, virtual: int) -> None:
        """Make due what virtual time has reached."""
        ahead = self.ahead
        while ahead and ahead[0][0] <= virtual:
            at, seq, tree = heappop(ahead)
            strand = self.strands.get(tree)
            if strand is not None and strand.place == (at, seq):
                strand.place = (_DUE, seq)
                heappush(self.due, (_DUE, seq, tree))


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

    def add(self, job_id: JobId, enqueue_seq: int, priority: int, tree: str, *, tree_pass: int, virtual: int) -> None:
        """Offer a run.

        Args:
            job_id: the run.
            enqueue_seq: its number of acceptance.
            priority: 0 goes first.
            tree: its session's tree.
            tree_pass: the tree's pass, which never falls while it has runs here.
            virtual: virtual time of the lane and priority, which never falls.
        """
        level = self._levels.get(priority)
        if level is None:
            level = self._levels[priority] = _Level()
            insort(self._priorities, priority)
        level.add(tree, job_id, enqueue_seq, tree_pass, virtual)

    def remove(self, job_id: JobId, priority: int, tree: str) -> None:
        """Take back a run that is offered."""
        level = self._levels[priority]
        level.remove(tree, job_id)
        if not level.strands:
            del self._levels[priority]
            self._priorities.remove(priority)

    def head(self, passes: Mapping[str, int], virtual: Mapping[int, int]) -> Head:
        """Return the run that goes first of those offered; there is at least one.

        Args:
            passes: those of the lane's trees; 0 where none is given.
            virtual: times of the lane by priority; 0 where none is given.
        """
        priority = self._priorities[0]
        tree_pass, seq, tree, job_id = self._levels[priority].top(passes, virtual.get(priority, 0))
        return Head(priority, tree_pass, seq, tree, job_id)
