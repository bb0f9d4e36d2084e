"""File tools: the definitions of the tools that read, list, search, write and patch files of the workspace.

What is listed or searched is named by one glob, which is the scope that the call requires: who may read `docs/**` lists
`docs/*.md`, and nothing that a grant does not reach can be asked for by being above it.

Source:
    02 §5; capability.args.are_checked (02 §1).
"""

from __future__ import annotations

from typing import Any

from handshake.kernel.catalogue.tools import SideEffect, ToolExecutor
from handshake.kernel.settings import (
    MAX_FILE_EDITS,
    MAX_FOUND_LINES,
    MAX_LISTED_ENTRIES,
    MAX_PATCHED_FILES,
    MAX_PATH_CHARS,
    MAX_PATTERN_LINE_CHARS,
    MAX_QUERY_CHARS,
    MAX_TOOL_FILE_BYTES,
)
from handshake.kernel.tool import (
    Asking,
    Availability,
    Determinism,
    Idempotency,
    OutputTrust,
    Reversibility,
    Risk,
    ToolDefinition,
)

READ = "workspace.file.read"
LIST = "workspace.file.list"
SEARCH = "workspace.file.search"
WRITE = "workspace.file.write"
PATCH = "workspace.file.patch"

DEFAULT_LINES = 2_000
"""Lines of one reading, if a call does not say."""
DEFAULT_FOUND_LINES = 100
"""Lines that a search returns, if a call does not say."""

_VERSION = "1.0.0"
_TIMEOUT_MS = 30_000
_SEARCH_TIMEOUT_MS = 10_000
"""A pattern may take a core for so long."""

_PATH = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_PATH_CHARS,
    "description": "Path from the workspace, with / between its names.",
}
_GLOB = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_PATH_CHARS,
    "description": "Which paths, from the workspace: src/* is one folder, src/** all below it, docs/**/*.md by name.",
}
_COUNT = {"type": "integer", "minimum": 0}
_SHA256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _reading(
    tool_id: str,
    description: str,
    capability: str,
    input_schema: dict[str, Any],
    output: dict[str, Any],
    *,
    timeout_ms: int = _TIMEOUT_MS,
) -> ToolDefinition:
    return ToolDefinition(
        tool_id=tool_id,
        tool_version=_VERSION,
        description=description,
        input_schema=input_schema,
        output_schema=output,
        sinks=(),
        content=(),
        reversibility=Reversibility.REVERSIBLE,
        side_effect=SideEffect.READ,
        idempotency=Idempotency.IDEMPOTENT,
        determinism=Determinism.DETERMINISTIC,
        availability=Availability.ALWAYS,
        required_capabilities=(capability,),
        risk_level=Risk.LOW,
        output_trust=OutputTrust.TRUSTED,
        asks=Asking.AS_GRANTED,
        is_egress=False,
        needs_sandbox=False,
        deferred=False,
        executed_by=ToolExecutor.RUNTIME,
        timeout_ms=timeout_ms,
    )


def _writing(
    tool_id: str,
    description: str,
    input_schema: dict[str, Any],
    output: dict[str, Any],
    *,
    sinks: tuple[str, ...],
    content: tuple[str, ...],
    capabilities: tuple[str, ...],
    reversibility: Reversibility,
) -> ToolDefinition:
    return ToolDefinition(
        tool_id=tool_id,
        tool_version=_VERSION,
        description=description,
        input_schema=input_schema,
        output_schema=output,
        sinks=sinks,
        content=content,
        reversibility=reversibility,
        side_effect=SideEffect.WRITE,
        idempotency=Idempotency.IDEMPOTENT_WITH_KEY,
        determinism=Determinism.DETERMINISTIC,
        availability=Availability.ALWAYS,
        required_capabilities=capabilities,
        risk_level=Risk.MEDIUM,
        output_trust=OutputTrust.TRUSTED,
        asks=Asking.AS_GRANTED,
        is_egress=False,
        needs_sandbox=False,
        deferred=False,
        executed_by=ToolExecutor.RUNTIME,
        timeout_ms=_TIMEOUT_MS,
    )


_WRITTEN = _object(
    {"path": _PATH, "sha256": _SHA256, "size_bytes": _COUNT, "created": {"type": "boolean"}},
    "path",
    "sha256",
    "size_bytes",
    "created",
)

_READ_DEFINITION = _reading(
    READ,
    "Read a file. Text comes by lines, beginning with first_line; anything else, and ranges of files over "
    f"{MAX_TOOL_FILE_BYTES} bytes, as base64 from offset_bytes on. sha256 is that of the whole file.",
    "fs.read:{path}",
    _object(
        {
            "path": _PATH,
            "first_line": {"type": "integer", "minimum": 1, "description": "Where to begin, from 1."},
            "max_lines": {"type": "integer", "minimum": 1, "description": f"{DEFAULT_LINES} if not given."},
            "encoding": {"enum": ["utf-8", "base64"], "description": "utf-8 if not given."},
            "offset_bytes": {**_COUNT, "description": "For base64: where to begin, from 0."},
        },
        "path",
    ),
    _object(
        {
            "path": _PATH,
            "content": {"type": "string"},
            "encoding": {"enum": ["utf-8", "base64"]},
            "size_bytes": _COUNT,
            "sha256": {**_SHA256, "description": "Of the whole file; not given for one that was not read whole."},
            "first_line": _COUNT,
            "next_line": {**_COUNT, "description": "Where what was not returned begins; absent at the end."},
            "next_offset_bytes": {**_COUNT, "description": "As next_line, for base64."},
            "line_is_cut": {"type": "boolean", "description": "The last line was too long to return whole."},
        },
        "path",
        "content",
        "encoding",
        "size_bytes",
    ),
)

