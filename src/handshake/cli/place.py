"""Place: from what a person said to the workspace that is meant, read beside others or opened for change."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from handshake.kernel.errors import NotFound

if TYPE_CHECKING:
    from handshake.bootstrap import WorkspaceFolder
    from handshake.cli.command import Invocation
    from handshake.ports.store import Reader
    from handshake.workspace import Workspace

T = TypeVar("T")
HOME_VARIABLE = "HANDSHAKE_HOME"


def find(invocation: Invocation) -> WorkspaceFolder:
    """Return the workspace that is meant: the named one, else `HANDSHAKE_HOME`, else one here or above.

    Raises:
        NotFound: there is none; a folder that was named is not searched upwards.
    """
    from handshake.bootstrap import find_workspace

    home = os.environ.get(HOME_VARIABLE)
    named = invocation.workspace or (Path(home) if home else None)
    if named is None:
        return find_workspace(Path())
    source = "--workspace" if invocation.workspace else HOME_VARIABLE
    hint = f"make one with: handshake init {named}"
    if not _is_folder(named):
        raise NotFound(kind="workspace", named_by=source, folder=str(named), hint=hint)
    found = find_workspace(named)
    if found.root != named.resolve():
        raise NotFound(kind="workspace", named_by=source, folder=str(named), hint=hint)
    return found


def _is_folder(named: Path) -> bool:
    try:
        return named.is_dir()
    except OSError:  # such a long name cannot be one's
        return False


def read(invocation: Invocation, query: Callable[[Reader], T]) -> T:
    """Return what `query` says of one state of the workspace, whoever else is at work there."""
    from handshake.bootstrap import read_only

    store = read_only(find(invocation))
    try:
        return store.read_now(query)
    finally:
        store.shut()


def change(invocation: Invocation, operation: Callable[[Workspace], Coroutine[Any, Any, T]]) -> T:
    """Open the workspace without starting runs, carry `operation` out, and close.

    Raises:
        StateConflict: another process holds the workspace; the error names it.
    """
    from handshake.cli.interruption import Interruption, run_async
    from handshake.workspace import open_workspace

    root = find(invocation).root

    async def main(interruption: Interruption) -> T:
        async with open_workspace(root, dispatch=False) as workspace, interruption.scope():
            return await operation(workspace)

    return run_async(main)
