"""Worktrees: the files of one session each, taken from a git repository as it stands, and merged back by an operator.

A worktree lies in the user's state folder, beside a repository of the runtime's own. What of it differs from its base
comes back into the workspace three ways, all of it or, if something does not fit, nothing.

Source:
    gate.workspace.merge_explicit (02 §7).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from pathlib import Path

from handshake.kernel.errors import StoreFailed, TooLarge, Unsupported
from handshake.kernel.ids import SessionId, is_uuid
from handshake.kernel.settings import MAX_WORKTREE_FILES
from handshake.kernel.workspace_path import is_closed_to_writing
from handshake.ports.worktree import MergePlan
from handshake.tools.git import Git
from handshake.tools.merging import Change, carry_out, changes_of, misfits

DEPENDENCY_FOLDERS = frozenset({".venv", "venv", "node_modules", ".tox", "vendor", "target"})
"""Ignored folders of these names are not copied but linked."""
_LINK = "160000"


class GitWorktrees:
    """The worktrees of one workspace; one object per runtime.

    Args:
        root: the workspace, resolved.
        home: where worktrees and their repositories lie, outside of the workspace.
        staging: a folder on the workspace's own file system, where files are made ready.
    """

    def __init__(self, root: Path, home: Path, staging: Path) -> None:
        self._root = root
        self._home = home
        self._staging = staging

    async def has_repository(self) -> bool:
        """Return whether the workspace lies in a git repository."""
        return _top(self._root) is not None

    def path(self, session_id: SessionId) -> str:
        """Return where a session's files are, which were made."""
        tree = self._folder(session_id) / "tree"
        if not tree.is_dir():
            raise StoreFailed(reason="worktree_is_gone", hint="bring it back, or end the session and begin another")
        return str(tree)

    async def make(self, session_id: SessionId) -> str:
        """Make the files of a session anew, as the workspace's own are now; return the base."""
        folder, top = self._folder(session_id), self._top()
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        try:
            folder.mkdir(mode=0o700, parents=True)
        except OSError as failure:
            raise StoreFailed(reason="cannot_make_worktree", errno=failure.errno) from failure
        git = Git(folder / "git")
        try:
            await git.create(_objects(top), await asyncio.to_thread(_excluded, top))
            base = await self._commit(git, await self._own_tree(git, top))
            await self._check_out(git, base, folder / "tree")
            await self._link_dependencies(git, top, folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return base

    async def plan(self, session_id: SessionId, base: str) -> MergePlan:
        """Return what merging would do, three ways from `base`."""
        folder, top = self._folder(session_id), self._top()
        git = Git(folder / "git")
        index = folder / "git" / "theirs.index"
        index.unlink(missing_ok=True)
        await git.run(("read-tree", base), index=index)
        theirs = await self._commit(git, await self._tree(git, folder / "tree", index, ""), base)
        ours = await self._commit(git, await self._own_tree(git, top), base)
        code, told = await git.run(
            ("merge-tree", "--write-tree", "--name-only", "--no-messages", "-z", ours, theirs), accepted=(0, 1)
        )
        merged, *names = [part.decode("utf-8", "surrogateescape") for part in told.split(b"\0") if part]
        changes = await self._changes(git, ours, merged)
        conflicts = dict.fromkeys(sorted(set(names)), "both_changed") if code else {}
        conflicts |= await misfits(git, changes)
        listed = b"".join(change.line for change in changes)
        return MergePlan(
            theirs=theirs,
            ours=ours,
            merged=merged,
            files=tuple(change.path for change in changes),
            diff_sha256=hashlib.sha256(listed).hexdigest(),
            conflicts=tuple(conflicts),
            reasons=tuple(conflicts.values()),
        )

    async def apply(self, session_id: SessionId, plan: MergePlan) -> None:
        """Change the workspace's own files as `plan` says."""
        git = Git(self._folder(session_id) / "git")
        changes = await self._changes(git, plan.ours, plan.merged)
        staging = self._staging / f"merge-{session_id}"
        await asyncio.to_thread(shutil.rmtree, staging, ignore_errors=True)
        try:
            index = git.folder / "merged.index"
            index.unlink(missing_ok=True)
            await git.run(("read-tree", plan.merged), index=index)
            wanted = b"".join(os.fsencode(one.path) + b"\0" for one in changes if one.new_mode)
            staging.mkdir(mode=0o700, parents=True)
            check_out = ("checkout-index", "-z", "--stdin", f"--prefix={staging}/")
            await git.run(check_out, work_tree=staging, index=index, stdin=wanted)
            await asyncio.to_thread(carry_out, self._root, staging, changes)
        except OSError as failure:
            raise StoreFailed(reason="cannot_merge", errno=failure.errno) from failure
        finally:
            await asyncio.to_thread(shutil.rmtree, staging, ignore_errors=True)

    async def remove(self, session_id: SessionId) -> None:
        """Remove a session's files; it is no error if there are none."""
        await asyncio.to_thread(shutil.rmtree, self._folder(session_id), ignore_errors=True)

    def _folder(self, session_id: SessionId) -> Path:
        if not is_uuid(session_id):
            raise StoreFailed(reason="not_a_session")
        return self._home / session_id

    def _top(self) -> Path:
        top = _top(self._root)
        if top is None:
            raise Unsupported(field="workspace", reason="not_in_a_git_repository")
        return top

    async def _own_tree(self, git: Git, top: Path) -> str:
        """Return the tree of the workspace's files; the user's index is copied, which knows what need not be read."""
        index = git.folder / "ours.index"
        index.unlink(missing_ok=True)
        known = _git_folder(top) / "index"
        if known.exists():
            await asyncio.to_thread(shutil.copyfile, known, index)
        prefix = "" if top == self._root else self._root.relative_to(top).as_posix() + "/"
        return await self._tree(git, top, index, prefix)

    async def _tree(self, git: Git, work_tree: Path, index: Path, prefix: str) -> str:
        """Return the tree of all files under `prefix` that are not ignored and that a session may write."""
        within = ("--", prefix) if prefix else ()
        _, listed = await git.run(("ls-files", "-z", "-s", *within), work_tree=work_tree, index=index)
        _, others = await git.run(
            ("ls-files", "-z", "--others", "--exclude-standard", *within), work_tree=work_tree, index=index
        )
        tracked = [line.partition(b"\t") for line in listed.split(b"\0") if line]
        links = {name for head, _, name in tracked if head.startswith(_LINK.encode())}
        names = {name for _, _, name in tracked} | {name for name in others.split(b"\0") if name}
        if len(names) > MAX_WORKTREE_FILES:
            raise TooLarge(field="worktree", limit_files=MAX_WORKTREE_FILES, given_files=len(names))
        closed = {name for name in names if _is_closed(name.removeprefix(os.fsencode(prefix)))}
        files = sorted(name for name in names - closed - links if not name.endswith(b"/"))
        update = ("update-index", "-z", "--add", "--remove", "--replace", "--stdin")
        await git.run(update, work_tree=work_tree, index=index, stdin=_joined(files))
        drop = ("update-index", "-z", "--force-remove", "--stdin")
        await git.run(drop, work_tree=work_tree, index=index, stdin=_joined(sorted(closed)))
        _, tree = await git.run(("write-tree", *((f"--prefix={prefix}",) if prefix else ())), index=index)
        return tree.strip().decode()

    async def _commit(self, git: Git, tree: str, parent: str | None = None) -> str:
        under = ("-p", parent) if parent else ()
        _, made = await git.run(("commit-tree", tree, *under), stdin=b"handshake\n")
        return made.strip().decode()

    async def _check_out(self, git: Git, commit: str, tree: Path) -> None:
        await asyncio.to_thread(tree.mkdir, mode=0o700)
        index = git.folder / "base.index"
        await git.run(("read-tree", commit), index=index)
        await git.run(("checkout-index", "--all", "--quiet", f"--prefix={tree}/"), work_tree=tree, index=index)

    async def _changes(self, git: Git, before: str, after: str) -> list[Change]:
        _, raw = await git.run(("diff-tree", "-r", "-z", "--raw", "--no-renames", "--full-index", before, after))
        return changes_of(raw)

    async def _link_dependencies(self, git: Git, top: Path, folder: Path) -> None:
        """Link ignored folders of dependencies to the workspace's own; they are read there and never merged."""
        prefix = "" if top == self._root else self._root.relative_to(top).as_posix() + "/"
        ignored = ("ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory")
        index = git.folder / "ours.index"
        within = ("--", prefix) if prefix else ()
        _, listed = await git.run((*ignored, *within), work_tree=top, index=index)
        found = []
        for name in map(os.fsdecode, listed.split(b"\0")):
            path = name.removeprefix(prefix).rstrip("/")
            spot = folder / "tree" / path
            if name.endswith("/") and spot.name in DEPENDENCY_FOLDERS and _can_be_linked(path) and spot.parent.is_dir():
                spot.symlink_to(self._root / path)
                found.append(path)
        exclude = git.folder / "info" / "exclude"
        with exclude.open("a") as file:
            file.writelines(f"/{path}\n" for path in found)


def _top(root: Path) -> Path | None:
    return next((folder for folder in (root, *root.parents) if (folder / ".git").exists()), None)


def _git_folder(top: Path) -> Path:
    """Return the folder of a repository's index, which is not `.git` in a worktree or submodule of the user's."""
    entry = top / ".git"
    if entry.is_dir():
        return entry
    try:
        words = entry.read_text(encoding="utf-8", errors="surrogateescape")[:4_096]
    except OSError as failure:
        raise StoreFailed(reason="no_repository", errno=failure.errno) from failure
    if not words.startswith("gitdir: "):
        raise Unsupported(field="git", reason="unknown_repository")
    return top / words.removeprefix("gitdir: ").rstrip("\r\n")


def _objects(top: Path) -> Path:
    """Return where the objects of a repository are."""
    folder = _git_folder(top)
    shared = folder / "commondir"
    if shared.is_file():
        folder = folder / shared.read_text(encoding="utf-8", errors="surrogateescape")[:4_096].rstrip("\r\n")
    return (folder / "objects").resolve()


def _excluded(top: Path) -> str:
    """Return what the user's repository ignores for this user only."""
    try:
        return (_git_folder(top) / "info" / "exclude").read_text(encoding="utf-8", errors="surrogateescape")[:65_536]
    except OSError:
        return ""


def _can_be_linked(path: str) -> bool:
    """Return whether a list of ignored paths can name this one as it stands."""
    return path.isprintable() and not set("*?[]\\!#").intersection(path) and path == path.strip()


def _is_closed(name: bytes) -> bool:
    return is_closed_to_writing([step for step in os.fsdecode(name).split("/") if step])


def _joined(names: list[bytes]) -> bytes:
    return b"".join(name + b"\0" for name in names)
