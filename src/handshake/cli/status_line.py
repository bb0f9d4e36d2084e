"""Status line: what a run is doing, on standard error while a person waits for its first word."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

from handshake.cli.rendering import is_terminal, note
from handshake.operations.feed import (
    AwaitingUser,
    NotStored,
    Piece,
    Retrying,
    Started,
    Text,
    ToolEnded,
    ToolStarted,
)

if TYPE_CHECKING:
    from rich.status import Status

    from handshake.workspace import Result, Workspace

LOOK_EVERY_S = 0.5
"""How often the wait reason is looked up, in seconds."""


class StatusLine:
    """Shows why a run waits, and which attempt goes on; on a pipe it shows nothing.

    It is gone before the first word of the answer, so that the two never mix.
    """

    def __init__(self, workspace: Workspace, job_id: str, *, quiet: bool) -> None:
        self._workspace = workspace
        self._job_id = job_id
        self._quiet = quiet or not is_terminal(sys.stderr)
        self._status: Status | None = None
        self._waiting = True
        self._leaving = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Begin to show."""
        if not self._quiet:
            from rich.console import Console

            self._status = Console(stderr=True).status("queued")
            self._status.start()
            group = await self._leaving.enter_async_context(asyncio.TaskGroup())
            looking = group.create_task(self._look())
            self._leaving.callback(looking.cancel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the line away."""
        self._stop()
        await self._leaving.aclose()

    def take(self, piece: Piece) -> None:
        """Follow the run."""
        if isinstance(piece, Started):
            self._waiting = False
            self._show(f"attempt {piece.attempt}: waiting for the first word")
        elif isinstance(piece, Retrying):
            self._waiting = True
            self._show(f"attempt {piece.attempt} failed ({piece.fault}), next in {piece.backoff_ms} ms")
        elif isinstance(piece, ToolStarted):
            self._show(f"{piece.tool_id}: at work")
        elif isinstance(piece, ToolEnded):
            self._tell(f"{piece.tool_id}: {piece.error_code or 'done'}")
        elif isinstance(piece, AwaitingUser):
            what = piece.tool_id or "the run"
            self._tell(f"{what} waits for a person ({piece.reason}): handshake desk list")
        elif isinstance(piece, NotStored):
            self._tell_not_stored(piece)
        elif isinstance(piece, Text):
            self._stop()

    def _tell(self, text: str) -> None:
        """Say what happened between two texts, on a line of its own."""
        self._stop()
        if not self._quiet:
            note(text)

    def _tell_not_stored(self, piece: NotStored) -> None:
        self._stop()
        if not self._quiet:
            note(f"the outcome is known and cannot be stored ({piece.reason}); it is tried again: handshake doctor")

    def end(self, result: Result) -> None:
        """Tell in one line what the run took."""
        self._stop()
        if self._quiet:
            return
        tokens = "tokens unknown"
        if result.usage is not None and result.usage.total_tokens is not None:
            tokens = f"{result.usage.total_tokens} tokens"
        attempts = "1 attempt" if result.attempts == 1 else f"{result.attempts} attempts"
        note(f"{result.state}, {tokens}, {attempts}, job {result.job_id}")

    async def _look(self) -> None:
        while self._status is not None:
            if self._waiting:
                queue = await self._workspace.queue()
                for item in queue.items:
                    if item.job_id == self._job_id:
                        self._show(f"queued: {item.sentence} ({queue.running} running, {queue.queued} waiting)")
            await asyncio.sleep(LOOK_EVERY_S)

    def _show(self, text: str) -> None:
        if self._status is not None:
            self._status.update(text)

    def _stop(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