_LIST_DEFINITION = _reading(
    LIST,
    "List files and folders whose path matches a glob, in the order of their paths. Links are named, not followed.",
    "fs.read:{glob}",
    _object({"glob": _GLOB, "max_entries": {"type": "integer", "minimum": 1, "maximum": MAX_LISTED_ENTRIES}}, "glob"),
    _object(
        {
            "entries": {
                "type": "array",
                "items": _object(
                    {
                        "path": _PATH,
                        "kind": {"enum": ["file", "folder", "link", "other"]},
                        "size_bytes": _COUNT,
                    },
                    "path",
                    "kind",
                ),
            },
            "cut_by": {
                "enum": ["entries", "size", "time"],
                "description": "Why there is more; absent if all is there.",
            },
        },
        "entries",
    ),
)

_SEARCH_DEFINITION = _reading(
    SEARCH,
    "Find lines in the text files whose path matches a glob. The query is literal unless is_regex is true; regular "
    f"expressions have no look-around and no back-references, and see {MAX_PATTERN_LINE_CHARS} characters of a line.",
    "fs.read:{glob}",
    _object(
        {
            "query": {"type": "string", "minLength": 1, "maxLength": MAX_QUERY_CHARS},
            "glob": _GLOB,
            "is_regex": {"type": "boolean"},
            "ignore_case": {"type": "boolean"},
            "max_lines": {
                "type": "integer",
                "minimum": 1,
                "maximum": MAX_FOUND_LINES,
                "description": f"{DEFAULT_FOUND_LINES} if not given.",
            },
        },
        "query",
        "glob",
    ),
    _object(
        {
            "lines": {
                "type": "array",
                "items": _object(
                    {
                        "path": _PATH,
                        "line": {"type": "integer", "minimum": 1},
                        "text": {"type": "string"},
                        "is_cut": {"type": "boolean", "description": "The line is longer than what is shown."},
                    },
                    "path",
                    "line",
                    "text",
                ),
            },
            "files_count": {**_COUNT, "description": "Files that were looked through."},
            "skipped_count": {**_COUNT, "description": "Files that are not text, too large, or not readable."},
            "cut_by": {
                "enum": ["lines", "size", "time", "bytes"],
                "description": "Why there may be more; absent if all was looked through.",
            },
        },
        "lines",
        "files_count",
        "skipped_count",
    ),
    timeout_ms=_SEARCH_TIMEOUT_MS,
)

_WRITE_DEFINITION = _writing(
    WRITE,
    "Write a whole file. Without more it must not exist; expected_sha256 replaces exactly that content, overwrite "
    "whatever is there. Missing folders are made.",
    _object(
        {
            "path": _PATH,
            "content": {"type": "string"},
            "encoding": {"enum": ["utf-8", "base64"], "description": "How content is given; utf-8 if not said."},
            "expected_sha256": _SHA256,
            "overwrite": {"type": "boolean"},
        },
        "path",
        "content",
    ),
    _WRITTEN,
    sinks=("/path",),
    content=("/content",),
    capabilities=("fs.write:{path}",),
    reversibility=Reversibility.IRREVERSIBLE,
)

_PATCH_DEFINITION = _writing(
    PATCH,
    "Change text files in place, all of them or none. Each is changed by exact replacements, whose old text must stand "
    "in the file as often as count says (once), or by a unified diff, whose context must match.",
    _object(
        {
            "changes": {
                "type": "array",
                "minItems": 1,
                "maxItems": MAX_PATCHED_FILES,
                "items": _object(
                    {
                        "path": _PATH,
                        "diff": {"type": "string", "minLength": 1},
                        "replacements": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": MAX_FILE_EDITS,
                            "items": _object(
                                {
                                    "old": {"type": "string", "minLength": 1},
                                    "new": {"type": "string"},
                                    "count": {"type": "integer", "minimum": 1},
                                },
                                "old",
                                "new",
                            ),
                        },
                        "expected_sha256": _SHA256,
                    },
                    "path",
                ),
            }
        },
        "changes",
    ),
    _object({"files": {"type": "array", "items": _WRITTEN}}, "files"),
    sinks=("/changes/*/path",),
    content=("/changes/*/diff", "/changes/*/replacements"),
    capabilities=("fs.read:{changes[].path}", "fs.write:{changes[].path}"),
    reversibility=Reversibility.COMPENSABLE,
)

DEFINITIONS: tuple[ToolDefinition, ...] = (
    _LIST_DEFINITION,
    _PATCH_DEFINITION,
    _READ_DEFINITION,
    _SEARCH_DEFINITION,
    _WRITE_DEFINITION,
)
