"""Rendering: lists, records and errors as JSON, as aligned text on a pipe, and as tables on a terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

import click

MAX_CELL_CHARS = 64
"""Longest text in one cell of a list; the whole of it is in `show` and in JSON."""
_UNBOUNDED_CHARS = 10_000
_LINE_BREAKS = frozenset("\n\t")


def is_terminal(stream: TextIO) -> bool:
    """Return whether a person looks at `stream`, on a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def print_object(value: object) -> None:
    """Print one JSON object on a line of its own."""
    import msgspec

    click.echo(msgspec.json.encode(value))


def print_objects(values: Iterable[object]) -> None:
    """Print JSON objects, one per line."""
    for value in values:
        print_object(value)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a list: a table on a terminal that is wide enough for its ids, else aligned text."""
    cells = [[cell(value) for value in row] for row in rows]
    if is_terminal(sys.stdout) and _print_rich(columns, cells):
        return
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for line in (columns, *cells):
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def print_record(record: Mapping[str, object]) -> None:
    """Print one record, a line per field; what is not set is left out."""
    shown = {name.replace("_", " "): value for name, value in record.items() if value is not None}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        click.echo(f"{name.ljust(width)}  {one_line(_plain(value))}")


def cell(value: object) -> str:
    """Return a value as one short line."""
    text = one_line(_plain(value))
    return text if len(text) <= MAX_CELL_CHARS else text[: MAX_CELL_CHARS - 1] + "…"


def one_line(text: str) -> str:
    """Return a text in one line, without characters that a terminal could act on."""
    return "".join(one if one.isprintable() else "?" for one in " ".join(text.split()))


def spelled_out(text: str) -> str:
    """Return a JSON text with what cannot be seen, or moves a terminal, as its escapes: it says the same."""
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)


def print_arguments(arguments: str) -> None:
    """Print the arguments of a call, a JSON text, so that all of it is seen."""
    click.echo("arguments:")
    click.echo(spelled_out(arguments))


def print_text(text: str, *, nl: bool = True) -> None:
    """Print a text of someone else: exactly on a pipe, without characters that it could act on on a terminal."""
    if sys.stdout.isatty():
        text = "".join(one if one.isprintable() or one in _LINE_BREAKS else "?" for one in text)
    click.echo(text, nl=nl, color=True)  # `color` leaves the text alone


def note(text: str) -> None:
    """Tell people what happens, where nothing that a program reads is touched."""
    click.echo(text, err=True)


def _plain(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items()) or "-"
    return str(value)


def _print_rich(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Print a table in which only words are folded; return False, and print nothing, if it does not fit."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        has_words = any(" " in row[number] for row in rows)
        table.add_column(column, overflow="fold", no_wrap=not has_words)
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console()
    if console.measure(table, options=console.options.update(width=_UNBOUNDED_CHARS)).minimum > console.width:
        return False
    console.print(table)
    return True
