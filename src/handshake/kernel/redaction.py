"""Redaction: values that this process knows to be secret, in the forms in which they could turn up.

Source:
    recorder.leak.none, provider.secret.never_leaks (03 §2, 06 §1.3).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

MIN_KNOWN_CHARS = 12
"""Shorter values are too common to be told from ordinary text."""
MAX_KNOWN_VALUES = 1_000
"""Credentials of one process; each costs a search in every event."""

PLACEHOLDER = b"[REDACTED:secrets]"


class KnownValues:
    """Secrets of this process; a value is never handed out again, only looked for."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._forms: tuple[bytes, ...] = ()
        self._count = 0
        for value in values:
            self.add(value)

    def __bool__(self) -> bool:
        """Return whether there is anything to look for."""
        return bool(self._forms)

    def add(self, value: str) -> None:
        """Look for `value` and its escaped and encoded forms from now on; short values are not looked for."""
        if len(value) < MIN_KNOWN_CHARS or self._count >= MAX_KNOWN_VALUES:
            return
        forms = set(self._forms) | _forms_of(value)
        if len(forms) > len(self._forms):
            self._count += 1
            self._forms = tuple(sorted(forms, key=lambda form: (-len(form), form)))

    def clean(self, data: bytes) -> bytes:
        """Return `data` with every known value replaced by `PLACEHOLDER`; the same object if there is none."""
        for form in self._forms:
            if form in data:
                data = data.replace(form, PLACEHOLDER)
        return data


def _forms_of(value: str) -> set[bytes]:
    data = value.encode("utf-8", errors="surrogatepass")
    texts = {
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        quote(data, safe=""),
        quote_plus(data),
        data.hex(),
        data.hex().upper(),
        base64.b64encode(data).decode().rstrip("="),
        base64.urlsafe_b64encode(data).decode().rstrip("="),
    }
    return {data} | {text.encode("utf-8", errors="surrogatepass") for text in texts}
