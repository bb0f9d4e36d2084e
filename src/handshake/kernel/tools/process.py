"""Process tool: the definition of the tool that runs one command, and the variables that a call may set for it.

A shell is a program like any other: `["sh", "-c", ...]` needs a grant of its own, and nothing here puts words together.

Source:
    02 §5, §7; gate.sandbox.fail_closed.
"""

from __future__ import annotations

from handshake.kernel.catalogue.tools import SideEffect, ToolExecutor
from handshake.kernel.settings import (
    MAX_COMMAND_ARGUMENT_CHARS,
    MAX_COMMAND_ARGUMENTS,
    MAX_COMMAND_INPUT_CHARS,
    MAX_COMMAND_MS,
    MAX_COMMAND_VARIABLE_CHARS,
    MAX_PATH_CHARS,
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

RUN = "process.run"

VARIABLES = tuple(
    "CI COLUMNS FORCE_COLOR GIT_AUTHOR_DATE GIT_AUTHOR_EMAIL GIT_AUTHOR_NAME GIT_COMMITTER_DATE GIT_COMMITTER_EMAIL "
    "GIT_COMMITTER_NAME LANG LC_ALL LINES NO_COLOR NODE_ENV PYTHONDONTWRITEBYTECODE PYTHONHASHSEED PYTHONUNBUFFERED "
    "RUST_BACKTRACE SOURCE_DATE_EPOCH TERM TZ".split()
)
"""Variables that a call may set: none makes a program run another one, or look for its parts elsewhere."""
ENDED_BY = ("itself", "timeout", "processes", "memory", "disk", "output")
"""What ended a command: itself, or the limit that it did not keep."""

_COUNT = {"type": "integer", "minimum": 0}

DEFINITIONS = (
    ToolDefinition(
        tool_id=RUN,
        tool_version="1.0.0",
        description=(
            "Runs one program with its arguments, no shell, in a sandbox: the workspace is read-only but for what was "
            "granted, there is no network, and nothing goes on after it ended. Returns how it ended and what it wrote."
        ),
        input_schema={
            "type": "object",
            "properties": {
                "argv": {
                    "type": "array",
                    "items": {"type": "string", "maxLength": MAX_COMMAND_ARGUMENT_CHARS},
                    "minItems": 1,
                    "maxItems": MAX_COMMAND_ARGUMENTS,
                    "description": "The program and its arguments, one by one; nothing is expanded.",
                },
                "cwd": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": MAX_PATH_CHARS,
                    "description": "Folder to run it in, from the workspace.",
                },
                "timeout_ms": {"type": "integer", "minimum": 1, "maximum": MAX_COMMAND_MS},
                "env": {
                    "type": "object",
                    "propertyNames": {"enum": list(VARIABLES)},
                    "additionalProperties": {"type": "string", "maxLength": MAX_COMMAND_VARIABLE_CHARS},
                    "description": "Variables to set.",
                },
                "stdin": {
                    "type": "string",
                    "maxLength": MAX_COMMAND_INPUT_CHARS,
                    "description": "What it reads from its standard input.",
                },
            },
            "required": ["argv"],
            "additionalProperties": False,
        },
        output_schema={
            "type": "object",
            "properties": {
                "exit_code": {"type": ["integer", "null"], "description": "Null if a signal ended it."},
                "signal": {"type": ["integer", "null"]},
                "ended_by": {"enum": list(ENDED_BY)},
                "stdout": {"type": "string", "description": "Its beginning and its end, if there was much."},
                "stderr": {"type": "string"},
                "stdout_left_out_bytes": _COUNT,
                "stderr_left_out_bytes": _COUNT,
                "duration_ms": _COUNT,
                "sandbox": {"type": "string", "description": "How it was confined."},
            },
            "required": [
                "exit_code",
                "signal",
                "ended_by",
                "stdout",
                "stderr",
                "stdout_left_out_bytes",
                "stderr_left_out_bytes",
                "duration_ms",
                "sandbox",
            ],
            "additionalProperties": False,
        },
        sinks=("/argv", "/cwd", "/env"),
        content=("/stdin",),
        reversibility=Reversibility.IRREVERSIBLE,
        side_effect=SideEffect.EXECUTE,
        idempotency=Idempotency.NON_IDEMPOTENT,
        determinism=Determinism.NON_DETERMINISTIC,
        availability=Availability.WHERE_SUPPORTED,
        required_capabilities=("proc.exec:{argv}",),
        risk_level=Risk.HIGH,
        output_trust=OutputTrust.UNTRUSTED,
        asks=Asking.AS_GRANTED,
        is_egress=False,
        needs_sandbox=True,
        deferred=False,
        executed_by=ToolExecutor.RUNTIME,
        timeout_ms=MAX_COMMAND_MS,
    ),
)
