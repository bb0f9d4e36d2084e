"""Worktrees begin as the workspace is, run nothing that a repository configures, and come back whole or not at all."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from handshake.kernel.errors import StateConflict, StoreFailed, Unsupported
from handshake.kernel.ids import SessionId
from handshake.tools.worktrees import GitWorktrees
from tests.requirement import requirement

PROGRAMS = (
    "core.fsmonitor filter.evil.clean filter.evil.smudge merge.evil.driver diff.evil.textconv diff.external "
    "core.sshCommand core.editor core.pager credential.helper gpg.program"
).split()
"""Keys of a repository's configuration that name programs."""
SESSION = SessionId("018f0000-0000-7000-8000-000000000001")


def git(folder: Path, *arguments: str) -> str:
    words = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", "-C", str(folder), *arguments]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def written(folder: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


def files_of(folder: Path) -> dict[str, str]:
    """Return every file and link below a folder, `.git` and `.handshake` left out."""
    return {
        path.relative_to(folder).as_posix(): os.readlink(path) if path.is_symlink() else path.read_text()
        for path in sorted(folder.rglob("*"))
        if (path.is_symlink() or path.is_file())
        and not {".git", ".handshake"}.intersection(path.relative_to(folder).parts)
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give a repository with a commit, and work that is not committed."""
    folder = tmp_path / "work"
    folder.mkdir()
    git(folder, "init", "-q")
    written(
        folder, {"a.txt": "one\ntwo\nthree\n", "src/b.py": "b\n", "gone.txt": "x\n", ".gitignore": "*.log\n.venv/\n"}
    )
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    written(folder, {"a.txt": "one\ntwo\nthree\nfour\n", "new.txt": "new\n", "no.log": "no\n", ".venv/lib.py": "lib\n"})
    (folder / "gone.txt").unlink()
    (folder / ".handshake" / "run").mkdir(parents=True)
    written(folder, {".handshake/config.toml": "# closed\n"})
    return folder


@pytest.fixture
def trees(root: Path, tmp_path: Path) -> GitWorktrees:
    return GitWorktrees(root, tmp_path / "trees", root / ".handshake" / "run")


async def test_it_begins_as_the_workspace_is_uncommitted_work_too(root: Path, trees: GitWorktrees) -> None:
    before, status = files_of(root), git(root, "status", "--porcelain")
    await trees.make(SESSION)
    tree = Path(trees.path(SESSION))
    expected = {path: text for path, text in before.items() if path not in ("no.log", ".venv/lib.py")}
    assert files_of(tree) == {**expected, ".venv": str(root / ".venv")}
    assert not (tree / ".handshake").exists()
    assert not (tree / ".git").exists()
    assert (files_of(root), git(root, "status", "--porcelain")) == (before, status)
    assert (tree / ".venv" / "lib.py").read_text() == "lib\n"


@requirement("capability.path.runtime_folder_closed")
@requirement("gate.workspace.merge_explicit")
async def test_nothing_that_the_repository_configures_is_run(root: Path, trees: GitWorktrees, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$0 $*" >> {ran}\ncat\n')
    program.chmod(0o755)
    for hook in ("post-checkout", "pre-commit", "post-index-change", "reference-transaction", "post-merge"):
        os.symlink(program, root / ".git" / "hooks" / hook)
    for name in PROGRAMS:
        git(root, "config", name, str(program))
    written(root, {".gitattributes": "* filter=evil merge=evil diff=evil text eol=crlf ident\n"})
    base = await trees.make(SESSION)
    written(Path(trees.path(SESSION)), {"a.txt": "zero\none\ntwo\nthree\nfour\n"})
    written(root, {"a.txt": "one\ntwo\nthree\nfour\nfive\n"})
    plan = await trees.plan(SESSION, base)
    await trees.apply(SESSION, plan)
    assert (root / "a.txt").read_text() == "zero\none\ntwo\nthree\nfour\nfive\n"
    assert not ran.exists()


async def test_work_comes_back_beside_what_changed_meanwhile(root: Path, trees: GitWorktrees) -> None:
    base = await trees.make(SESSION)
    tree = Path(trees.path(SESSION))
    written(tree, {"deep/er/c.py": "c\n", "a.txt": "zero\none\ntwo\nthree\nfour\n"})
    (tree / "src" / "b.py").unlink()
    (tree / "new.txt").chmod(0o755)
    (tree / "here").symlink_to("a.txt")
    written(root, {"mine.txt": "mine\n", "a.txt": "one\ntwo\nthree\nfour\nfive\n"})
    plan = await trees.plan(SESSION, base)
    assert plan.files == ("a.txt", "deep/er/c.py", "here", "new.txt", "src/b.py")
    assert plan.conflicts == ()
    await trees.apply(SESSION, plan)
    found = files_of(root)
    assert (found["deep/er/c.py"], found["mine.txt"], found["here"]) == ("c\n", "mine\n", "a.txt")
    assert found["a.txt"] == "zero\none\ntwo\nthree\nfour\nfive\n"
    assert not (root / "src").exists()
    assert os.access(root / "new.txt", os.X_OK)
    assert list((root / ".handshake" / "run").iterdir()) == []
    again = await trees.plan(SESSION, plan.theirs)
    assert (again.files, again.conflicts) == ((), ())


async def test_a_second_merge_brings_what_came_after_the_first(root: Path, trees: GitWorktrees) -> None:
    base = await trees.make(SESSION)
    tree = Path(trees.path(SESSION))
    written(tree, {"one.txt": "1\n"})
    first = await trees.plan(SESSION, base)
    await trees.apply(SESSION, first)
    (root / "one.txt").unlink()
    written(tree, {"two.txt": "2\n"})
    second = await trees.plan(SESSION, first.theirs)
    assert second.files == ("two.txt",)
    await trees.apply(SESSION, second)
    assert (root / "two.txt").exists()
    assert not (root / "one.txt").exists()


@requirement("gate.workspace.merge_explicit")
async def test_what_does_not_fit_is_named_and_nothing_is_changed(root: Path, trees: GitWorktrees) -> None:
    base = await trees.make(SESSION)
    tree = Path(trees.path(SESSION))
    written(tree, {"a.txt": "theirs\n", "fine.txt": "fine\n"})
    written(root, {"a.txt": "ours\n"})
    before = files_of(root)
    plan = await trees.plan(SESSION, base)
    assert (plan.conflicts, plan.reasons) == (("a.txt",), ("both_changed",))
    assert files_of(root) == before
    written(root, {"a.txt": "theirs\n"})
    repaired = await trees.plan(SESSION, base)
    assert (repaired.conflicts, repaired.files) == ((), ("fine.txt",))


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "src/../../outside"])
async def test_a_link_that_leads_out_does_not_come_back(root: Path, trees: GitWorktrees, target: str) -> None:
    base = await trees.make(SESSION)
    (Path(trees.path(SESSION)) / "link").symlink_to(target)
    plan = await trees.plan(SESSION, base)
    assert (plan.conflicts, plan.reasons) == (("link",), ("link_leads_out",))


@requirement("capability.path.runtime_folder_closed")
async def test_closed_places_neither_go_out_nor_come_back(root: Path, trees: GitWorktrees) -> None:
    git(root, "add", "-f", ".handshake/config.toml")
    base = await trees.make(SESSION)
    tree = Path(trees.path(SESSION))
    assert not (tree / ".handshake").exists()
    written(
        tree, {".handshake/config.toml": "[policy]\n", ".git/config": "[core]\n", "sub/.git/hooks/x": "x", "ok": "ok"}
    )
    plan = await trees.plan(SESSION, base)
    assert (plan.files, plan.conflicts) == (("ok",), ())
    await trees.apply(SESSION, plan)
    assert (root / ".handshake" / "config.toml").read_text() == "# closed\n"
    assert git(root, "status", "--porcelain", ".handshake/config.toml").startswith("A ")


async def test_a_file_that_changed_after_the_plan_keeps_everything_as_it_is(root: Path, trees: GitWorktrees) -> None:
    base = await trees.make(SESSION)
    written(Path(trees.path(SESSION)), {"a.txt": "theirs\n", "b.txt": "b\n"})
    plan = await trees.plan(SESSION, base)
    written(root, {"a.txt": "changed meanwhile\n"})
    before = files_of(root)
    with pytest.raises(StateConflict):
        await trees.apply(SESSION, plan)
    assert files_of(root) == before
    written(root, {"a.txt": "one\ntwo\nthree\nfour\n", "b.txt": "taken meanwhile\n"})
    before = files_of(root)
    with pytest.raises(StateConflict):
        await trees.apply(SESSION, plan)
    assert files_of(root) == before


async def test_a_merge_that_was_cut_off_is_completed_by_the_next(root: Path, trees: GitWorktrees) -> None:
    base = await trees.make(SESSION)
    written(Path(trees.path(SESSION)), {"a.txt": "theirs\n", "b.txt": "b\n", "c.txt": "c\n"})
    written(root, {"a.txt": "theirs\n", "c.txt": "c\n"})  # as far as the one before came
    plan = await trees.plan(SESSION, base)
    assert (plan.files, plan.conflicts) == (("b.txt",), ())


async def test_a_folder_and_a_file_may_change_places(root: Path, trees: GitWorktrees) -> None:
    base = await trees.make(SESSION)
    tree = Path(trees.path(SESSION))
    (tree / "a.txt").unlink()
    written(tree, {"a.txt/inside": "x\n"})
    (tree / "src" / "b.py").unlink()
    (tree / "src").rmdir()
    written(tree, {"src": "a file\n"})
    await trees.apply(SESSION, await trees.plan(SESSION, base))
    found = files_of(root)
    assert (found["a.txt/inside"], found["src"]) == ("x\n", "a file\n")


async def test_no_link_on_the_way_is_followed(root: Path, trees: GitWorktrees, tmp_path: Path) -> None:
    base = await trees.make(SESSION)
    written(Path(trees.path(SESSION)), {"fresh/x.txt": "x\n"})
    plan = await trees.plan(SESSION, base)
    (tmp_path / "outside").mkdir()
    (root / "fresh").symlink_to(tmp_path / "outside")
    with pytest.raises((StoreFailed, StateConflict)):
        await trees.apply(SESSION, plan)
    assert list((tmp_path / "outside").iterdir()) == []


async def test_a_workspace_below_the_top_has_only_its_own_part(root: Path, tmp_path: Path) -> None:
    written(root, {"src/deep/d.py": "d\n", "src/out.log": "log\n"})
    trees = GitWorktrees(root / "src", tmp_path / "trees", tmp_path / "staging")
    base = await trees.make(SESSION)
    tree = Path(trees.path(SESSION))
    assert files_of(tree) == {"b.py": "b\n", "deep/d.py": "d\n"}
    written(tree, {"e.py": "e\n"})
    await trees.apply(SESSION, await trees.plan(SESSION, base))
    assert (root / "src" / "e.py").read_text() == "e\n"


async def test_a_worktree_of_the_user_is_a_repository_too(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    git(root, "worktree", "add", "-q", str(other))
    trees = GitWorktrees(other, tmp_path / "trees", tmp_path / "staging")
    await trees.make(SESSION)
    assert (Path(trees.path(SESSION)) / "gone.txt").exists()


async def test_names_of_any_bytes_come_back(root: Path, trees: GitWorktrees) -> None:
    base = await trees.make(SESSION)
    for name in (b"with space", b"new\nline", b"\xff\xfe", "ü".encode(), b"-dash", b"[glob]*"):
        (Path(trees.path(SESSION)) / os.fsdecode(name)).write_bytes(name)
    await trees.apply(SESSION, await trees.plan(SESSION, base))
    assert {b"with space", b"new\nline", b"\xff\xfe", b"-dash", b"[glob]*"} <= set(os.listdir(os.fsencode(root)))


async def test_without_a_repository_there_is_none(tmp_path: Path) -> None:
    trees = GitWorktrees(tmp_path / "plain", tmp_path / "trees", tmp_path)
    assert not await trees.has_repository()
    with pytest.raises(Unsupported):
        await trees.make(SESSION)
    with pytest.raises(StoreFailed):
        trees.path(SESSION)
    for name in ("", "../x", "a/b"):
        with pytest.raises(StoreFailed):
            trees.path(SessionId(name))
    await trees.remove(SESSION)


async def test_what_is_removed_is_gone(trees: GitWorktrees) -> None:
    await trees.make(SESSION)
    await trees.remove(SESSION)
    with pytest.raises(StoreFailed):
        trees.path(SESSION)
