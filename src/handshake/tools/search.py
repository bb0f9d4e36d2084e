"""Search: the lines of text files that match a query, in order, within bounds of bytes, lines and time."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from handshake.kernel.settings import MAX_FOUND_LINE_CHARS, MAX_SEARCHED_BYTES, MAX_TOOL_FILE_BYTES
from handshake.kernel.tools.files import DEFAULT_FOUND_LINES
from handshake.kernel.workspace_path import spelled
from handshake.ports.tool import ToolContext, ToolFailed, ToolResult, Touched
from handshake.tools.filesystem import Entry, Scope, Tree
from handshake.tools.line_pattern import LinePattern, line_pattern
from handshake.tools.reach import matching, readable
from handshake.tools.reading import Stop, asked_glob, room_of, walked
from handshake.tools.replacing import read_whole

_BINARY_HEAD_BYTES = 8_192
"""A NUL in so many bytes at the start means that a file is not text."""
_LINE_BYTES = 48
"""What a found line takes besides its path and text."""
_LINES_BETWEEN_LOOKS = 64


class _Search:
    """One search and what it has found."""

    def __init__(self, args: Mapping[str, Any], context: ToolContext, stop: Stop) -> None:
        self.lines: list[dict[str, Any]] = []
        self.files: list[str] = []
        self.skipped = 0
        self.cut_by: str | None = None
        self._query: str = args["query"]
        self._is_literal = not args.get("is_regex", False) and not args.get("ignore_case", False)
        self._matches: LinePattern = line_pattern(
            self._query, is_regex=args.get("is_regex", False), ignore_case=args.get("ignore_case", False)
        )
        self._most = args.get("max_lines", DEFAULT_FOUND_LINES)
        self._room = room_of(context)
        self._bytes_left = MAX_SEARCHED_BYTES
        self._scope: Scope = readable(context.reach)
        self._stop = stop

    def look_through(self, tree: Tree, entry: Entry) -> None:
        if not stat.S_ISREG(entry.status.st_mode):
            return
        if entry.status.st_size > MAX_TOOL_FILE_BYTES:
            self.skipped += 1
            return
        self._bytes_left -= entry.status.st_size
        if self._bytes_left < 0:
            self.cut_by = "bytes"
            return
        text = self._text_of(tree, entry)
        if text is None:
            self.skipped += 1
            return
        self.files.append(spelled(entry.steps))
        if self._is_literal and self._query not in text:
            return
        for number, line in self._found_in(text):
            self._take(spelled(entry.steps), number, line)
            if self.cut_by:
                return

    def _text_of(self, tree: Tree, entry: Entry) -> str | None:
        try:
            with tree.file(entry.steps, self._scope) as found:
                head = os.pread(found.descriptor, _BINARY_HEAD_BYTES, 0)
                if b"\x00" in head:
                    return None
                return read_whole(found.descriptor, found.steps).decode(errors="replace")
        except (ToolFailed, OSError):
            return None

    def _found_in(self, text: str) -> Iterator[tuple[int, str]]:
        for number, line in enumerate(text.split("\n"), 1):
            if number % _LINES_BETWEEN_LOOKS == 0 and self._stop():
                self.cut_by = "time"
                return
            plain = line.removesuffix("\r")
            if self._matches(plain):
                yield number, plain

    def _take(self, path: str, number: int, line: str) -> None:
        if len(self.lines) == self._most:
            self.cut_by = "lines"
            return
        shown = self._window(line)
        self._room -= len(msgspec.json.encode(shown)) + len(path.encode()) + _LINE_BYTES
        if self._room < 0:
            self.cut_by = "size"
            return
        found: dict[str, Any] = {"path": path, "line": number, "text": shown}
        self.lines.append(found if shown == line else {**found, "is_cut": True})

    def _window(self, line: str) -> str:
        """Return what is shown of a line: the part around a literal query, else its start."""
        if len(line) <= MAX_FOUND_LINE_CHARS:
            return line
        at = line.find(self._query) if self._is_literal else 0
        start = max(0, min(at - MAX_FOUND_LINE_CHARS // 4, len(line) - MAX_FOUND_LINE_CHARS))
        return line[start : start + MAX_FOUND_LINE_CHARS]


def search(args: Mapping[str, Any], context: ToolContext, stop: Stop) -> ToolResult:
    """Return the lines that match in the files that match a glob and that the session may read."""
    glob = asked_glob(args["glob"])
    one = _Search(args, context, stop)
    wanted, within = matching(glob), readable(context.reach)
    with Tree(context.root) as tree:
        for entry in walked(tree, glob, context, stop):
            if wanted(entry.steps) and within(entry.steps):
                one.look_through(tree, entry)
            if one.cut_by:
                break
    cut_by = one.cut_by or ("time" if stop() else None)
    value: dict[str, Any] = {"lines": one.lines, "files_count": len(one.files), "skipped_count": one.skipped}
    touched = Touched(files=tuple(dict.fromkeys(line["path"] for line in one.lines)))
    return ToolResult(value if cut_by is None else {**value, "cut_by": cut_by}, touched)
