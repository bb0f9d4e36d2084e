"""Brief workspace: a workspace that is held only while something is done in it, so that a person can act in between.

A face that lives as long as its client would keep everybody else out, also the person whom its calls wait for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from handshake.kernel.errors import StateConflict
from handshake.workspace import Workspace, open_workspace

HELD_WAIT_S = 10
"""How long another process may hold the workspace before a caller is told so."""
LOOK_AGAIN_S = 0.1
"""Between two looks whether it is free."""


class BriefWorkspace:
    """Opens a workspace for the first of those who use it, and closes it with the last.

    Args:
        root: its folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._turn = asyncio.Lock()
        self._users = 0
        self._held = AsyncExitStack()
        self._workspace: Workspace | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Workspace]:
        """Give the open workspace.

        Raises:
            StateConflict: another process holds it, and went on holding it.
            As `open_workspace`.
        """
        async with self._turn:
            if self._workspace is None:
                self._workspace = await self._held.enter_async_context(_opened(self._root))
            self._users += 1
            workspace = self._workspace
        try:
            yield workspace
        finally:
            # A task of its own: whoever is cut off here must not leave the workspace half closed.
            leaving = asyncio.get_running_loop().create_task(self._leave())
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
            await asyncio.shield(leaving)

    async def closed(self) -> None:
        """Wait until nobody is inside any more and the workspace is closed."""
        while self._leaving:
            await asyncio.wait(set(self._leaving))

    async def _leave(self) -> None:
        async with self._turn:
            self._users -= 1
            if self._users == 0:
                self._workspace = None
                await self._held.aclose()


@asynccontextmanager
async def _opened(root: Path) -> AsyncIterator[Workspace]:
    """Open a workspace, as soon as it is free."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + HELD_WAIT_S
    async with AsyncExitStack() as held:
        workspace: Workspace | None = None
        while workspace is None:
            try:
                workspace = await held.enter_async_context(open_workspace(root, dispatch=False))
            except StateConflict as taken:
                if taken.context.get("reason") != "workspace_in_use" or loop.time() > give_up_at:
                    raise
                await asyncio.sleep(LOOK_AGAIN_S)
        yield workspace
