"""Threats: every answer of the threat page names a test that is there."""

from __future__ import annotations

import ast
import re

from tests.structure.tree import ROOT, syntax, text

PAGE = ROOT / "docs" / "threats.md"
NAMED = re.compile(r"`(tests/[a-z0-9_/]+\.py)::(test_\w+)`")


def functions_of(file: str) -> set[str]:
    """Return the names of the functions in a file."""
    return {
        node.name for node in ast.walk(syntax(ROOT / file)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_test_that_the_page_names_is_there() -> None:
    """What proves an answer can be run."""
    named = NAMED.findall(text(PAGE))
    assert len(named) > 40
    missing = [(file, name) for file, name in named if not (ROOT / file).is_file() or name not in functions_of(file)]
    assert missing == []


def test_every_answer_is_proved() -> None:
    """No row of what somebody tries stands without a test."""
    rows = [line for line in text(PAGE).split("## What is not claimed")[0].splitlines() if line.count("|") == 4]
    answers = [line for line in rows if not line.startswith(("| ---", "| it tries", "| one tries", "| somebody "))]
    assert [line for line in answers if not NAMED.search(line)] == []
