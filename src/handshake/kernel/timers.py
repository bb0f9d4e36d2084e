"""Timers: when queued runs that back off may start, by a clock that nobody can set.

Runs are stored with the wall time before which they do not start. It is converted once, at the next `wake`, by the
difference of the two clocks at that moment; what the wall clock does afterwards changes nothing.

Source:
    recovery.clock.jumps_are_harmless (01 §8).
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from handshake.kernel.ids import JobId

_SLACK = 16
"""Untrue entries that are not worth making the heap anew."""


class Timers:
    """Due times by run."""

    __slots__ = ("_due", "_heap", "_undated")

    def __init__(self) -> None:
        self._undated: dict[JobId, int] = {}
        """Wall times that have not been converted yet."""
        self._due: dict[JobId, int] = {}
        self._heap: list[tuple[int, JobId]] = []

    def set(self, job_id: JobId, not_before_us: int) -> None:
        """Let a run wait until a wall time."""
        self._due.pop(job_id, None)
        self._undated[job_id] = not_before_us

    def drop(self, job_id: JobId) -> None:
        """Forget a run."""
        self._undated.pop(job_id, None)
        self._due.pop(job_id, None)

    def is_due(self, job_id: JobId, now_us: int) -> bool:
        """Return whether a run has waited long enough, or did not have to."""
        return job_id not in self._undated and self._due.get(job_id, now_us) <= now_us

    def wake(self, now_us: int, wall_us: int) -> list[JobId]:
        """Return the runs whose time has come since the last call."""
        for job_id, not_before_us in self._undated.items():
            self._due[job_id] = due_us = now_us + max(0, not_before_us - wall_us)
            heappush(self._heap, (due_us, job_id))
        self._undated.clear()
        if len(self._heap) > 2 * len(self._due) + _SLACK:
            self._heap = [entry for entry in self._heap if self._due.get(entry[1]) == entry[0]]
            heapify(self._heap)
        woken = []
        while self._heap and self._heap[0][0] <= now_us:
            due_us, job_id = heappop(self._heap)
            if self._due.get(job_id) == due_us:
                woken.append(job_id)
        return woken

    def next_us(self) -> int | None:
        """Return the earliest time that is still to come, or None."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None
