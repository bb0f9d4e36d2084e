"""Lists: bounded lists of field kinds, so that one event can never grow without end."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from handshake.kernel.fields import Id, Name, Sha256, Token

MAX_REFS = 64
"""References, roles and names that one event lists."""
MAX_SESSIONS = 10_000
"""Sessions that one event lists: as many as a workspace may have open."""
MAX_JOBS = 100_000
"""Jobs that one event lists; a revocation tells every run that it cancelled (03 §6)."""

SessionIds = Annotated[tuple[Id, ...], Meta(max_length=MAX_SESSIONS)]
"""Session ids, in the order in which they were acted on."""

JobIds = Annotated[tuple[Id, ...], Meta(max_length=MAX_JOBS)]
"""Job ids, in the order in which they were acted on."""

Refs = Annotated[tuple[Sha256, ...], Meta(max_length=MAX_REFS)]
"""Artifacts by hash."""

Names = Annotated[tuple[Name, ...], Meta(max_length=MAX_REFS)]
"""Names from configuration, such as capability ids."""

Roles = Annotated[tuple[Token, ...], Meta(max_length=MAX_REFS)]
"""Roles."""
