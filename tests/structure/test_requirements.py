"""Requirements: every promise is data, every claim names a promise, and every built promise is claimed."""

from __future__ import annotations

import ast
import hashlib
import tomllib
from functools import cache
from pathlib import Path

from tests.structure.tree import ROOT, dotted, name_of, python_files, syntax, text

PROMISES = ROOT / "tests" / "requirements.toml"
BUILT = ROOT / "tests" / "built_requirements.toml"

ADDED_BELOW = "# ── added by the project; new tables below this line ──\n"
FROZEN_SHA256 = "7acd6583cca5893c3415d300cdda88efbcc4a7cb7aaedd77377b440c791f2a92"
"""Hash of everything above `ADDED_BELOW`: what was promised once is never dropped and never weakened."""

NOT_RUN = frozenset({"skip", "skipif", "xfail", "importorskip", "SkipTest", "expectedFailure", "skipTest"})


@cache
def promised() -> frozenset[str]:
    """Return the ids of all promises."""
    return frozenset(one for table in tomllib.loads(text(PROMISES)).values() for one in table)


@cache
def built() -> frozenset[str]:
    """Return the ids of the promises that the parts built so far keep."""
    return frozenset(one for part in tomllib.loads(text(BUILT)).values() for one in part["keeps"])


def claiming_files() -> list[Path]:
    """Return the files that may claim promises: all of the tests but the one that defines the mark."""
    return [path for path in python_files("tests") if path != ROOT / "tests" / "requirement.py"]


@cache
def claims() -> tuple[tuple[str, str], ...]:
    """Return (id, file) for every claim of a test; a claim that is not a plain string counts as the empty id."""
    found = []
    for path in claiming_files():
        for node in ast.walk(syntax(path)):
            if isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] == "requirement":
                plain = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
                found += [(one, name_of(path)) for one in (plain if len(plain) == len(node.args) else [""])]
    return tuple(found)


def test_no_promise_is_dropped_or_weakened() -> None:
    """The promises of the specification stand word for word; new ones are added below them."""
    frozen = text(PROMISES).split(ADDED_BELOW)[0]
    assert hashlib.sha256(frozen.encode()).hexdigest() == FROZEN_SHA256


def test_every_claim_names_a_promise() -> None:
    """A test can only claim what somebody was promised."""
    assert {(one, where) for one, where in claims() if one not in promised()} == set()


def test_every_built_promise_is_claimed() -> None:
    """What is said to be built has a test that proves it."""
    assert built() <= promised()
    assert built() - {one for one, _ in claims()} == set()


def test_every_claimed_promise_is_listed_as_built() -> None:
    """The list of what is built is whole, so that a proof cannot vanish unseen."""
    assert {one for one, _ in claims()} - built() == set()


def test_every_claim_stands_on_a_test() -> None:
    """A claim marks a function or class that pytest collects, or a whole module of tests."""
    astray = []
    for path in python_files("tests"):
        for node in ast.walk(syntax(path)):
            marks = getattr(node, "decorator_list", [])
            if any(isinstance(one, ast.Call) and dotted(one.func) == "requirement" for one in marks):
                named = getattr(node, "name", "")
                if not (named.startswith(("test_", "Test")) and path.name.startswith("test_")):
                    astray.append(f"{name_of(path)}:{named}")
    assert astray == []


def test_every_test_runs() -> None:
    """No test is skipped, expected to fail, or left out when something is not installed."""
    left_out = {
        f"{name_of(path)}:{node.lineno}"
        for path in python_files("tests")
        for node in ast.walk(syntax(path))
        if (isinstance(node, ast.Attribute) and node.attr in NOT_RUN)
        or (isinstance(node, ast.Name) and node.id in NOT_RUN)
    }
    assert left_out == set()


def test_every_test_can_fail() -> None:
    """A test asserts, expects an exception, or hands its subject to a suite that does."""
    toothless = [
        f"{name_of(path)}:{node.name}"
        for path in python_files("tests")
        for node in ast.walk(syntax(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not any(bites(inner) for inner in ast.walk(node))
    ]
    assert toothless == []


def bites(node: ast.AST) -> bool:
    """Return whether a statement or expression can make a test fail on purpose."""
    if isinstance(node, ast.Assert):
        return not (isinstance(node.test, ast.Constant) and bool(node.test.value))
    if isinstance(node, ast.Call):
        called = dotted(node.func).rpartition(".")[2]
        return called in {"raises", "warns", "fail"} or called.startswith(("assert_", "check_", "expect_"))
    return False
