"""Documents: what is generated is fresh, what is linked exists, what is named is in the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts.generate_docs import documents
from tests.structure.tree import ROOT, name_of, source_files

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


def test_tree_names_every_module() -> None:
    """The tree in docs/architecture.md has a line for each module."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert [name_of(path) for path in source_files() if path.name != "__init__.py" and path.name not in page] == []
