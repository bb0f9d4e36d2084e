"""Reading: what the tools that read and list files give; a call runs in a thread and looks when to stop."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from handshake.kernel import path_glob
from handshake.kernel.errors import InvalidRequest, UnknownCapability
from handshake.kernel.path_glob import Segments
from handshake.kernel.settings import MAX_INLINE_PAYLOAD_BYTES, MAX_LISTED_ENTRIES, MAX_TOOL_FILE_BYTES
from handshake.kernel.tools.files import DEFAULT_LINES
from handshake.kernel.workspace_path import Steps, parse_path, spelled
from handshake.ports.tool import ToolContext, ToolFailed, ToolResult, Touched
from handshake.tools.filesystem import Entry, Found, Tree
from handshake.tools.reach import leading_to, matching, readable
from handshake.tools.replacing import read_whole

Stop = Callable[[], bool]
"""Whether the call's time is over, or its caller gone."""

RESERVED_BYTES = 2_048
"""Of a result's bound, what is kept for its other members."""
_ENTRY_BYTES = 64
"""What an entry takes besides its path."""


def read(args: Mapping[str, Any], context: ToolContext, _stop: Stop) -> ToolResult:
    """Return what a file holds, or the part of it that fits."""
    steps = asked_path(args["path"])
    with Tree(context.root) as tree, tree.file(steps, readable(context.reach)) as found:
        value: dict[str, Any] = {"path": spelled(found.steps), "size_bytes": found.status.st_size}
        room = room_of(context)
        if args.get("encoding", "utf-8") == "base64":
            value |= _range(found, args.get("offset_bytes", 0), room)
        else:
            value |= _lines(found, args, room)
        return ToolResult(value, Touched(files=(spelled(found.steps),)))


def list_entries(args: Mapping[str, Any], context: ToolContext, stop: Stop) -> ToolResult:
    """Return the files and folders that match a glob and that the session may read."""
    glob = asked_glob(args["glob"])
    most = args.get("max_entries", MAX_LISTED_ENTRIES)
    room = room_of(context)
    wanted, within = matching(glob), readable(context.reach)
    found: list[dict[str, Any]] = []
    cut_by = None
    with Tree(context.root) as tree:
        for entry in walked(tree, glob, context, stop):
            if not (wanted(entry.steps) and within(entry.steps)):
                continue
            room -= len(spelled(entry.steps).encode()) + _ENTRY_BYTES
            if len(found) == most or room < 0:
                cut_by = "entries" if len(found) == most else "size"
                break
            found.append(_shown(entry))
    if cut_by is None and stop():
        cut_by = "time"
    value: dict[str, Any] = {"entries": found}
    return ToolResult(value if cut_by is None else {**value, "cut_by": cut_by})


def walked(tree: Tree, glob: Segments, context: ToolContext, stop: Stop) -> Iterator[Entry]:
    """Yield what lies where a glob leads, in order; a glob without `*` is the one file or folder that it names."""
    start = path_glob.literal_start(glob)
    if path_glob.is_literal(glob):
        start = start[:-1]
    return tree.walk(start, lambda _steps: True, wanted=leading_to(glob), stop=stop)


def room_of(context: ToolContext) -> int:
    """Return how many bytes a result may have so that its caller is given it, and not a reference."""
    return max(min(context.max_result_bytes, MAX_INLINE_PAYLOAD_BYTES) - RESERVED_BYTES, 1)


def asked_path(text: str) -> Steps:
    """Return the steps of a path that a call names.

    Raises:
        ToolFailed: it is none.
    """
    try:
        return parse_path(text)
    except InvalidRequest as refused:
        raise ToolFailed(refused.code, f"the path is refused: {refused.context['reason']}") from None


def asked_glob(text: str) -> Segments:
    """Return the segments of a glob that a call names.

    Raises:
        ToolFailed: it is none.
    """
    try:
        return path_glob.parse(text)
    except UnknownCapability as refused:
        raise ToolFailed("HSK-400-INVALID-REQUEST", f"the glob is refused: {refused.context['reason']}") from None


def _range(found: Found, offset: int, room: int) -> dict[str, Any]:
    data = os.pread(found.descriptor, room // 4 * 3, offset)
    value: dict[str, Any] = {"content": base64.b64encode(data).decode(), "encoding": "base64"}
    if offset + len(data) < found.status.st_size and data:
        value["next_offset_bytes"] = offset + len(data)
    elif offset == 0:
        value["sha256"] = hashlib.sha256(data).hexdigest()
    return value


def _lines(found: Found, args: Mapping[str, Any], room: int) -> dict[str, Any]:
    if found.status.st_size > MAX_TOOL_FILE_BYTES:
        raise ToolFailed(
            "HSK-413-TOO-LARGE",
            f"the file has {found.status.st_size} bytes, more than {MAX_TOOL_FILE_BYTES}; read ranges of it as base64",
        )
    data = read_whole(found.descriptor, found.steps)
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError:
        raise ToolFailed("HSK-400-INVALID-REQUEST", "the file is not text in UTF-8; read it as base64") from None
    first = args.get("first_line", 1)
    chosen = lines[first - 1 : first - 1 + args.get("max_lines", DEFAULT_LINES)]
    fitting, is_cut = _fitting(chosen, room)
    after = first + len(fitting)
    content = "\n".join(fitting) + ("\n" if after <= len(lines) and fitting and not is_cut else "")
    value: dict[str, Any] = {
        "content": content,
        "encoding": "utf-8",
        "sha256": hashlib.sha256(data).hexdigest(),
        "first_line": first,
    }
    if after < len(lines) or (after == len(lines) and lines[-1]):
        value["next_line"] = after
    return {**value, "line_is_cut": True} if is_cut else value


def _fitting(lines: list[str], room: int) -> tuple[list[str], bool]:
    """Return the lines that fit as JSON, and whether the only one of them had to be cut."""
    for count, line in enumerate(lines):
        room -= len(msgspec.json.encode(line))
        if room < 0:
            if count:
                return lines[:count], False
            return [line[: max(room + len(msgspec.json.encode(line)), 6) // 6]], True
    return lines, False


def _shown(entry: Entry) -> dict[str, Any]:
    mode = entry.status.st_mode
    if stat.S_ISREG(mode):
        return {"path": spelled(entry.steps), "kind": "file", "size_bytes": entry.status.st_size}
    kind = "folder" if stat.S_ISDIR(mode) else "link" if stat.S_ISLNK(mode) else "other"
    return {"path": spelled(entry.steps), "kind": kind}
