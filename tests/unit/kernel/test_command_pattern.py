"""Tests of command patterns: the same executable, argument by argument, and nothing that starts what is closed."""

from __future__ import annotations

import pytest

from handshake.kernel.command_pattern import contains, is_closed, overlaps, parse, spell, spell_command
from handshake.kernel.errors import UnknownCapability
from handshake.kernel.grant_settings import MAX_SCOPE_ARGUMENTS
from tests.requirement import requirement


@pytest.mark.parametrize(
    "command",
    [
        ["pytest", "-q"], ["sh", "-c", "echo 'a b' \"c\" \\ *"], ["a", ""], ["a", "\n\t\x1b", "\u202e"], ["a b", "*"],
        ["python", "-c", "print(1)\nprint(2)"], ["a", '""'], ["a", "\\n"],
    ],
)  # fmt: skip
def test_every_command_can_be_spelled_and_is_only_itself(command: list[str]) -> None:
    pattern = parse(spell_command(command))
    assert (pattern.executable, *pattern.arguments) == tuple(command)
    assert pattern.is_literal
    assert parse(spell(pattern)) == pattern
    assert contains(parse(f"{spell_command(command[:1])} *"), pattern)


@pytest.mark.parametrize(
    "text", ["", "  ", "*", "py* a", '""', "a\nb", 'a"b', "a\\", "a\\q", "a\\u{110000}", "a\\u{0}", "a\\u{}",
             "a " * (MAX_SCOPE_ARGUMENTS + 1)],
)  # fmt: skip
def test_what_names_no_command_is_refused(text: str) -> None:
    with pytest.raises(UnknownCapability):
        parse(text)


@requirement("capability.axis.contains_scopes")
@pytest.mark.parametrize(
    ("held", "wanted", "expected"),
    [
        ("pytest *", "pytest", True),
        ("pytest *", "pytest -q tests/a.py", True),
        ("pytest *", "/usr/bin/pytest -q", False),
        ("pytest *", "pytest-evil -q", False),
        ("pytest", "pytest -q", False),
        ("pytest -q *", "pytest -x", False),
        ("pytest tests/* *", "pytest tests/a -q", True),
        ("pytest tests/* -q", "pytest tests/a -x", False),
        ("pytest tests/*", "pytest tests/a b", False),
        ("pytest -q *", "pytest *", False),
        ("pytest *", "pytest -q *", True),
        ("pytest a*", "pytest ab*", True),
        ("pytest ab*", "pytest a*", False),
        ("pytest \\*", "pytest x", False),
        ("pytest *", "pytest \\*", True),
        ("sh -c echo\\ hi", "sh -c echo hi", False),
    ],
)
def test_containment_is_by_argument(held: str, wanted: str, expected: bool) -> None:
    assert contains(parse(held), parse(wanted)) is expected


def test_commands_overlap_where_every_argument_may_agree() -> None:
    assert overlaps(parse("git push *"), parse("git *"))
    assert overlaps(parse("git a*"), parse("git *b"))
    assert not overlaps(parse("git push *"), parse("git pull"))
    assert not overlaps(parse("git push a"), parse("git push"))
    assert not overlaps(parse("git"), parse("hg"))


@requirement("capability.path.runtime_folder_closed")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat .handshake/state.db", True),
        ("sh -c cat\\ ./.handshake/keys", True),
        ("python -c open('.HANDSHAKE/state.db')", True),
        ("cp x .git/hooks/pre-commit", True),
        ("sed -i s/a/b/ sub/.git/config", True),
        ("cp --target=.git/hooks x", True),
        (".handshake/run/x", True),
        ("git status", False),
        ("cat config", False),
        ("cat .git/HEAD", False),
        ("cat docs/handshake.md", False),
    ],
)
def test_a_command_that_names_the_runtimes_folder_is_in_no_scope(text: str, expected: bool) -> None:
    assert is_closed(parse(text)) is expected
