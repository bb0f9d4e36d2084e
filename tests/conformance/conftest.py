"""Fixtures of the conformance tests: a log of real runs, written once and copied for each test."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from handshake.storage.workspace_folder import WorkspaceFolder
from tests.written_log import Log, write_log


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> WorkspaceFolder:
    return asyncio.run(write_log(tmp_path_factory.mktemp("written")))


@pytest.fixture
def log(written: WorkspaceFolder, tmp_path: Path) -> Log:
    shutil.copytree(written.folder, tmp_path / written.folder.name)
    return Log(WorkspaceFolder(tmp_path))
