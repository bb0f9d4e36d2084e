"""Queries: the SQL of the product by name, read from `storage/sql/*.sql`."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_NAME = re.compile(r"^-- name: ([a-z][a-z0-9_]*)$", re.MULTILINE)


@cache
def load() -> dict[str, str]:
    """Return every query by its name; a name that stands twice is a programming error."""
    found: dict[str, str] = {}
    folder = files("handshake.storage") / "sql"
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if not file.name.endswith(".sql"):
            continue
        parts = _NAME.split(file.read_text(encoding="utf-8"))
        for name, text in zip(parts[1::2], parts[2::2], strict=True):
            if name in found:
                raise ValueError(f"query defined twice: {name}")
            found[name] = text.strip().rstrip(";")
    return found
