"""Section: what a table of the configuration is, and the kinds of value that several tables have."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

MAX_NAME_CHARS = 200
"""Titles, roles, model ids and reasons: one line on a screen."""
MAX_URL_CHARS = 2_000
"""A base URL; longer ones are not addresses."""

Text = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS)]
"""One line of printable characters, as every text of a configuration (`kernel.configuration` sees to it)."""
Url = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_URL_CHARS,
        pattern="^https?://[!-~]+$",
        extra={"expected": "an http:// or https:// URL"},
    ),
]
CredentialReference = Annotated[
    str,
    Meta(
        min_length=5,
        max_length=1_000,
        pattern="^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+|keyring:.+)$",
        extra={"expected": "env:NAME, file:PATH or keyring:SERVICE/USER, never the credential itself"},
    ),
]
"""Where a credential is found."""


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the configuration."""
