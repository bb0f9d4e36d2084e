"""Tree: the project's own files, read and parsed once, for the tests that look at code as data."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "handshake"


@cache
def python_files(*folders: str) -> tuple[Path, ...]:
    """Return the Python files below `folders` of the project, sorted; a folder that does not exist holds none."""
    return tuple(sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py")))


def source_files() -> tuple[Path, ...]:
    """Return the modules of the package."""
    return python_files("src/handshake")


def all_files() -> tuple[Path, ...]:
    """Return every Python file of the project."""
    return python_files("src", "tests", "scripts", "examples")


@cache
def text(path: Path) -> str:
    """Return the text of a file."""
    return path.read_text(encoding="utf-8")


@cache
def syntax(path: Path) -> ast.Module:
    """Return the syntax tree of a Python file."""
    return ast.parse(text(path), filename=str(path))


def name_of(path: Path) -> str:
    """Return a file's path in the project, as the messages of failing tests show it."""
    return path.relative_to(ROOT).as_posix()


def module_name(path: Path) -> str:
    """Return the dotted name of a module of the package."""
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def dotted(node: ast.expr) -> str:
    """Return `a.b.c` for a name or a chain of attributes, or the empty string for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return ""


def imported(module: ast.Module) -> set[str]:
    """Return the dotted names of everything that a module imports, wherever the import stands."""
    found: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found
