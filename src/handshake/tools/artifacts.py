"""Artifacts: the adapter of the tool that reads what a session's own rows refer to, part by part."""

from __future__ import annotations

import base64
import codecs
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from handshake.kernel.ids import ArtifactId, SessionId
from handshake.ports.tool import ToolContext, ToolFailed, ToolPass, ToolResult, Touched
from handshake.tools.reading import room_of

OwnArtifact = Callable[[SessionId, ArtifactId], Awaitable[bytes | None]]
"""Returns an artifact that a row of the session refers to, or None: whether there is another's, nobody is told."""


class ArtifactTool:
    """Reads artifacts of the session that asks.

    Args:
        own: the store's answer.
    """

    def __init__(self, own: OwnArtifact) -> None:
        self._own = own

    async def run(self, tool_pass: ToolPass, tool_id: str, args: Mapping[str, Any], context: ToolContext) -> ToolResult:
        """Return a part of an artifact.

        Raises:
            ToolFailed: no row of the session refers to it, or it is not text.
        """
        tool_pass.spend()
        artifact_id = ArtifactId(args["artifact_id"])
        data = await self._own(context.session_id, artifact_id)
        if data is None:
            raise ToolFailed("HSK-404-NOT-FOUND", "nothing of this session refers to such an artifact")
        offset = min(args.get("offset_bytes", 0), len(data))
        encoding = args.get("encoding", "utf-8")
        room = room_of(context)
        part = data[offset : offset + (room // 4 * 3 if encoding == "base64" else room)]
        if encoding == "base64":
            content, size = base64.b64encode(part).decode(), len(part)
        else:
            content, size = _as_text(part, room, is_last=offset + len(part) == len(data))
        value: dict[str, Any] = {
            "artifact_id": artifact_id,
            "content": content,
            "encoding": encoding,
            "size_bytes": len(data),
            "offset_bytes": offset,
        }
        if offset + size < len(data):
            value["next_offset_bytes"] = offset + size
        return ToolResult(value, Touched(artifacts=(artifact_id,)))

    async def close(self) -> None:
        """Nothing is held between two calls."""


def _as_text(part: bytes, room: int, *, is_last: bool) -> tuple[str, int]:
    """Return as much of the text as fits as JSON, in whole characters, and how many bytes it has."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(part, final=is_last)
    except UnicodeDecodeError:
        raise ToolFailed("HSK-400-INVALID-REQUEST", "the artifact is not text in UTF-8 there; read base64") from None
    while len(msgspec.json.encode(text)) > room:
        text = text[: len(text) // 2]
    return text, len(text.encode())
