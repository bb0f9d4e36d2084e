"""Two scopes overlap unless it is certain that no file is in both."""

from __future__ import annotations

import pytest

from handshake.kernel.ids import SessionId
from handshake.kernel.write_scope import EVERYTHING, Holding, admitted, any_overlap, holder_of, overlap
from tests.requirement import requirement

APART = [
    ("src", "docs"),
    ("docs", "docs-secret"),
    ("src/a", "src/b"),
    ("src/*.py", "src/*.md"),
    ("src/a*", "src/b*"),
    ("a/*/c", "a/b/d"),
    ("a/*/c/**", "a/b/d/**"),
    ("src/?.py", "src/ab.py"),
    ("a/b", "b"),
]
TOGETHER = [
    ("**/x.py", "**/x.pyc"),
    ("src", "src"),
    ("src", "src/a/b"),
    ("src/**", "src"),
    ("./src//a/", "src/a"),
    (EVERYTHING, "a"),
    (".", "a"),
    ("**/x.py", "src/a/x.py"),
    ("src/**", "**/x.py"),
    ("a/**/z", "a/b/c/**"),
    ("a/*", "*/b"),
    ("src/*.py", "src/t*"),
    ("src/[ab].py", "src/c.py"),
    ("src/{a,b}", "src/c"),
    ("Src", "src"),
    ("cafe\u0301", "caf\u00e9"),
    ("stra\u00dfe", "STRASSE"),
    ("src/*.py", "src/a.py/b"),
    ("**", "**/x"),
]
UNREADABLE = ["", "/etc", "../x", "a/../b", "a\\b", "a\0b"]


@requirement("gate.workspace.no_overlap")
@pytest.mark.parametrize(("one", "other"), APART)
def test_scopes_without_a_file_in_common_are_apart(one: str, other: str) -> None:
    assert not overlap(one, other)
    assert not overlap(other, one)


@requirement("gate.workspace.no_overlap")
@pytest.mark.parametrize(("one", "other"), TOGETHER)
def test_scopes_that_a_file_could_be_in_overlap(one: str, other: str) -> None:
    assert overlap(one, other)
    assert overlap(other, one)


@pytest.mark.parametrize("scope", UNREADABLE)
def test_what_cannot_be_told_overlaps_with_everything(scope: str) -> None:
    assert overlap(scope, "docs")
    assert overlap("docs", scope)


def holding(name: str, since_us: int, *scopes: str) -> Holding:
    return Holding(SessionId(name), scopes, since_us)


def test_of_several_holders_the_oldest_is_named() -> None:
    held = [holding("b", 2, "src/a"), holding("a", 2, "src/b"), holding("c", 1, "docs")]
    found = holder_of(["src"], held)
    assert found is not None
    assert found.session_id == "a"
    assert holder_of(["tests"], held) is None
    assert not any_overlap([], ["**"])


def test_those_who_wait_are_let_in_as_they_came_and_as_far_as_they_fit() -> None:
    waiting = [
        holding("late", 5, "src/a"),
        holding("first", 3, "src"),
        holding("other", 4, "docs"),
        holding("x", 6, "y"),
    ]
    assert [one.session_id for one in admitted(waiting, [holding("holder", 1, "y/z")])] == ["first", "other"]
    assert [one.session_id for one in admitted(waiting, [holding("holder", 1, "src/b")])] == ["other", "late", "x"]


def test_one_that_wants_more_than_it_holds_does_not_wait_for_itself() -> None:
    assert [one.session_id for one in admitted([holding("a", 2, "src", "docs")], [holding("a", 1, "src")])] == ["a"]
