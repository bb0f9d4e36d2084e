"""Secrets: credentials by reference, read when a call is made and never kept."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from handshake.kernel.errors import InvalidConfig, Unsupported
from handshake.kernel.redaction import KnownValues

MAX_SECRET_BYTES = 64 * 1024


class Secrets:
    """Reads credentials where their references point, and tells `known` about every one that it reads."""

    def __init__(self, known: KnownValues) -> None:
        self.known = known
        """What was read, in the forms in which it could turn up."""

    def __call__(self, reference: str) -> str:
        """Return the credential that `reference` (`env:NAME` or `file:PATH`) points at.

        Raises:
            InvalidConfig: there is nothing there, or it is not one line of text.
            Unsupported: a reference of another kind.
        """
        kind, _, name = reference.partition(":")
        if kind == "env":
            value = os.environ.get(name)
        elif kind == "file":
            value = _from_file(name)
        else:
            raise Unsupported(reason="credential_kind", kind=kind)
        if not value or not value.isprintable():
            raise InvalidConfig(reason="credential_missing", credential=reference)
        self.known.add(value)
        return value

    def look_up(self, references: Iterable[str]) -> None:
        """Learn all credentials that can be read now, so that none can turn up in a record before its first use."""
        for reference in references:
            with suppress(InvalidConfig, Unsupported):
                self(reference)


def _from_file(name: str) -> str | None:
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for a writer.
        descriptor = os.open(Path(name).expanduser(), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
            data = os.read(descriptor, MAX_SECRET_BYTES + 1) if is_file else b""
        finally:
            os.close(descriptor)
        return data.decode().strip() if len(data) <= MAX_SECRET_BYTES else None
    except (OSError, ValueError, RuntimeError):  # the last: `~name` of nobody
        return None
