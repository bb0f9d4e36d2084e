"""Brief workspaces: held by whoever is inside and by nobody afterwards."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from handshake.bootstrap import WorkspaceFolder, holder_of, init_workspace
from handshake.kernel.errors import NotFound
from handshake.server.brief_workspace import BriefWorkspace
from handshake.workspace import open_workspace


@pytest.fixture
def place(tmp_path: Path) -> WorkspaceFolder:
    return init_workspace(tmp_path)


async def test_it_is_held_by_those_who_are_inside_and_by_nobody_afterwards(place: WorkspaceFolder) -> None:
    brief = BriefWorkspace(place.root)
    async with brief.use() as first:
        assert holder_of(place) is not None
        async with brief.use() as second:
            assert second is first
        assert holder_of(place) is not None
    await brief.closed()
    assert holder_of(place) is None
    async with brief.use() as again:
        assert again is not first


async def test_whoever_is_cut_off_inside_leaves_it_closed(place: WorkspaceFolder) -> None:
    brief = BriefWorkspace(place.root)
    inside = asyncio.Event()

    async def stay() -> None:
        async with brief.use():
            inside.set()
            await asyncio.Event().wait()

    staying = asyncio.ensure_future(stay())
    await inside.wait()
    staying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await staying
    await brief.closed()
    assert holder_of(place) is None


async def test_it_waits_for_others_to_leave(place: WorkspaceFolder) -> None:
    brief = BriefWorkspace(place.root)
    entered = asyncio.Event()

    async def enter() -> None:
        async with brief.use():
            entered.set()

    async with open_workspace(place.root, dispatch=False):
        waiting = asyncio.ensure_future(enter())
        await asyncio.wait((waiting,), timeout=0.3)
        assert not entered.is_set()
    await waiting
    assert entered.is_set()
    await brief.closed()


async def test_a_folder_without_a_workspace_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        async with BriefWorkspace(tmp_path).use():
            pass
