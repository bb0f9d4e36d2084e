"""Settings of the end-to-end tests: one engine for all of them, and the command line on a new workspace."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from handshake.bootstrap import init_workspace
from handshake.testing.llama_server import LlamaServer
from handshake.testing.tiny_model import write_tiny_model
from tests.e2e.command_line import CommandLine

START_S = 60


class _Engine:
    """A llama.cpp server on an event loop of its own, which lives as long as its thread."""

    def __init__(self, model: Path) -> None:
        self._model = model
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._serve)
        self.base_url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(START_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        self._loop.close()

    def _serve(self) -> None:
        self._loop.run_until_complete(self._live())

    async def _live(self) -> None:
        async with LlamaServer(self._model, slots=2) as server:
            self.base_url = server.base_url
            self._ready.set()
            await self._over.wait()


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the base URL of a real engine with a tiny model, `tiny-words`."""
    model = tmp_path_factory.mktemp("engine") / "tiny.gguf"
    write_tiny_model(model, seed=1)
    with _Engine(model) as running:
        yield running.base_url


@pytest.fixture
def handshake(tmp_path: Path) -> CommandLine:
    """Give the command line on a new workspace, with an empty home."""
    home, folder = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    init_workspace(folder)
    return CommandLine(folder, home)
