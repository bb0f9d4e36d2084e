"""Fields: the few kinds of value that an event or own record may carry; there is no kind for content.

Every field name in a record is ASCII and every number an integer, so that the plain encoding of a record
whose fields stand in alphabetical order is its canonical encoding (see `kernel.canonical`).
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from handshake.kernel.units import MAX_SAFE_INTEGER

UUID_PATTERN = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"

Id = Annotated[str, Meta(min_length=36, max_length=36, pattern=UUID_PATTERN)]
"""A UUID in canonical lower-case form."""

SHA256_PATTERN = "^[0-9a-f]{64}$"

Sha256 = Annotated[str, Meta(min_length=64, max_length=64, pattern=SHA256_PATTERN)]
"""A SHA-256 (also an artifact id) in lower-case hex."""

Token = Annotated[str, Meta(min_length=1, max_length=64, pattern="^[A-Za-z0-9][A-Za-z0-9_.:/-]*$")]
"""A word from a closed or at least bounded vocabulary: states, reasons, codes."""

Name = Annotated[str, Meta(min_length=1, max_length=200)]
"""A name from configuration or a person: one line, redacted by the recorder."""

Count = Annotated[int, Meta(ge=0, le=MAX_SAFE_INTEGER)]
"""A count, size, sequence number, or span in the unit that the field's name ends with."""

Usd = Annotated[str, Meta(min_length=8, max_length=24, pattern=r"^[0-9]+\.[0-9]{6}$")]
"""US dollars as a decimal with six places: exact, and no float in a record."""

Timestamp = Annotated[
    str, Meta(min_length=27, max_length=27, pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{6}Z$")
]
"""RFC 3339 in UTC with six decimal places."""
