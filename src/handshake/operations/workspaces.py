"""Workspaces: where a session's files are, and how an operator brings its work back.

A session that writes in a git repository gets a worktree of its own with the first call that may write; before that,
and where there is no repository, it works in the workspace itself.

Source:
    gate.workspace.merge_explicit (02 §7).
"""

from __future__ import annotations

import asyncio

import msgspec

from handshake.kernel.canonical import canonical
from handshake.kernel.catalogue import WorkspaceMergeConflict, WorkspaceMerged
from handshake.kernel.errors import NotFound, StateConflict
from handshake.kernel.event import Actor
from handshake.kernel.ids import SessionId
from handshake.kernel.queue import RunQueue
from handshake.kernel.session import TERMINAL, Session, may_dispatch
from handshake.operations import records
from handshake.operations.moving import about, facts_of, move
from handshake.ports.store import Content, Reader, Store, Tx
from handshake.ports.worktree import MergePlan, Worktrees

CONFLICT = "merge_conflict"
MERGED = "merged"
_REPORT_TYPE = "application/json"


class Worktree(msgspec.Struct, frozen=True):
    """What is stored of a session's worktree; times in microseconds since 1970."""

    base: str
    made_at_us: int
    merged_at_us: int | None
    merging_sha256: str | None
    """A merge that was begun and of whose end nothing is stored: what it changes, by hash."""
    merging_files: int | None
    is_in_conflict: bool


class Merged(msgspec.Struct, frozen=True):
    """What came of bringing a session's work back."""

    session_id: SessionId
    files: tuple[str, ...]
    """Workspace-relative paths that were changed; none if there is a conflict."""
    diff_sha256: str
    conflicts: tuple[str, ...] = ()
    """Paths that do not fit; then nothing was changed."""
    report_artifact_id: str | None = None


class Workspaces:
    """Where sessions work; one object per runtime.

    Args:
        store: the store.
        queue: holds back a session whose work does not fit.
        root: the workspace.
        worktrees: makes and merges the sessions' own files.
    """

    def __init__(self, store: Store, queue: RunQueue, root: str, worktrees: Worktrees) -> None:
        self._store = store
        self._queue = queue
        self._root = root
        self._worktrees = worktrees
        self._making: dict[SessionId, asyncio.Lock] = {}
        self._merging = asyncio.Lock()

    async def room(self, session_id: str, writes: bool) -> str:
        """Return the folder that a session's paths are relative to, made if the session is about to write.

        Raises:
            As `ports.worktree.Worktrees.make`; then the session does not write at all.
        """
        owner = SessionId(session_id)
        async with self._making.setdefault(owner, asyncio.Lock()):
            try:
                if await self._store.read(lambda reader: worktree_of(reader, owner)) is not None:
                    return self._worktrees.path(owner)
                if not writes or not await self._worktrees.has_repository():
                    return self._root
                base = await self._worktrees.make(owner)
                await self._store.write(lambda tx: _made(tx, owner, base))
                return self._worktrees.path(owner)
            finally:
                self._making.pop(owner, None)

    async def merge(self, session_id: SessionId) -> Merged:
        """Bring a session's work back into the workspace's own files: all of it, or nothing and a report.

        Cut off midway, merging again completes it.

        Raises:
            NotFound: no such session, or it has no files of its own.
            StateConflict: a run of it is at work, or a file changed meanwhile.
            StoreFailed, Unsupported, TooLarge: as `ports.worktree.Worktrees`.
        """
        async with self._merging:
            found = await self._store.read(lambda reader: _mergeable(reader, session_id))
            plan = await self._worktrees.plan(session_id, found.base)
            if plan.conflicts:
                return await self._in_conflict(session_id, plan)
            if plan.files:
                sha256, files = plan.diff_sha256, len(plan.files)
                await self._store.write(lambda tx: _begun(tx, session_id, sha256, files))
                await self._worktrees.apply(session_id, plan)
            return await self._store.write(lambda tx: _merged(tx, self._queue, session_id, plan))

    async def _in_conflict(self, session_id: SessionId, plan: MergePlan) -> Merged:
        listed = [
            {"path": path.encode("utf-8", "backslashreplace").decode(), "reason": reason}
            for path, reason in zip(plan.conflicts, plan.reasons, strict=True)
        ]
        report = canonical({"base_files": len(plan.files), "conflicts": listed, "session_id": session_id})
        content = await self._store.prepare(report, _REPORT_TYPE)
        return await self._store.write(lambda tx: _conflicting(tx, self._queue, session_id, plan, content))


