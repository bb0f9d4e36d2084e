from __future__ import annotations

import difflib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handshake.kernel.errors import InvalidRequest
from handshake.kernel.text_patch import Replacement, parse_hunks, patched, replaced

TEXT = "one\ntwo\nthree\nfour\ntwo\nfive\n"


def reason(refused: pytest.ExceptionInfo[InvalidRequest]) -> object:
    return refused.value.context["reason"]


def test_replacements_are_made_one_after_the_other() -> None:
    steps = [Replacement("three", "3"), Replacement("3\nfour", "3, 4"), Replacement("two", "2", count=2)]
    assert replaced(TEXT, steps) == "one\n2\n3, 4\n2\nfive\n"


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (Replacement("", "x"), "empty"),
        (Replacement("six", "6"), "not_found"),
        (Replacement("two", "2"), "found_more_often"),
        (Replacement("two", "2", count=3), "not_found"),
    ],
)
def test_a_replacement_that_is_not_exact_is_refused(one: Replacement, why: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        replaced(TEXT, [Replacement("one", "1"), one])
    assert reason(refused) == why
    assert refused.value.context["place"] == 1


def test_hunks_stand_where_they_say() -> None:
    diff = "--- a/x\n+++ b/x\n@@ -1,2 +1,3 @@ title\n one\n+1.5\n two\n@@ -5,2 +6 @@\n-two\n five\n"
    assert patched(TEXT, parse_hunks(diff)) == "one\n1.5\ntwo\nthree\nfour\nfive\n"


def test_a_hunk_elsewhere_is_taken_if_there_is_one_place_only() -> None:
    assert patched(TEXT, parse_hunks("@@ -40,2 +40,1 @@\n-three\n four")) == "one\ntwo\nfour\ntwo\nfive\n"
    with pytest.raises(InvalidRequest) as refused:
        patched(TEXT, parse_hunks("@@ -40 +40 @@\n-two\n+2\n"))
    assert reason(refused) == "ambiguous"
    with pytest.raises(InvalidRequest) as refused:
        patched(TEXT, parse_hunks("@@ -1 +1 @@\n-six\n+6\n"))
    assert reason(refused) == "not_found"


def test_hunks_do_not_go_back() -> None:
    with pytest.raises(InvalidRequest) as refused:
        patched(TEXT, parse_hunks("@@ -4 +4 @@\n-four\n+4\n@@ -1 +1 @@\n-one\n+1\n"))
    assert reason(refused) == "not_found"


def test_insertions_and_ends_without_newline() -> None:
    assert patched("", parse_hunks("@@ -0,0 +1,2 @@\n+a\n+b\n")) == "a\nb\n"
    assert patched("a\nb\n", parse_hunks("@@ -1,0 +2 @@\n+x\n")) == "a\nx\nb\n"
    assert patched("a\nb", parse_hunks("@@ -2 +2 @@\n-b\n\\ No newline at end of file\n+c\n")) == "a\nc\n"
    assert patched("a\n", parse_hunks("@@ -1 +1 @@\n-a\n+b\n\\ No newline at end of file\n")) == "b"
    with pytest.raises(InvalidRequest):
        patched("a\nb", parse_hunks("@@ -2,0 +3 @@\n+c\n"))


def test_empty_lines_whose_blank_was_lost_are_context() -> None:
    assert patched("a\n\nb\n", parse_hunks("@@ -1,3 +1,3 @@\n-a\n+A\n\n b\n")) == "A\n\nb\n"


@pytest.mark.parametrize(
    ("diff", "why", "line"),
    [
        ("", "no_hunks", None),
        ("--- a\n+++ b\n", "no_hunks", None),
        ("hello\n", "line", 1),
        ("@@ -1,2 +1 @@\n-one\n", "line_counts", 1),
        ("@@ -1 +1 @@\n-one\n+1\n+2\n", "line", 4),
        ("@@ -1,2 +1,2 @@\n-one\n*two\n", "line", 3),
        ("@@ -1,0 +1,0 @@\n", "line_counts", 1),
        ("@@ -1,2 +1,2 @@\n one\n@@ -1 +1 @@\n-a\n+b\n", "line_counts", 1),
    ],
)
def test_a_diff_that_is_none_is_refused_with_its_place(diff: str, why: str, line: int | None) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_hunks(diff)
    assert reason(refused) == why
    assert refused.value.context.get("at_line") == line


lines = st.lists(st.sampled_from(["a", "b", "c", "", "-x", "+y", "@@ z", " "]), max_size=30)


@given(lines, lines, st.booleans(), st.booleans())
def test_the_diff_of_two_texts_leads_from_one_to_the_other(
    one: list[str], other: list[str], ends: bool, ends_too: bool
) -> None:
    before, after = "\n".join(one) + "\n" * ends, "\n".join(other) + "\n" * ends_too
    diff = ""
    for line in difflib.unified_diff(before.splitlines(keepends=True), after.splitlines(keepends=True), "x", "x"):
        diff += line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
    if diff:
        assert patched(before, parse_hunks(diff)) == after
    else:
        assert before == after
