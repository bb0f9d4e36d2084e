"""HTTP form: what leaves in a request's head, and what a response's head means; no I/O.

Source:
    03 §2 (allow-list of headers), 01 §5 (Retry-After), RFC 9110 §5.6.7, §10.2.3.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from handshake.kernel.settings import MAX_CALL_MS
from handshake.kernel.units import US_PER_MS, Microseconds

ALLOWED_HEADERS = frozenset({"accept", "authorization", "content-type"})
"""What an adapter may send; the transport itself adds `host`, `content-length` and `connection`."""

_SECONDS = re.compile(r"[0-9]{1,10}")
_DATE = re.compile(r"[A-Z][a-z]{2}, ([0-9]{2}) ([A-Z][a-z]{2}) ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_CREDENTIAL = re.compile(r"[!-~]+")


def request_headers(credential: str | None, *, accept: str) -> dict[str, str]:
    """Return the whole head that we choose ourselves; nothing of a caller gets into it.

    Args:
        credential: goes into `authorization` as a bearer token; None for engines that want none.
        accept: the media types that are understood.

    Raises:
        ValueError: the credential has a character that a header may not have; it is not in the message.
    """
    headers = {"accept": accept, "content-type": "application/json"}
    if credential is not None:
        if not _CREDENTIAL.fullmatch(credential):
            raise ValueError("a credential is visible ASCII")
        headers["authorization"] = f"Bearer {credential}"
    return headers


def media_type(content_type: str | None) -> str:
    """Return the media type of a `Content-Type`, without parameters, in lower case."""
    return (content_type or "").partition(";")[0].strip().lower()


def is_encoded(content_encoding: str | None) -> bool:
    """Return whether a body was compressed, although nobody asked for that."""
    return (content_encoding or "identity").strip().lower() not in ("", "identity")


def retry_after_ms(value: str | None, *, now_us: Microseconds) -> int | None:
    """Return the wait that a `Retry-After` asks for, in milliseconds, at most `MAX_CALL_MS`.

    Args:
        value: seconds, or a date in the form that RFC 9110 lets be generated; anything else asks for nothing.
        now_us: when the response came, microseconds since 1970.
    """
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return min(int(text) * 1_000, MAX_CALL_MS)
    moment = _moment_us(text)
    if moment is None:
        return None
    return min(max(0, -(-(moment - now_us) // US_PER_MS)), MAX_CALL_MS)


def _moment_us(text: str) -> int | None:
    found = _DATE.fullmatch(text)
    if found is None or found[2] not in _MONTHS:
        return None
    day, year, hour, minute, second = (int(found[place]) for place in (1, 3, 4, 5, 6))
    try:
        moment = datetime(year, _MONTHS.index(found[2]) + 1, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    return int(moment.timestamp()) * 1_000_000
