"""Process: the adapter of the tool that runs one command, in the sandbox or, where an operator granted that, without.

Source:
    gate.sandbox.fail_closed, gate.sandbox.confines (02 §7).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from handshake.kernel import path_glob
from handshake.kernel.errors import UnknownCapability
from handshake.kernel.settings import DEFAULT_COMMAND_MS, MAX_COMMAND_KEPT_BYTES
from handshake.ports.tool import ToolContext, ToolFailed, ToolPass, ToolResult
from handshake.tools.sandbox.plan import interpreter_places
from handshake.tools.sandbox.policy import Limits, NotConfined, Outcome, Policy
from handshake.tools.sandbox.sandbox import Sandbox, run_on_host
from handshake.tools.sandbox.write_places import hidden_places, write_places

_SYSTEM_PATH = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin")
_WORKSPACE_PATH = (".venv/bin", "node_modules/.bin")
_BYTES_OF_RESULT_PER_KEPT = 16
"""A byte of output is up to six in JSON, in each of two outputs, and the rest of the result needs room."""
_SHARE_OF_TIME = 0.9
"""Of a call's time, what the command may take; the rest is for its end."""
_NO_SUCH_PROGRAM = frozenset({"No_such_file_or_directory", "exec", "Permission_denied", "Exec_format_error"})


class ProcessTool:
    """Runs commands.

    Args:
        sandbox: how they are confined.
        environment: variables that the operator declared for every command.
        dependencies: folders of the workspace to which worktrees of sessions link, such as its `.venv`.
    """

    def __init__(
        self, sandbox: Sandbox, *, environment: Iterable[tuple[str, str]] = (), dependencies: Iterable[str] = ()
    ) -> None:
        self._sandbox = sandbox
        self._dependencies = tuple(dependencies)
        self._environment = tuple(environment)

    async def run(
        self, tool_pass: ToolPass, _tool_id: str, args: Mapping[str, Any], context: ToolContext
    ) -> ToolResult:
        """Run one command to its end.

        Raises:
            ToolFailed: it was not started: no sandbox passes its self-test, or there is no such program or folder.
        """
        tool_pass.spend()
        stdin = args.get("stdin", "").encode()
        try:
            policy = await asyncio.to_thread(self._policy, args, context)
            if context.reach.host_execution:
                outcome = await run_on_host(policy, stdin)
            else:
                outcome = await self._sandbox.run(policy, stdin)
        except NotConfined as refused:
            raise _failed(refused) from None
        except ValueError:
            raise ToolFailed("command_invalid", "an argument holds a NUL, or all of them are too long") from None
        return ToolResult(_told(outcome))

    async def close(self) -> None:
        """Nothing is held between two commands."""

    def _policy(self, args: Mapping[str, Any], context: ToolContext) -> Policy:
        root = os.path.realpath(context.root)
        kept = min(MAX_COMMAND_KEPT_BYTES, max(2, context.max_result_bytes // _BYTES_OF_RESULT_PER_KEPT))
        wanted_ms = args.get("timeout_ms", DEFAULT_COMMAND_MS)
        reach = context.reach
        return Policy(
            argv=tuple(args["argv"]),
            root=root,
            cwd=_folder(root, args.get("cwd", path_glob.ROOT)),
            environment=(*self._environment, *_variables(root, args.get("env", {}))),
            write=write_places(root, reach.write),
            read=_real_folders(self._dependencies),
            hidden=hidden_places(root, reach.hidden),
            limits=Limits(timeout_ms=max(1, min(wanted_ms, int(context.timeout_ms * _SHARE_OF_TIME))), kept_bytes=kept),
        )


def _folder(root: str, named: str) -> str:
    """Return the folder to run in; it is inside of the workspace, and not the runtime's."""
    try:
        segments = path_glob.parse(named)
    except UnknownCapability:
        raise ToolFailed("cwd_invalid", "cwd is no path inside of the workspace") from None
    path = os.path.realpath("/".join((root, *segments)))
    inside = path == root or path.startswith(f"{root}/")
    if not inside or path_glob.is_closed(path[len(root) :].split("/"), writing=False):
        raise ToolFailed("cwd_invalid", "cwd leads out of the workspace")
    if not os.path.isdir(path):
        raise ToolFailed("cwd_missing", "there is no such folder")
    return path


def _real_folders(paths: Iterable[str]) -> tuple[str, ...]:
    """Return those that are folders: a link, which a session may have put there, could lead anywhere."""
    return tuple(one for one in paths if os.path.isdir(one) and os.path.realpath(one) == one)


def _variables(root: str, given: Mapping[str, str]) -> Sequence[tuple[str, str]]:
    own = [f"{root}/{one}" for one in _WORKSPACE_PATH if os.path.isdir(f"{root}/{one}")]
    interpreter = [f"{one}/bin" for one in interpreter_places()]
    path = ":".join(dict.fromkeys((*own, *_SYSTEM_PATH, *interpreter)))
    return [("LANG", "C.UTF-8"), ("TERM", "dumb"), *given.items(), ("PATH", path)]


def _failed(refused: NotConfined) -> ToolFailed:
    if refused.step == "no_backend":
        return ToolFailed("sandbox_missing", "no sandbox of this machine passes its self-test; nothing was run")
    if refused.step in _NO_SUCH_PROGRAM:
        return ToolFailed("program_missing", "there is no such program in the sandbox, or it cannot be run")
    return ToolFailed("sandbox_failed", f"the command could not be confined and was not run: {refused}")


def _told(outcome: Outcome) -> dict[str, Any]:
    stdout_left_out, stderr_left_out = outcome.left_out_bytes
    return {
        "exit_code": outcome.exit_code,
        "signal": outcome.signal,
        "ended_by": outcome.ended_by,
        "stdout": outcome.stdout.decode("utf-8", "replace"),
        "stderr": outcome.stderr.decode("utf-8", "replace"),
        "stdout_left_out_bytes": stdout_left_out,
        "stderr_left_out_bytes": stderr_left_out,
        "duration_ms": outcome.duration_ms,
        "sandbox": outcome.backend,
    }
