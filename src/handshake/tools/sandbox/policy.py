"""Policy: what one command may see, write and use; what a backend makes a confined process of.

Source:
    gate.sandbox.confines (02 §7).
"""

from __future__ import annotations

import msgspec

from handshake.kernel import settings


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much a command may use, all its processes together where nothing else is said."""

    timeout_ms: int
    processes: int = settings.MAX_COMMAND_PROCESSES
    memory_bytes: int = settings.MAX_COMMAND_MEMORY_BYTES
    file_bytes: int = settings.MAX_COMMAND_FILE_BYTES
    """Of one file that it writes."""
    disk_bytes: int = settings.MAX_COMMAND_DISK_BYTES
    """By which the free space of the workspace's disk may shrink while it runs."""
    scratch_bytes: int = settings.MAX_COMMAND_SCRATCH_BYTES
    """Of its private `/tmp`."""
    open_files: int = settings.MAX_COMMAND_OPEN_FILES
    """Of one process."""
    kept_bytes: int = settings.MAX_COMMAND_KEPT_BYTES
    """Of each of its outputs: the beginning and the end."""
    drained_bytes: int = settings.MAX_COMMAND_DRAINED_BYTES
    """Of its outputs; more ends it."""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """One command, whole. Paths are absolute and hold no link; nothing that is not named here is reached."""

    argv: tuple[str, ...]
    root: str
    """The workspace, or the session's own worktree: readable, but for the runtime's folder."""
    cwd: str
    environment: tuple[tuple[str, str], ...]
    write: tuple[str, ...] = ()
    """Folders and files below `root` that it may change, none inside another."""
    hidden: tuple[str, ...] = ()
    """Folders and files that it must not see, although they lie in what it may read."""
    read: tuple[str, ...] = ()
    """Folders and files elsewhere that it may read."""
    has_network: bool = False
    """Whether it may reach the network as this machine does: a server that an operator set up so, never a call."""
    limits: Limits


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a command. `exit_code` is None if a signal ended it."""

    exit_code: int | None
    signal: int | None
    ended_by: str
    """`itself`, or the limit that it did not keep: `timeout`, `processes`, `memory`, `disk`, `output`."""
    stdout: bytes
    stderr: bytes
    left_out_bytes: tuple[int, int]
    """What was not kept of the outputs, between their beginning and their end."""
    duration_ms: int
    backend: str


class NotConfined(Exception):
    """A command was not started, because it could not have been confined as it must be, or not at all."""

    def __init__(self, step: str, number: int = 0) -> None:
        super().__init__(f"{step} ({number})")
        self.step = step
        self.number = number
