"""Worktree port: a session's own copy of the files of a git repository, and how its work comes back."""

from __future__ import annotations

from typing import Protocol

import msgspec

from handshake.kernel.ids import SessionId


class MergePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What bringing a session's work back would do to the workspace's own files; nothing is changed by making one."""

    theirs: str
    """The state of the session's files that it brings back; the base of the next merge once this one is done."""
    ours: str
    """The state of the workspace's own files that it was made for."""
    merged: str
    """The state that they would have together."""
    files: tuple[str, ...] = ()
    """Workspace-relative paths that it would change, in order."""
    diff_sha256: str
    """SHA-256 of the list of these changes, with modes and contents by their hashes."""
    conflicts: tuple[str, ...] = ()
    """Paths that both sides changed in ways that do not fit, or that must not come back; then it cannot be done."""
    reasons: tuple[str, ...] = ()
    """Why, as a token for each of `conflicts`."""


class Worktrees(Protocol):
    """Makes and merges the worktrees of one workspace.

    Nothing that a repository configures is run for that: no hook, monitor, filter, driver, helper or editor.
    """

    async def has_repository(self) -> bool:
        """Return whether the workspace lies in a git repository."""
        ...

    def path(self, session_id: SessionId) -> str:
        """Return where a session's files are, which were made.

        Raises:
            StoreFailed: they are gone.
        """
        ...

    async def make(self, session_id: SessionId) -> str:
        """Make the files of a session anew, as the workspace's own are now, uncommitted ones too; return the base.

        Raises:
            StoreFailed: it cannot be made here.
            Unsupported: this git is too old, or the repository is of a kind that is not supported.
            TooLarge: more files than a worktree may have.
        """
        ...

    async def plan(self, session_id: SessionId, base: str) -> MergePlan:
        """Return what merging would do, three ways from `base`.

        Raises:
            As `make`.
        """
        ...

    async def apply(self, session_id: SessionId, plan: MergePlan) -> None:
        """Change the workspace's own files as `plan` says. Cut off midway, planning and applying again completes it.

        Raises:
            StateConflict: one of the files has changed since the plan was made; nothing is changed.
            StoreFailed: it cannot be written.
        """
        ...

    async def remove(self, session_id: SessionId) -> None:
        """Remove a session's files; it is no error if there are none."""
        ...
