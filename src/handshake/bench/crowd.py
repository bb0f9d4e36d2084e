"""Crowd: what a run costs in a workspace of few and of many open sessions."""

from __future__ import annotations

import gc
import shutil
import zlib
from pathlib import Path

from handshake.bench.load import opened
from handshake.bench.plan import Plan
from handshake.kernel.ids import SessionId

_WARMING = 3
"""Runs of each client that read pages and fill caches before the measured ones."""
_US = 1e6


class Crowd:
    """A workspace with a given number of open sessions, of which some have runs, in a haphazard order."""

    def __init__(self, root: Path, plan: Plan, owners: list[SessionId]) -> None:
        self._root = root
        self._plan = plan
        self._owners = sorted(owners, key=lambda owner: zlib.crc32(owner.encode()))

    async def run_us(self) -> float:
        """Return microseconds per run, with as many runs at a time as the fewest sessions can have."""
        at_once = self._plan.beside
        async with opened(self._root, slots=at_once) as load:
            await load.run_all(self._owners, count=_WARMING * at_once, in_flight=at_once)
            gc.collect()
            return _US / await load.run_all(self._owners, count=self._plan.cycles * at_once, in_flight=at_once)


async def crowds(folder: Path, plan: Plan) -> dict[int, Crowd]:
    """Return a crowd of each size; each begins as a copy of the one before."""
    found: dict[int, Crowd] = {}
    owners: list[SessionId] = []
    before: Path | None = None
    for count in plan.crowds:
        root = folder / f"sessions-{count}"
        if before is not None:
            shutil.copytree(before, root)
        async with opened(root, slots=plan.beside) as load:
            owners = [*owners, *await load.make_sessions(count - len(owners))]
        found[count] = Crowd(root, plan, owners)
        before = root
    return found
