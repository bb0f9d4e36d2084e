"""Report: a result as a table for people, as JSON, and as the cells of which other tables are made."""

from __future__ import annotations

from pathlib import Path

import msgspec

from handshake.bench.figure import TABLE, Figure, Machine, Result, goals, missed

HEAD = ("figure", "value", "rounds", "floor", "of the floor", "goal", "peers (ours to theirs)")


def text(result: Result) -> str:
    """Return the result as a table for a terminal."""
    rows = [HEAD] + [(name, *cells(name, one)) for name, one in result.figures.items()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    sized = [f"{name}: {told}" for name, one in result.figures.items() if (told := sizes(name, one))]
    short = [f"missed: {name} {goal}" for name, one in result.figures.items() for goal in missed(name, one)]
    parts = [described(result.machine), *result.notes, "", *lines, "", *sized, *short]
    return "\n".join(parts).rstrip() + "\n"


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


def described(machine: Machine) -> str:
    """Return a machine in one line."""
    return (
        f"{machine.cores} cores ({machine.architecture}), {machine.system}, Python {machine.python}, "
        f"SQLite {machine.sqlite}, {machine.flush_ms:g} ms to make 4 KiB durable"
    )


def cells(name: str, one: Figure) -> tuple[str, ...]:
    """Return what stands under each column of `HEAD` but the first."""
    short = missed(name, one)
    return (
        f"{_number(one.value)} {one.unit}",
        "" if one.low is None or one.high is None else f"{_number(one.low)} – {_number(one.high)}",
        "" if one.floor is None else _number(one.floor),
        "" if one.ratio_to_floor is None else f"{one.ratio_to_floor:.2f} ×",
        ", ".join(f"{goal} {'missed' if goal in short else 'met'}" for goal in goals(name)),
        ", ".join(f"{peer} {_number(value)} ({_times(one.value, value)})" for peer, value in (one.peers or {}).items()),
    )


def sizes(name: str, one: Figure) -> str:
    """Return what was measured for each size, or an empty text for a figure without sizes."""
    unit = TABLE[name].sizes_in or ""
    told = [f"{int(size):_}: {_number(value)} {unit}".rstrip() for size, value in (one.by_size or {}).items()]
    return ", ".join(told).replace("_", " ")


def _times(value: float, peer: float) -> str:
    return f"{value / peer:.2g} ×" if peer else ""


def _number(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ") if value >= 1_000 else f"{value:.4g}"
