"""Generator: writes the documents that follow from the code, and says which of them are stale."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from handshake.cli.main import root
from scripts import pages
from scripts.commands import commands_page
from scripts.reading import PACKAGE, ROOT, summary
from scripts.tools_page import tools_page

REFERENCE = ROOT / "docs" / "reference"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
TREE_BEGINS = "<!-- tree: written by `make docs` -->\n"
TREE_ENDS = "<!-- end of tree -->\n"


def documents() -> dict[Path, str]:
    """Return every generated document with the text that it must have."""
    return {
        ARCHITECTURE: _with_tree(ARCHITECTURE.read_text(encoding="utf-8")),
        REFERENCE / "commands.md": commands_page(root, "handshake"),
        REFERENCE / "errors.md": pages.errors_page(),
        REFERENCE / "events.md": pages.events_page(),
        REFERENCE / "settings.md": pages.settings_page(),
        REFERENCE / "states.md": pages.states_page(),
        REFERENCE / "tools.md": tools_page(),
    }


def _with_tree(page: str) -> str:
    before, rest = page.split(TREE_BEGINS)
    after = rest.split(TREE_ENDS)[1]
    tree = "\n".join(["```", "src/handshake/", *_lines(PACKAGE, 1), "```", ""])
    return before + TREE_BEGINS + tree + TREE_ENDS + after


def _lines(folder: Path, depth: int) -> Iterator[str]:
    """Yield a line per module, folders after files, each with the first line of its docstring."""
    entries = sorted(folder.iterdir(), key=lambda entry: (entry.is_dir(), entry.name))
    for entry in entries:
        if entry.is_dir() and (entry / "__init__.py").exists():
            yield _line(f"{entry.name}/", summary(entry / "__init__.py"), depth)
            yield from _lines(entry, depth + 1)
        elif entry.suffix == ".py" and entry.name != "__init__.py":
            yield _line(entry.name, summary(entry), depth)


def _line(name: str, text: str, depth: int) -> str:
    return f"{'  ' * depth}{name:<{28 - 2 * depth}}{text}".rstrip()


def main() -> int:
    """Write what is stale; with `--check` only name it, and return 1 if there is any."""
    options = argparse.ArgumentParser(prog="generate_docs", description=__doc__)
    options.add_argument("--check", action="store_true", help="write nothing; fail if anything is stale")
    check = options.parse_args().check
    stale = [
        (path, text)
        for path, text in documents().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path, text in stale:
        print(("stale: " if check else "wrote: ") + path.relative_to(ROOT).as_posix())
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
