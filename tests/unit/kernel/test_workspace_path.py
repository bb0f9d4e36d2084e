from __future__ import annotations

import pytest

from handshake.kernel.errors import InvalidRequest
from handshake.kernel.settings import MAX_PATH_CHARS, MAX_PATH_DEPTH
from handshake.kernel.workspace_path import is_closed, is_closed_to_writing, is_nameable, parse_path, spelled
from tests.requirement import requirement


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("src/parser.py", ("src", "parser.py")),
        ("./src//parser.py", ("src", "parser.py")),
        ("docs/", ("docs",)),
        (".", ()),
        ("a b/…/größe.txt", ("a b", "…", "größe.txt")),
        ("...", ("...",)),
        ("日本語/読.txt", ("日本語", "読.txt")),
    ],
)
def test_a_path_has_one_form(text: str, steps: tuple[str, ...]) -> None:
    assert parse_path(text) == steps
    assert parse_path(spelled(steps)) == steps


@requirement("capability.path.no_escape")
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("..", "dot_dot"),
        ("src/../../etc/passwd", "dot_dot"),
        ("src/..", "dot_dot"),
        ("/etc/passwd", "absolute"),
        ("//server/share", "absolute"),
        ("C:/Windows/win.ini", "drive"),
        ("c:secret", "drive"),
        ("./A:", "drive"),
        ("src\\..\\secret", "backslash"),
        ("src/\x00", "character"),
        ("src/a\nb", "character"),
        ("src/\x7f", "character"),
        ("src/\u202egpj.exe", "character"),
        ("src/a\u200bb", "character"),
        ("src/\ud800", "character"),
        ("src/\u2028", "character"),
        ("src/e\u0301", "not_normalised"),
        ("src/\u212b", "not_normalised"),
        ("a" * 256, "step_too_long"),
        ("ä" * 128, "step_too_long"),
        ("a/" * (MAX_PATH_DEPTH + 1), "too_deep"),
        ("a" * (MAX_PATH_CHARS + 1), "too_long"),
    ],
)
def test_what_could_be_understood_differently_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_path(text)
    assert refused.value.context == {"field": "path", "reason": reason}


def test_a_refusal_names_the_field_and_no_content() -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_path("/home/somebody", field="changes.path")
    assert refused.value.context == {"field": "changes.path", "reason": "absolute"}


def test_a_name_that_no_path_can_hold_is_not_shown() -> None:
    assert is_nameable("parser.py")
    assert is_nameable("a:b")
    assert not any(is_nameable(step) for step in ("", "a/b", "..", "a\nb", "e\u0301", "a\\b", "\udcff"))


@requirement("capability.path.runtime_folder_closed")
@pytest.mark.parametrize(
    "text",
    [
        ".handshake",
        ".handshake/config.toml",
        "sub/.handshake/state.db",
        ".HandShake/state.db",
        ".HANDSHAKE/state.db",
        ".hand\u017fhake/state.db",
        "\uff0ehandshake/state.db",
        ".handshake./state.db",
        ".handshake /state.db",
        ".handshake::$INDEX_ALLOCATION/state.db",
        "HANDSH~1/state.db",
        ".git/config",
        ".GIT/Config",
        ".git/hooks",
        ".git/hooks/pre-commit",
        "vendor/lib/.git/hooks/post-checkout",
        ".git/modules/lib/config",
        ".git/worktrees/one/config.worktree",
        "GIT~1/config",
        ".git /config",
    ],
)
def test_runtime_folder_and_git_programs_are_closed_in_every_spelling(text: str) -> None:
    assert is_closed(parse_path(text))
    assert is_closed_to_writing(parse_path(text))


@requirement("capability.path.runtime_folder_closed")
def test_a_name_with_invisible_characters_is_no_way_in_either() -> None:
    assert is_closed((".hand\u200cshake", "state.db"))
    assert is_closed((".g\u200dit", "config"))


@requirement("capability.path.runtime_folder_closed")
def test_git_may_be_read_but_not_written() -> None:
    for text in (".git", ".git/HEAD", ".git/commondir", "sub/.git", ".Git/info/attributes"):
        assert not is_closed(parse_path(text))
        assert is_closed_to_writing(parse_path(text))


def test_names_that_only_resemble_them_are_open() -> None:
    for text in (
        ".handshakes",
        "handshake/config.toml",
        "config",
        "hooks/x",
        ".gitignore",
        ".github/config",
        "git/config",
    ):
        assert not is_closed_to_writing(parse_path(text))
