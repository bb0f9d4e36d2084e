"""Workspace files: the adapter of the file tools; calls run in a few threads, and have ended when that is told."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from handshake.kernel import path_glob
from handshake.kernel.settings import MAX_FILE_THREADS, MAX_WALK_THREADS
from handshake.kernel.tools import files
from handshake.ports.tool import ToolContext, ToolPass, ToolResult
from handshake.tools.editing import patch, write
from handshake.tools.filesystem import failed
from handshake.tools.reach import matching
from handshake.tools.reading import Stop, list_entries, read
from handshake.tools.search import search

_SHARE_OF_TIME = 0.8
"""Of a call's time, after which it is told to come to an end: what was found until then is a result."""

_FUNCTIONS: Mapping[str, Callable[[Mapping[str, Any], ToolContext, Stop], ToolResult]] = {
    files.READ: read,
    files.LIST: list_entries,
    files.SEARCH: search,
    files.WRITE: write,
    files.PATCH: patch,
}
_WRITING = frozenset({files.WRITE, files.PATCH})
_WALKING = frozenset({files.LIST, files.SEARCH})
"""Calls that may take long; they have threads of their own, so that nothing short waits behind them."""


class WorkspaceFiles:
    """Reads, lists, searches, writes and patches files of the workspace.

    Args:
        trusted: globs of files whose content counts as trusted (02 §6), where the workspace is a git repository: there
            sessions write into files of their own, and nothing that one of them wrote is merged unseen.
    """

    def __init__(self, trusted: tuple[str, ...] = ()) -> None:
        self._threads = ThreadPoolExecutor(MAX_FILE_THREADS, thread_name_prefix="files")
        self._walkers = ThreadPoolExecutor(MAX_WALK_THREADS, thread_name_prefix="walks")
        self._trusted = [matching(path_glob.with_all_inside(path_glob.parse(one))) for one in trusted]

    async def run(self, tool_pass: ToolPass, tool_id: str, args: Mapping[str, Any], context: ToolContext) -> ToolResult:
        """Carry out one call. Whoever cancels it waits until the thread has ended, so that nothing happens later.

        Raises:
            ToolFailed: it could not; nothing was changed.
        """
        tool_pass.spend()
        over = threading.Event()
        seconds = context.timeout_ms / 1_000 * _SHARE_OF_TIME
        alarm = asyncio.get_running_loop().call_later(seconds, over.set)
        threads = self._walkers if tool_id in _WALKING else self._threads
        working = threads.submit(_FUNCTIONS[tool_id], args, context, over.is_set)
        done = asyncio.wrap_future(working)
        try:
            result = await asyncio.shield(done)
        except asyncio.CancelledError:
            over.set()
            if not working.cancel():
                await asyncio.wait((done,))
            raise
        except OSError as failure:
            raise failed(failure.errno, ()) from failure
        finally:
            alarm.cancel()
        return msgspec.structs.replace(result, is_trusted=self._is_trusted(tool_id, result, context.root))

    async def close(self) -> None:
        """Let the threads end."""
        for threads in (self._threads, self._walkers):
            threads.shutdown(wait=False, cancel_futures=True)

    def _is_trusted(self, tool_id: str, result: ToolResult, root: str) -> bool:
        """Return whether a result holds only what the runtime says itself, and content of trusted files."""
        if tool_id in _WRITING:
            return True
        if not result.touched.files or not os.path.lexists(os.path.join(root, ".git")):
            return False
        return all(any(trusts(tuple(file.split("/"))) for trusts in self._trusted) for file in result.touched.files)
