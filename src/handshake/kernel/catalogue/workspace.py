"""Workspace events: write scopes of parallel sessions and their merge-back (02 §7)."""

from __future__ import annotations

from handshake.kernel.event import Payload, Retention, event
from handshake.kernel.fields import Count, Id, Sha256, Token


@event("workspace.denied", retention=Retention.AUDIT)
class WorkspaceDenied(Payload, frozen=True, kw_only=True):
    """A session wanted to touch what it may not; the holder is the session whose scope it would overlap."""

    holder_session_id: Id | None = None
    reason: Token
    session_id: Id


@event("workspace.merged", retention=Retention.RUN)
class WorkspaceMerged(Payload, frozen=True, kw_only=True):
    """An operator merged a session's worktree back."""

    diff_sha256: Sha256
    files_count: Count
    session_id: Id


@event("workspace.merge_conflict", retention=Retention.RUN)
class WorkspaceMergeConflict(Payload, frozen=True, kw_only=True):
    """A session's worktree could not be merged back; the report is an artifact."""

    conflicts_count: Count
    files_count: Count
    report_artifact_id: Sha256
    session_id: Id
