"""MCP result: what a server answered to a call, as a tool's result within bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from handshake.kernel.mcp import visible
from handshake.kernel.mcp_settings import MAX_MCP_ERROR_CHARS

CUT_AT_LEAST_BYTES = 1_024
"""Room that is kept for what is not text when a result is cut."""

_encode = msgspec.json.Encoder().encode


def value_of(
    content: Sequence[Mapping[str, Any]], structured: object, *, is_structured: bool, most_bytes: int
) -> dict[str, Any] | None:
    """Return a tool's result, or None for a structured one that is no object or too large: it cannot be cut.

    Args:
        content: blocks as the protocol spells them.
        structured: the structured content, if any.
        is_structured: whether the tool declares a schema for it; then it is the result, and the blocks repeat it.
        most_bytes: size of the result as JSON.
    """
    if is_structured:
        fits = isinstance(structured, dict) and len(_encode(structured)) <= most_bytes
        return dict(structured) if fits and isinstance(structured, dict) else None
    blocks = [_told(block) for block in content]
    value: dict[str, Any] = {"content": blocks, "truncated": False}
    if len(_encode(value)) <= most_bytes:
        return value
    return {"content": _cut(blocks, most_bytes - CUT_AT_LEAST_BYTES), "truncated": True}


def error_text(content: Sequence[Mapping[str, Any]]) -> str:
    """Return what a failed call says, for the model only."""
    text = "\n".join(str(block.get("text", "")) for block in content if block.get("type") == "text")
    return visible(text[:MAX_MCP_ERROR_CHARS]) or "the server says that the call failed, and not why"


def _told(block: Mapping[str, Any]) -> dict[str, Any]:
    """Return a block as a model is told of it: text as it is, of anything else what and how much it is."""
    kind = str(block.get("type", ""))
    if kind == "text":
        return {"type": "text", "text": str(block.get("text", ""))}
    if kind == "resource_link":
        return {"type": kind, "uri": str(block.get("uri", "")), "name": str(block.get("name", ""))}
    resource = block.get("resource")
    if kind == "resource" and isinstance(resource, Mapping) and isinstance(resource.get("text"), str):
        return {"type": kind, "uri": str(resource.get("uri", "")), "text": str(resource["text"])}
    held = resource if isinstance(resource, Mapping) else block
    data = held.get("data", held.get("blob", ""))
    return {
        "type": kind,
        "mime_type": str(held.get("mimeType", "")),
        "omitted_base64_chars": len(data) if isinstance(data, str) else 0,
    }


def _cut(blocks: Sequence[dict[str, Any]], most_bytes: int) -> list[dict[str, Any]]:
    """Return the blocks from the first on that fit, the text of the last one cut."""
    kept: list[dict[str, Any]] = []
    left = most_bytes
    for block in blocks:
        size = len(_encode(block))
        if size <= left:
            kept.append(block)
            left -= size + 1
            continue
        text = block.get("text")
        if isinstance(text, str) and left > 0:
            kept.append({**block, "text": _fitting({**block, "text": ""}, text, left)})
        break
    return kept


def _fitting(block: Mapping[str, Any], text: str, most_bytes: int) -> str:
    """Return the longest beginning of `text` with which `block` has at most `most_bytes`; found by halving."""
    low, high = 0, min(len(text), max(most_bytes, 0))
    while low < high:
        middle = (low + high + 1) // 2
        if len(_encode({**block, "text": text[:middle]})) <= most_bytes:
            low = middle
        else:
            high = middle - 1
    return text[:low]