def worktree_of(reader: Reader, session_id: SessionId) -> Worktree | None:
    """Return what is stored of a session's worktree, or None if it has none."""
    row = reader.row("worktree_get", {"session_id": session_id})
    if row is None:
        return None
    fields = dict(zip(Worktree.__struct_fields__, row, strict=True))
    return msgspec.convert(fields, Worktree, strict=False)


def _made(tx: Tx, session_id: SessionId, base: str) -> None:
    tx.run("worktree_insert", {"session_id": session_id, "base": base, "now_us": tx.now_us})


def _mergeable(reader: Reader, session_id: SessionId) -> Worktree:
    session = records.session(reader, session_id)
    found = worktree_of(reader, session_id)
    if found is None:
        raise NotFound(
            kind="worktree", session_id=session_id, hint="only a session that wrote in a git repository has one"
        )
    if session.running:
        raise StateConflict(
            reason="session_is_active", session_id=session_id, hint="wait for its run, or pause it and merge then"
        )
    return found


def _begun(tx: Tx, session_id: SessionId, sha256: str, files: int) -> None:
    """Store the intent, so that a merge that was cut off is told as what it was."""
    _mergeable(tx, session_id)
    tx.run("worktree_merging", {"session_id": session_id, "sha256": sha256, "files": files})


def _merged(tx: Tx, queue: RunQueue, session_id: SessionId, plan: MergePlan) -> Merged:
    """Store that the work is back; what an earlier, cut-off merge did counts to it. Touches the queue."""
    session = records.session(tx, session_id)
    stored = worktree_of(tx, session_id)
    assert stored is not None, "nobody takes a worktree's row away"
    cut_off = not plan.files and stored.merging_sha256 is not None
    sha256 = stored.merging_sha256 if cut_off and stored.merging_sha256 else plan.diff_sha256
    files = stored.merging_files if cut_off and stored.merging_files is not None else len(plan.files)
    tx.run("worktree_merged", {"session_id": session_id, "base": plan.theirs, "now_us": tx.now_us})
    tx.append(
        WorkspaceMerged(diff_sha256=sha256, files_count=files, session_id=session_id), about(session, Actor.HUMAN)
    )
    if stored.is_in_conflict and session.state not in TERMINAL:
        _lift(tx, queue, session)
    return Merged(session_id, plan.files, sha256)


def _lift(tx: Tx, queue: RunQueue, session: Session) -> None:
    after = msgspec.structs.replace(session, blockers=session.blockers - 1)
    after = move(tx, session, after, reason=MERGED, actor=Actor.HUMAN)
    if may_dispatch(facts_of(after)):
        queue.unhold(session.session_id)


def _conflicting(tx: Tx, queue: RunQueue, session_id: SessionId, plan: MergePlan, report: Content) -> Merged:
    """Store that the work does not fit, with the report; a session that lives is BLOCKED. Touches the queue."""
    session = records.session(tx, session_id)
    stored = worktree_of(tx, session_id)
    assert stored is not None, "nobody takes a worktree's row away"
    tx.put(report)
    tx.append(
        WorkspaceMergeConflict(
            conflicts_count=len(plan.conflicts),
            files_count=len(plan.files),
            report_artifact_id=report.artifact_id,
            session_id=session_id,
        ),
        about(session, Actor.HUMAN),
    )
    if not stored.is_in_conflict:
        tx.run("worktree_in_conflict", {"session_id": session_id})
        if session.state not in TERMINAL:
            move(
                tx,
                session,
                msgspec.structs.replace(session, blockers=session.blockers + 1),
                reason=CONFLICT,
                actor=Actor.HUMAN,
            )
            queue.hold(session_id)
    return Merged(session_id, (), plan.diff_sha256, plan.conflicts, report.artifact_id)
