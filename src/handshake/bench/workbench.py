"""Workbench: how much is measured, the folder it is measured in, and who is told how far it is."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from handshake.bench.plan import Plan
from handshake.bootstrap import new_event_loop

T = TypeVar("T")


class Workbench(NamedTuple):
    """What every bench is given."""

    plan: Plan
    results: Path
    """Folder for results, measured workspaces and peers; its disk is the one that is measured."""
    say: Callable[[str], None]
    """Told in one line what is measured next; it must cost nothing while something is being measured."""

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Give a folder to measure in, and remove it."""
        self.results.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="work-", dir=self.results)).resolve()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Carry work out on the event loop that the product runs on."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work)
