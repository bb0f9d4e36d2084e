"""Contracts: the import contracts of pyproject.toml hold, and each of them notices what it is there for."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.requirement import requirement
from tests.structure.tree import ROOT

INTRUDERS = [
    ("layers", "kernel/intruder.py", "import handshake.ports.clock"),
    ("layers", "operations/intruder.py", "import handshake.scheduler"),
    ("layers", "storage/intruder.py", "import handshake.providers"),
    ("layers", "beside/__init__.py", ""),
    ("circles", "kernel/units.py", "import handshake.kernel.ids"),
    ("adapters", "operations/intruder.py", "import handshake.storage.sqlite_store"),
    ("adapters", "cli/intruder.py", "def late():\n    import handshake.providers.http_transport"),
    ("adapters", "gate/intruder.py", "from handshake import runners"),
    ("gate", "scheduler/intruder.py", "import handshake.gate.egress"),
    ("gate", "cli/intruder.py", "from handshake.gate import egress"),
    ("models", "operations/intruder.py", "from handshake.ports.model import EgressPass"),
    ("models", "gate/intruder.py", "from handshake.ports import model"),
    ("tools", "operations/intruder.py", "from handshake.ports.tool import ToolPass"),
    ("tools", "gate/intruder.py", "from handshake.ports import tool"),
    ("pure", "kernel/intruder.py", "import time"),
    ("pure", "ports/intruder.py", "from os import urandom"),
    ("pure", "providers/wire_openai.py", "import socket"),
    ("connections", "operations/intruder.py", "import aiohttp"),
    ("connections", "providers/intruder.py", "import socket"),
    ("connections", "runners/intruder.py", "from subprocess import run"),
    ("connections", "cli/intruder.py", "import apsw"),
]
"""Contract, file, and what is added to the file: each is a way around the checks that must not stay unseen."""


def lint(copy: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run import-linter over the copy of the package below `copy`."""
    program = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [
        sys.executable,
        "-c",
        program,
        "--no-cache",
        "--no-logo",
        "--config",
        str(ROOT / "pyproject.toml"),
        *options,
    ]
    return subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Give a folder with a copy of the package."""
    shutil.copytree(ROOT / "src" / "handshake", tmp_path / "handshake", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@requirement("scheduler.path.is_single")
def test_contracts_hold(copy: Path) -> None:
    """The package as it is keeps every contract."""
    result = lint(copy)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


@requirement("scheduler.path.is_single")
@pytest.mark.parametrize(("contract", "file", "line"), INTRUDERS)
def test_contract_notices_an_intruder(copy: Path, contract: str, file: str, line: str) -> None:
    """One wrong import anywhere breaks the contract that forbids it."""
    path = copy / "handshake" / file
    path.parent.mkdir(exist_ok=True)
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    path.write_text(f"{before}\n{line}\n", encoding="utf-8")
    result = lint(copy, "--contract", contract)
    assert "1 broken" in result.stdout, result.stdout + result.stderr
    assert (path.parent if path.name == "__init__.py" else path).stem in result.stdout
