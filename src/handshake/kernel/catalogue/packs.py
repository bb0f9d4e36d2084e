"""Pack events: context packs and the swaps of models that they carry over (05 §2–5)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from handshake.kernel.event import Payload, Retention, event
from handshake.kernel.fields import Count, Id, Name, Sha256, Token

MAX_CATEGORIES = 16
"""Redaction categories that one event lists."""


class Redaction(Payload, frozen=True, kw_only=True):
    """How much of one category was replaced."""

    category: Token
    count: Count


Redactions = Annotated[tuple[Redaction, ...], Meta(max_length=MAX_CATEGORIES)]
"""What was replaced, by category; never by value."""


@event("pack.built", retention=Retention.RUN)
class PackBuilt(Payload, frozen=True, kw_only=True):
    """A pack was built."""

    effective_pack_sha256: Sha256
    mt_id: Name | None
    omitted_count: Count
    redactions: Redactions
    requested_pack_sha256: Sha256
    role: Token
    wp_id: Name | None


@event("pack.reused", retention=Retention.RUN)
class PackReused(Payload, frozen=True, kw_only=True):
    """An earlier pack is byte-identical and was taken again."""

    effective_pack_sha256: Sha256
    mt_id: Name | None
    omitted_count: Count
    redactions: Redactions
    requested_pack_sha256: Sha256
    reuse_reason: Token
    role: Token
    wp_id: Name | None


@event("pack.rejected", retention=Retention.AUDIT)
class PackRejected(Payload, frozen=True, kw_only=True):
    """A pack was refused; the effective hash is null where none could be made."""

    effective_pack_sha256: Sha256 | None
    mt_id: Name | None
    omitted_count: Count
    reason: Token
    redactions: Redactions
    requested_pack_sha256: Sha256
    role: Token
    wp_id: Name | None


@event("pack.bound", retention=Retention.RUN)
class PackBound(Payload, frozen=True, kw_only=True):
    """A run got the pack without which it may not be dispatched."""

    effective_pack_sha256: Sha256
    job_id: Id
    model_id: Name
    mt_id: Name | None
    omitted_count: Count
    redactions: Redactions
    requested_pack_sha256: Sha256
    role: Token
    session_id: Id
    wp_id: Name | None
