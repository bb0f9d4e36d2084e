"""Editing: what the tools that write and patch files do; a call has changed all that it says, or nothing."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Any

from handshake.kernel.errors import InvalidRequest
from handshake.kernel.settings import MAX_TOOL_FILE_BYTES
from handshake.kernel.text_patch import Replacement, parse_hunks, patched, replaced
from handshake.kernel.workspace_path import Steps, spelled
from handshake.ports.tool import ToolContext, ToolFailed, ToolResult, Touched
from handshake.tools.filesystem import Tree
from handshake.tools.reach import readable, writable
from handshake.tools.reading import Stop, asked_path
from handshake.tools.replacing import Change, Replacing, Written


def write(args: Mapping[str, Any], context: ToolContext, stop: Stop) -> ToolResult:
    """Give a file new content, whole."""
    steps = asked_path(args["path"])
    data = _content(args)
    expected: str | None = args.get("expected_sha256")
    overwrite = bool(args.get("overwrite", False))

    def change(before: bytes | None) -> bytes:
        if expected is not None:
            _require(before, expected)
        elif before is not None and not overwrite:
            raise ToolFailed("HSK-409-CONFLICT", f"{spelled(steps)} exists; say expected_sha256 or overwrite")
        return data

    with Tree(context.root) as tree, Replacing(tree, writable(context.reach), context.tool_call_id) as one:
        one.prepare(steps, change, make=True)
        _go_on(stop)
        (written,) = one.commit()
    return ToolResult(_told(written), Touched(files=(spelled(steps),)))


def patch(args: Mapping[str, Any], context: ToolContext, stop: Stop) -> ToolResult:
    """Change text files in place, all of them or none."""
    paths = [asked_path(change["path"]) for change in args["changes"]]
    if len(set(paths)) < len(paths):
        raise ToolFailed("HSK-400-INVALID-REQUEST", "a file stands in two changes; put them into one")
    may_read, may_write = readable(context.reach), writable(context.reach)

    def scope(steps: Steps) -> bool:
        return may_read(steps) and may_write(steps)

    with Tree(context.root) as tree, Replacing(tree, scope, context.tool_call_id) as one:
        for place, (steps, change) in enumerate(zip(paths, args["changes"], strict=True)):
            _go_on(stop)
            one.prepare(steps, _edit(change, f"changes[{place}]"), make=False)
        _go_on(stop)
        written = one.commit()
    files = tuple(spelled(one.steps) for one in written)
    return ToolResult({"files": [_told(one) for one in written]}, Touched(files=files))


def _edit(change: Mapping[str, Any], where: str) -> Change:
    diff: str | None = change.get("diff")
    edits: list[dict[str, Any]] | None = change.get("replacements")
    if (diff is None) == (edits is None):
        raise ToolFailed("HSK-400-INVALID-REQUEST", f"{where} has neither or both of diff and replacements")

    def changed(before: bytes | None) -> bytes:
        if before is None:
            raise ToolFailed("HSK-404-NOT-FOUND", f"{where}: there is no such file; write it whole")
        if "expected_sha256" in change:
            _require(before, change["expected_sha256"])
        try:
            text = before.decode()
            if diff is not None:
                new = patched(text, parse_hunks(diff))
            else:
                new = replaced(text, [Replacement(one["old"], one["new"], one.get("count", 1)) for one in edits or ()])
            return _bounded(new.encode())
        except UnicodeError:
            raise ToolFailed("HSK-400-INVALID-REQUEST", f"{where}: not text in UTF-8") from None
        except InvalidRequest as misfit:
            told = ", ".join(f"{key} {value}" for key, value in misfit.context.items())
            raise ToolFailed("HSK-409-CONFLICT", f"{where} does not fit: {told}") from None

    return changed


def _content(args: Mapping[str, Any]) -> bytes:
    try:
        if args.get("encoding", "utf-8") == "base64":
            return _bounded(base64.b64decode(args["content"], validate=True))
        return _bounded(str(args["content"]).encode())
    except (binascii.Error, ValueError):
        raise ToolFailed("HSK-400-INVALID-REQUEST", "the content is not what its encoding says") from None


def _bounded(data: bytes) -> bytes:
    if len(data) > MAX_TOOL_FILE_BYTES:
        raise ToolFailed("HSK-413-TOO-LARGE", f"a file written by a tool has at most {MAX_TOOL_FILE_BYTES} bytes")
    return data


def _require(before: bytes | None, sha256: str) -> None:
    if before is None or hashlib.sha256(before).hexdigest() != sha256:
        raise ToolFailed("HSK-409-CONFLICT", "the file does not hold what was expected; read it again", retryable=True)


def _go_on(stop: Stop) -> None:
    if stop():
        raise ToolFailed("timeout", "the call took too long; nothing was changed", timeout=True, retryable=True)


def _told(written: Written) -> dict[str, Any]:
    return {
        "path": spelled(written.steps),
        "sha256": written.sha256,
        "size_bytes": written.size_bytes,
        "created": not written.was_there,
    }
