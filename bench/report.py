"""Report: a result as a table for people, as JSON, and as the generated part of docs/performance.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.figure import FLOORS, TABLE, Figure, Machine, Result, goals, missed

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
BEGINS = "<!-- figures: written by `python -m bench report FILE` -->\n"
ENDS = "<!-- end of figures -->\n"
_HEAD = ("figure", "value", "rounds", "floor", "of the floor", "goal", "peers (ours to theirs)")


def text(result: Result) -> str:
    """Return the result as a table for a terminal."""
    rows = [("figure", *_HEAD[1:])] + [(name, *_cells(name, one)) for name, one in result.figures.items()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    sized = [f"{name}: {sizes}" for name, one in result.figures.items() if (sizes := _sizes(name, one))]
    short = [f"missed: {name} {goal}" for name, one in result.figures.items() for goal in missed(name, one)]
    parts = [_machine(result.machine), *result.notes, "", *lines, "", *sized, *short]
    return "\n".join(parts).rstrip() + "\n"


def page(result: Result, before: str) -> str:
    """Return `before`, the page, with its generated part written anew.

    Raises:
        ValueError: the page has no such part.
    """
    if BEGINS not in before or ENDS not in before:
        raise ValueError("docs/performance.md has no marks around its figures")
    head, rest = before.split(BEGINS)
    return head + BEGINS + block(result) + ENDS + rest.split(ENDS)[1]


def block(result: Result) -> str:
    """Return the generated part: machine, figures, growth, and what each figure and floor is."""
    rows = [(f"`{name}`", *_cells(name, one)) for name, one in result.figures.items()]
    sized = [(f"`{name}`", sizes) for name, one in result.figures.items() if (sizes := _sizes(name, one))]
    meant = [(f"`{name}`", TABLE[name].says, FLOORS.get(name, "")) for name in result.figures]
    parts = [
        f"Measured on: {_machine(result.machine)}.",
        *(f"{note}." for note in result.notes),
        _markdown(_HEAD, rows),
        "What each figure is, and what its floor is:",
        _markdown(("figure", "is", "its floor"), meant),
    ]
    if sized:
        parts += ["By length of the queue:", _markdown(("figure", "runs queued: cost"), sized)]
    return "\n\n".join(parts) + "\n"


def read(path: Path) -> Result:
    """Return a result that a bench has written.

    Raises:
        OSError: it cannot be read.
        msgspec.MsgspecError: it is no result.
    """
    return msgspec.json.decode(path.read_bytes(), type=Result)


def as_json(result: Result) -> bytes:
    """Return the result as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n"


def _machine(machine: Machine) -> str:
    return (
        f"{machine.cores} cores ({machine.architecture}), {machine.system}, Python {machine.python}, "
        f"SQLite {machine.sqlite}, {machine.flush_ms:g} ms to make 4 KiB durable"
    )


def _cells(name: str, one: Figure) -> tuple[str, ...]:
    short = missed(name, one)
    return (
        f"{_number(one.value)} {one.unit}",
        "" if one.low is None or one.high is None else f"{_number(one.low)} – {_number(one.high)}",
        "" if one.floor is None else _number(one.floor),
        "" if one.ratio_to_floor is None else f"{one.ratio_to_floor:.2f} ×",
        ", ".join(f"{goal} {'missed' if goal in short else 'met'}" for goal in goals(name)),
        ", ".join(f"{peer} {_number(value)} ({_times(one.value, value)})" for peer, value in (one.peers or {}).items()),
    )


def _times(value: float, peer: float) -> str:
    return f"{value / peer:.2g} ×" if peer else ""


def _sizes(name: str, one: Figure) -> str:
    unit = TABLE[name].sizes_in or ""
    sizes = [f"{int(size):_}: {_number(value)} {unit}".rstrip() for size, value in (one.by_size or {}).items()]
    return ", ".join(sizes).replace("_", " ")


def _number(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ") if value >= 1_000 else f"{value:.4g}"


def _markdown(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
