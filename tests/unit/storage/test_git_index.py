"""Whether git brings a file is read from its index; what cannot be read counts as brought."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from handshake.storage.git_index import is_tracked

NAME = ".handshake/config.toml"


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", "-C", str(folder), *arguments],
        check=True,
        capture_output=True,
    )


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """Give a repository with one file that could be a configuration, not yet tracked."""
    (tmp_path / ".handshake").mkdir()
    (tmp_path / NAME).write_text("")
    git(tmp_path, "init", "-q")
    return tmp_path


def test_only_a_file_in_the_index_is_tracked(top: Path) -> None:
    assert not is_tracked(top, NAME)
    (top / "other").write_text("")
    git(top, "add", "other")
    assert not is_tracked(top, NAME)
    git(top, "add", "-f", NAME)
    assert is_tracked(top, NAME)
    git(top, "rm", "-q", "--cached", NAME)
    assert not is_tracked(top, NAME)


def test_a_workspace_below_the_top_of_a_repository_is_found(top: Path) -> None:
    below = top / "a" / "b"
    (below / ".handshake").mkdir(parents=True)
    (below / NAME).write_text("")
    git(top, "add", "-f", NAME)
    assert not is_tracked(below, NAME)
    git(top, "add", "-f", f"a/b/{NAME}")
    assert is_tracked(below, NAME)


def test_a_worktree_has_an_index_of_its_own(top: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    git(top, "add", "-f", NAME)
    git(top, "commit", "-qm", "x")
    tree = tmp_path_factory.mktemp("trees") / "tree"
    git(top, "worktree", "add", "-q", str(tree))
    assert is_tracked(tree, NAME)
    git(tree, "rm", "-q", "--cached", NAME)
    assert not is_tracked(tree, NAME)


def test_a_folder_outside_of_repositories_is_tracked_by_nobody(tmp_path: Path) -> None:
    assert not is_tracked(tmp_path, NAME)


@pytest.mark.parametrize("other", [".hg", ".jj", ".svn"])
def test_what_other_systems_bring_is_not_known(tmp_path: Path, other: str) -> None:
    (tmp_path / other).mkdir()
    assert is_tracked(tmp_path, NAME)


@pytest.mark.parametrize("trouble", ["version 4", "split", "garbage", "empty", "a link to nowhere", "no link"])
def test_an_index_that_cannot_be_read_counts_as_tracking(top: Path, trouble: str) -> None:
    (top / "other").write_text("")
    git(top, "add", "other")
    index = top / ".git" / "index"
    if trouble == "version 4":
        git(top, "update-index", "--index-version", "4")
    elif trouble == "split":
        git(top, "update-index", "--split-index")
    elif trouble in ("garbage", "empty"):
        index.write_bytes(b"" if trouble == "empty" else b"garbage in place of an index")
    else:
        (top / ".git").rename(top / "elsewhere")
        (top / ".git").write_text("gitdir: nowhere" if trouble == "a link to nowhere" else "what is this")
    assert is_tracked(top, NAME)
