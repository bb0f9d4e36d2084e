"""Tool name: how a tool's id is spelled for a provider, which allows letters, digits, `_` and `-`, and back again.

The spelling depends on the id alone, so that a request's bytes do not change with the other tools that it offers.

Source:
    gate.provider_schemas.generated (02 §2).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from handshake.kernel.errors import InvalidRequest
from handshake.kernel.settings import MAX_WIRE_NAME_CHARS

_SENDABLE = re.compile(rf"[a-zA-Z0-9_-]{{1,{MAX_WIRE_NAME_CHARS}}}")
_UNSENDABLE = re.compile(r"[^a-zA-Z0-9_-]")
_WORD = r"[a-z0-9]+(?:_[a-z0-9]+)*"
_PLAIN = re.compile(rf"{_WORD}(?:\.{_WORD})+")
"""Ids in which `__` for `.` can be read in one way only."""
_MARK_CHARS = 12
"""Hex digits of the id's SHA-256; they stand after a `-`, which no id has."""


def wire_name(tool_id: str) -> str:
    """Return the name of a tool on the wire: `.` becomes `__`; what would be too long or ambiguous ends in a hash."""
    spelled = tool_id.replace(".", "__")
    if _PLAIN.fullmatch(tool_id) and len(spelled) <= MAX_WIRE_NAME_CHARS:
        return spelled
    return _marked(spelled, tool_id)


def tool_ids_of(tool_ids: Iterable[str]) -> dict[str, str]:
    """Return the tool that each name on the wire means, among the tools of one request.

    Raises:
        InvalidRequest: two tools have one name.
    """
    named: dict[str, str] = {}
    for tool_id in tool_ids:
        if named.setdefault(wire_name(tool_id), tool_id) != tool_id:
            raise InvalidRequest(field="tools", reason="same_name")
    return named


def is_wire_name(name: str) -> bool:
    """Return whether providers take `name`."""
    return _SENDABLE.fullmatch(name) is not None


def sendable_name(name: str) -> str:
    """Return a name that a model wrote, as providers take it back; what they would refuse ends in a hash."""
    return name if is_wire_name(name) else _marked(name, name)


def _marked(spelled: str, whole: str) -> str:
    mark = hashlib.sha256(whole.encode(errors="surrogatepass")).hexdigest()[:_MARK_CHARS]
    return f"{_UNSENDABLE.sub('_', spelled)[: MAX_WIRE_NAME_CHARS - _MARK_CHARS - 1]}-{mark}"
