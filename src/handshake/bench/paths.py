"""Paths bench: what opening a file for a tool takes, with all that is checked about it, beside opening it unchecked."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from pathlib import Path

from handshake.bench.figure import Figure, figure
from handshake.bench.workbench import Workbench
from handshake.ports.tool import Reach
from handshake.tools.filesystem import Tree
from handshake.tools.reach import readable

_STEPS = ("src", "package", "module", "file.py")
_GRANTS = (*(f"src/m{number}/**" for number in range(199)), "src/package/**")


def measure(bench: Workbench) -> dict[str, Figure]:
    """Measure every figure of paths."""
    bench.say("gate: paths")
    with bench.scratch() as folder:
        path = folder.joinpath(*_STEPS)
        path.parent.mkdir(parents=True)
        path.write_text("x = 1\n")
        checked: list[float] = []
        unchecked: list[float] = []
        for _ in range(bench.plan.rounds):
            unchecked.append(_each_us(lambda: _open(path), bench.plan.decisions))
            with Tree(str(folder)) as tree:
                scope = readable(Reach(read=_GRANTS))
                checked.append(_each_us(lambda: _open_beneath(tree, scope), bench.plan.decisions))  # noqa: B023
    return {"path_check": figure("path_check", checked, floors=unchecked)}


def _open(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    os.fstat(descriptor)
    os.close(descriptor)


def _open_beneath(tree: Tree, scope: Callable[[tuple[str, ...]], bool]) -> None:
    with tree.file(_STEPS, scope):
        pass


def _each_us(act: Callable[[], None], count: int) -> float:
    gc.collect()
    begun = time.perf_counter()
    for _ in range(count):
        act()
    return 1_000_000 * (time.perf_counter() - begun) / count
