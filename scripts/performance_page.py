"""Performance page: writes the figures of a result that `handshake bench` kept into docs/performance.md."""

from __future__ import annotations

import argparse
from pathlib import Path

from handshake.bench.figure import FLOORS, TABLE, Result
from handshake.bench.report import HEAD, cells, described, read, sizes
from scripts.reading import ROOT, table

PAGE = ROOT / "docs" / "performance.md"
BEGINS = "<!-- figures: written by `python -m scripts.performance_page FILE` -->\n"
ENDS = "<!-- end of figures -->\n"


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
    rows = [(f"`{name}`", *cells(name, one)) for name, one in result.figures.items()]
    meant = [(f"`{name}`", TABLE[name].says, FLOORS.get(name, "")) for name in result.figures]
    sized = [(f"`{name}`", told) for name, one in result.figures.items() if (told := sizes(name, one))]
    parts = [
        f"Measured on: {described(result.machine)}.",
        *(f"{note}." for note in result.notes),
        table(HEAD, rows),
        "What each figure is, and what its floor is:",
        table(("figure", "is", "its floor"), meant),
    ]
    if sized:
        parts += ["By size:", table(("figure", "size: cost"), sized)]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Write the page."""
    options = argparse.ArgumentParser(prog="performance_page", description=__doc__)
    options.add_argument("file", type=Path, help="a result, such as handshake-bench/all.json")
    result = read(options.parse_args().file)
    PAGE.write_text(page(result, PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote: {PAGE.relative_to(ROOT).as_posix()}")


if __name__ == "__main__":
    main()
