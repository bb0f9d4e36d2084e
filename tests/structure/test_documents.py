"""Documents: what is generated is fresh, what is linked exists, what is named is in the code."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from scripts.commands import commands_page
from scripts.generate_docs import documents
from tests.structure.tree import ROOT, name_of

LINK = re.compile(r"\]\((?!https?://|mailto:|#)([^)#\s]+)")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("path", sorted(documents()), ids=name_of)
def test_generated_document_is_fresh(path: Path) -> None:
    """A generated page says what the code says; `make docs` writes it anew."""
    assert path.read_text(encoding="utf-8") == documents()[path]


def test_every_page_of_the_reference_is_generated() -> None:
    """Nobody writes reference pages by hand, so none of them can be stale unseen."""
    assert set((ROOT / "docs" / "reference").glob("*.md")) <= set(documents())


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_between_pages_lead_somewhere(path: Path) -> None:
    """A relative link ends at a file of this project."""
    targets = LINK.findall(path.read_text(encoding="utf-8"))
    assert [one for one in targets if not (path.parent / one).exists()] == []


def test_command_page_shows_what_click_knows() -> None:
    """Usage, description, options and a verbatim example of every command reach the page; hidden ones do not."""

    @click.group(help="All of it.")
    def tool() -> None: ...

    @tool.command(help="Count things.", epilog="\b\nExample:\n  tool count --by 2")
    @click.option("--by", default=1, show_default=True, help="Step.")
    def count(by: int) -> None: ...

    @tool.command(hidden=True, help="Nobody sees this.")
    def secret() -> None: ...

    page = commands_page(tool, "tool")
    for expected in (
        "## `tool`",
        "All of it.",
        "## `tool count`",
        "Count things.",
        "| `--by INTEGER` | Step.",
        "default: 1",
    ):
        assert expected in page
    assert "```\nExample:\n  tool count --by 2\n```" in page
    assert "Nobody sees this." not in page
