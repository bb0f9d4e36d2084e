"""Recorder events: what leaves the recorder, what it drops after its time, and what it signs (06 §1, §5)."""

from __future__ import annotations

from enum import StrEnum

from handshake.kernel.event import Payload, Retention, event
from handshake.kernel.fields import Count, Id, Sha256, Token


class BundleMode(StrEnum):
    """How much a debug bundle may hold."""

    SAFE_DEFAULT = "SAFE_DEFAULT"
    WORKSPACE = "WORKSPACE"
    FULL_LOCAL = "FULL_LOCAL"


@event("debug_bundle_export", fr_id="FR-EVT-005", retention=Retention.AUDIT)
class DebugBundleExport(Payload, frozen=True, kw_only=True):
    """A debug bundle was written."""

    bundle_id: Id
    bundle_sha256: Sha256
    events_count: Count
    files_count: Count
    jobs_count: Count
    mode: BundleMode
    redactions_count: Count
    size_bytes: Count


@event("export.blocked", retention=Retention.AUDIT)
class ExportBlocked(Payload, frozen=True, kw_only=True):
    """An export was stopped because it held what must not leave."""

    export_id: Id
    findings_count: Count
    kind: Token
    """`debug_bundle`, `mailbox`, `events`, `backup`."""
    reason: Token


@event("meta.gc_summary", retention=Retention.AUDIT)
class GcSummary(Payload, frozen=True, kw_only=True):
    """Events past their time are about to be removed; their leaf hashes stay."""

    artifacts_count: Count
    events_count: Count
    first_seq: Count
    freed_bytes: Count
    last_seq: Count
    retention_class: Retention
    segments_count: Count


@event("meta.checkpoint_signed", retention=Retention.AUDIT)
class CheckpointSigned(Payload, frozen=True, kw_only=True):
    """The log up to `tree_size` events was signed."""

    key_id: Token
    root_hash: Sha256
    tree_size: Count
