"""The how-to documents run: every shell block and the Python example, against a real engine, in a fresh folder."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from handshake.testing.llama_server import LlamaServer
from handshake.testing.tiny_model import write_tiny_model

DOCUMENTS = Path(__file__).parents[2] / "docs" / "how-to"
BLOCK = re.compile(r"^```(sh|toml|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OLLAMA = "http://127.0.0.1:11434/v1"
TIMEOUT_S = 120


def _script(document: Path, base_url: str) -> str:
    """Return all blocks of a document as one shell program, run in order."""
    steps = ["set -eu"]
    for number, (kind, text) in enumerate(BLOCK.findall(document.read_text(encoding="utf-8"))):
        block = text.replace(OLLAMA, base_url)
        if kind == "sh":
            steps.append(block)
        elif kind == "toml":
            steps.append(f"cat >> .handshake/config.toml <<'END'\n{block}END")
        else:
            steps.append(f"cat > example{number}.py <<'END'\n{block}END\npython example{number}.py")
    return "\n".join(steps)


def _environment(folder: Path) -> Iterator[tuple[str, str]]:
    yield "PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin"
    yield "HOME", str(folder)
    yield "LANG", "C.UTF-8"


def _run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/bash", "-c", script],
        cwd=folder,
        env=dict(_environment(folder)),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("name", sorted(path.name for path in DOCUMENTS.glob("*.md")))
async def test_every_command_of_a_document_runs(name: str, tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "model.gguf", seed=1, layers=4)
    async with LlamaServer(tmp_path / "model.gguf", slots=2, seed=1) as server:
        script = _script(DOCUMENTS / name, server.base_url)
        if "open_workspace" in script:
            config = f'[providers.ollama]\ndialects = ["openai_chat"]\nbase_url = "{server.base_url}"\n'
            script = f"handshake init work\ncat >> work/.handshake/config.toml <<'END'\n{config}END\n{script}"
        folder = tmp_path / "reader"
        folder.mkdir()
        run = await asyncio.to_thread(_run, script, folder)
    assert run.returncode == 0, f"{run.stdout[-2000:]}\n{run.stderr[-2000:]}"
    assert os.listdir(folder)
    assert run.stdout.strip()
