"""Imports: what import-linter's contracts cannot say, read from the syntax trees."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

from tests.requirement import requirement
from tests.structure.tree import ROOT, dotted, imported, module_name, name_of, python_files, source_files, syntax, text

PURE_IMPORTS = frozenset(
    "__future__ base64 binascii bisect collections contextlib dataclasses datetime decimal difflib enum fnmatch "
    "functools hashlib heapq hmac ipaddress itertools json math msgspec operator re rfc8785 string struct textwrap "
    "tomlkit tomllib types typing unicodedata urllib.parse".split()
)
"""All that kernel, ports and wire forms may import besides each other. What is not listed is refused."""

NOT_PURE = frozenset({"now", "utcnow", "today", "open", "print", "input", "breakpoint"})
"""Calls that reach time or the outside through an import or a builtin that is allowed."""

DYNAMIC = frozenset({"__import__", "eval", "exec", "compile"})
"""Builtins that would hide an import or a path from everything that reads the code."""

HIDING = ("importlib.import_module", "importlib.machinery", "importlib.reload", "pkgutil", "runpy")
HIDING_CALLS = frozenset(
    {"module_from_spec", "spec_from_file_location", "spec_from_loader", "LazyLoader", "load_module"}
)
"""What the library offers to the same end."""


def pure_files() -> list[Path]:
    """Return the modules that must be pure."""
    wire_forms = [path for path in python_files("src/handshake/providers") if path.name.startswith("wire_")]
    return [*python_files("src/handshake/kernel", "src/handshake/ports"), *wire_forms]


def test_every_pure_module_is_under_contract() -> None:
    """The import contract names each wire form, because it can name no pattern."""
    contracts = tomllib.loads(text(ROOT / "pyproject.toml"))["tool"]["importlinter"]["contracts"]
    named = tuple(next(one["source_modules"] for one in contracts if one["id"] == "pure"))
    assert [name_of(path) for path in pure_files() if not module_name(path).startswith(named)] == []


def calls(path: Path) -> set[str]:
    """Return the dotted names of everything that a file calls."""
    return {dotted(node.func) for node in ast.walk(syntax(path)) if isinstance(node, ast.Call)}


@pytest.mark.parametrize("path", pure_files(), ids=name_of)
def test_pure_modules_import_only_what_is_pure(path: Path) -> None:
    """Kernel, ports and wire forms know values only."""
    foreign = {
        name
        for name in imported(syntax(path))
        if not name.startswith("handshake.")
        and not any(name == allowed or name.startswith(f"{allowed}.") for allowed in PURE_IMPORTS)
    }
    assert foreign == set()


@pytest.mark.parametrize("path", pure_files(), ids=name_of)
def test_pure_modules_call_nothing_impure(path: Path) -> None:
    """`datetime` may turn numbers into text but may not ask what time it is."""
    assert {name for name in calls(path) if name.rpartition(".")[2] in NOT_PURE} == set()


@pytest.mark.parametrize("path", source_files(), ids=name_of)
def test_no_import_hides(path: Path) -> None:
    """No code is imported, compiled or run by name: what the contracts read is all there is."""
    assert {name for name in calls(path) if name in DYNAMIC or name.startswith(HIDING)} == set()
    assert {name for name in calls(path) if name.rpartition(".")[2] in HIDING_CALLS} == set()
    assert {name for name in imported(syntax(path)) if name.startswith(HIDING)} == set()


@requirement("scheduler.path.is_single")
def test_passes_to_models_are_minted_at_one_door() -> None:
    """Only `gate.egress` claims the mint of egress passes, and only `ports.model` makes one."""
    claiming = {name_of(path) for path in source_files() if "claim_mint" in mentioned(path)}
    making = {
        name_of(path)
        for path in source_files()
        for node in ast.walk(syntax(path))
        if isinstance(node, ast.Call) and makes_a_pass(node)
    }
    assert claiming == {"src/handshake/gate/egress.py", "src/handshake/ports/model.py"}
    assert making == {"src/handshake/ports/model.py"}


def mentioned(path: Path) -> set[str]:
    """Return every identifier in a file: names, attributes, imported names, definitions, and strings."""
    found: set[str] = set()
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.alias):
            found.update((node.name, node.asname or ""))
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


def makes_a_pass(call: ast.Call) -> bool:
    """Return whether a call makes an `EgressPass`, by its constructor or around it."""
    if dotted(call.func).rpartition(".")[2] == "EgressPass":
        return True
    around = dotted(call.func).rpartition(".")[2] in {"__new__", "copy", "deepcopy", "replace"}
    return around and any(dotted(one).rpartition(".")[2] == "EgressPass" for one in call.args)
