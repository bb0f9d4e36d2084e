"""Shape: sizes, names and docstrings keep the house readable (docs/architecture.md, names and sizes)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.structure.tree import all_files, name_of, python_files, source_files, syntax, text

MAX_FILE_LINES = 500
MAX_BODY_LINES = 60
MAX_SUMMARY_CHARS = 120

LONGER_FILES: dict[str, str] = {}
"""Files over the cap, each with its reason. This list only shrinks."""
LONGER_BODIES: dict[str, str] = {}
"""Functions over the cap as `file:name`, each with its reason. This list only shrinks."""

WITHOUT_SUBJECT = frozenset(
    "util utils helper helpers common misc core base shared manager managers handler handlers service services "
    "engine factory wrapper wrappers".split()
)
PART_OF_A_TERM = frozenset({"base"})
"""Words that may stand in a class name because of a term: base URL."""
LEFT_OPEN = re.compile(
    r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b|NotImplemented" + "Error"
)
MODULE_SUMMARY = re.compile(r"[A-Z][A-Za-z0-9 ,'`*_.-]*: \S.*[.;]$")

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def definitions(parent: ast.AST, prefix: str = "") -> Iterator[tuple[str, Definition]]:
    """Yield functions and classes with their qualified names, nested ones included."""
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, Definition):
            yield prefix + node.name, node
            yield from definitions(node, f"{prefix}{node.name}.")
        else:
            yield from definitions(node, prefix)


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return how many lines a function's body has, its docstring left out."""
    first = node.body[1] if ast.get_docstring(node) is not None and len(node.body) > 1 else node.body[0]
    return (node.end_lineno or first.lineno) - first.lineno + 1


def words(name: str) -> set[str]:
    """Return the words of a name in snake_case or CamelCase, in lower case."""
    return {word.lower() for part in name.split("_") for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", part)}


def test_no_file_is_longer_than_the_cap() -> None:
    """A file over the cap is two files."""
    long = {name_of(path) for path in all_files() if text(path).count("\n") > MAX_FILE_LINES}
    assert long == set(LONGER_FILES)


def test_no_body_is_longer_than_the_cap() -> None:
    """A body over the cap is two functions."""
    long = {
        f"{name_of(path)}:{name}"
        for path in all_files()
        for name, node in definitions(syntax(path))
        if not isinstance(node, ast.ClassDef) and body_lines(node) > MAX_BODY_LINES
    }
    assert long == set(LONGER_BODIES)


def test_files_and_folders_have_a_subject() -> None:
    """A file is named after what it is about."""
    named = {
        name_of(path)
        for path in all_files()
        for part in Path(name_of(path)).with_suffix("").parts
        if words(part) & WITHOUT_SUBJECT
    }
    assert named == set()


def test_classes_have_a_subject() -> None:
    """A class is named after what it is, not after the fact that it does something."""
    named = {
        f"{name_of(path)}:{name}"
        for path in source_files()
        for name, node in definitions(syntax(path))
        if isinstance(node, ast.ClassDef) and words(node.name) & WITHOUT_SUBJECT - PART_OF_A_TERM
    }
    assert named == set()


@pytest.mark.parametrize("path", source_files() + python_files("scripts"), ids=name_of)
def test_module_docstring_is_its_line_in_the_tree(path: Path) -> None:
    """The first line is `Noun: what it is for.`, short enough for the tree in docs/architecture.md."""
    summary = (ast.get_docstring(syntax(path)) or "").split("\n")[0]
    assert MODULE_SUMMARY.match(summary), summary
    assert len(summary) <= MAX_SUMMARY_CHARS


@pytest.mark.parametrize("path", source_files(), ids=name_of)
def test_public_names_are_documented(path: Path) -> None:
    """What others may use says in one line what it is for."""
    bare = [
        name
        for name, node in definitions(syntax(path))
        if is_public(name, syntax(path)) and not (ast.get_docstring(node) or "").split("\n")[0].strip()
    ]
    assert bare == []


def is_public(name: str, module: ast.Module) -> bool:
    """Return whether others may use the name: no part of it is private, and it does not live inside a function."""
    parts = name.split(".")
    if any(part.startswith("_") for part in parts):
        return False
    inside = {
        f"{outer}.{inner.name}"
        for outer, node in definitions(module)
        if not isinstance(node, ast.ClassDef)
        for inner in ast.walk(node)
        if isinstance(inner, Definition) and inner is not node
    }
    return name not in inside


def test_nothing_is_left_open() -> None:
    """Unfinished work is not in the tree: what is not built is not there."""
    open_places = {
        f"{name_of(path)}:{number}"
        for path in all_files()
        for number, line in enumerate(text(path).split("\n"), 1)
        if LEFT_OPEN.search(line)
    }
    assert open_places == set()
