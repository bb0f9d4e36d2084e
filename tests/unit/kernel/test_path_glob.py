"""Tests of path globs: one reading or none, segments not prefixes, and what is closed to every scope."""

from __future__ import annotations

import pytest

from handshake.kernel.errors import UnknownCapability
from handshake.kernel.grant_settings import MAX_SCOPE_SEGMENTS
from handshake.kernel.path_glob import contains, is_closed, overlaps, parse, spell, with_all_inside
from tests.requirement import requirement


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("docs/a", "docs/a"),
        ("./docs//a/.", "docs/a"),
        ("docs/", "docs/**"),
        (".", "."),
        ("**/**/a", "**/a"),
        ("a***b/***", "a*b/**"),
        ("caf\u0065\u0301", "caf\u00e9"),
        ("app/[id].tsx", "app/[id].tsx"),
    ],
)
def test_a_path_has_one_spelling(text: str, spelled: str) -> None:
    assert spell(parse(text)) == spelled
    assert spell(parse(spelled)) == spelled


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/etc",
        "../a",
        "a/../b",
        "a/..",
        "C:/a",
        "c:a",
        "a\\b",
        "a\0b",
        "a\nb",
        "\u200b",
        "a/\u202eb",
        "a/\uff0e\uff0e/b",
        "a/\u2025",
        "a\uff0fb",
        "a\uff3cb",
        "\ud800",
        "/".join("a" * (MAX_SCOPE_SEGMENTS + 1)),
    ],
)
def test_what_could_lead_elsewhere_is_no_path(text: str) -> None:
    with pytest.raises(UnknownCapability):
        parse(text)


@requirement("capability.axis.contains_scopes")
@pytest.mark.parametrize(
    ("held", "wanted", "expected"),
    [
        ("docs/**", "docs/a", True),
        ("docs/**", "docs/a/b", True),
        ("docs/**", "docs", True),
        ("docs/**", "docs-secret", False),
        ("docs/**", "docs-secret/a", False),
        ("docs/*", "docs/a/b", False),
        ("docs/*", "docs/**", False),
        ("**", "docs/**", True),
        ("docs/**", "**", False),
        ("**/*.py", "a/b/c.py", True),
        ("**/*.py", "c.py", True),
        ("**/*.py", "a/**", False),
        ("a/**/b/**/c", "a/x/b/b/y/c", True),
        ("a/**/b/**/c", "a/x/c", False),
        ("a/**/b/**/c", "a/b/c", True),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a", False),
        ("src/*.py", "src/test_*.py", True),
        ("src/test_*.py", "src/*.py", False),
        ("Docs/**", "docs/a", False),
    ],
)
def test_containment_is_by_segment(held: str, wanted: str, expected: bool) -> None:
    assert contains(parse(held), parse(wanted)) is expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("src/**", "src/a/b", True),
        ("src/**", "**/secrets/**", True),
        ("src/**", "docs/**", False),
        ("src/*/a", "src/b/*", True),
        ("src/*/a", "src/b", False),
        ("a*", "b*", False),
        ("**/x", "**/y", False),
    ],
)
def test_overlap_is_found_from_either_side(one: str, other: str, expected: bool) -> None:
    assert overlaps(parse(one), parse(other)) is expected
    assert overlaps(parse(other), parse(one)) is expected


@requirement("capability.path.runtime_folder_closed")
@pytest.mark.parametrize(
    ("path", "reading", "writing"),
    [
        (".handshake", True, True),
        (".handshake/state.db", True, True),
        ("sub/.Handshake/keys", True, True),
        (".hand\uff53hake/x", True, True),
        (".handshake. /x", True, True),
        (".git/config", True, True),
        ("sub/.GIT/hooks/pre-commit", True, True),
        (".git/modules/a/config", True, True),
        (".git/worktrees/a/config.worktree", True, True),
        (".git", False, True),
        (".git/HEAD", False, False),
        ("config", False, False),
        ("handshake/state.db", False, False),
        (".github/hooks", False, False),
    ],
)
def test_the_runtime_and_what_git_runs_are_closed(path: str, reading: bool, writing: bool) -> None:
    assert is_closed(parse(path), writing=False) is reading
    assert is_closed(parse(path), writing=True) is writing


def test_a_person_means_a_folder_with_all_that_is_in_it() -> None:
    assert spell(with_all_inside(parse("docs"))) == "docs/**"
    assert spell(with_all_inside(parse("docs/*.md"))) == "docs/*.md"
