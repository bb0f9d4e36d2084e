"""A declared locality is told to the log once, and again when it changes."""

from __future__ import annotations

from pathlib import Path

import apsw

from handshake.bootstrap import init_workspace
from handshake.workspace import open_workspace


async def _open(folder: Path, why: str) -> int:
    (folder / ".handshake" / "config.toml").write_text(
        '[providers.lab]\ndialects = ["openai_chat"]\nbase_url = "http://10.0.0.7:8000/v1"\n'
        f'run_by_operator = "{why}"\n'
    )
    async with open_workspace(folder):
        pass
    db = apsw.Connection(str(folder / ".handshake" / "state.db"), flags=apsw.SQLITE_OPEN_READONLY)
    rows = list(db.execute("SELECT body FROM event WHERE type = 'provider.locality_declared'"))
    assert all(why.encode() not in body for (body,) in rows)
    return len(rows)


async def test_a_declaration_is_told_once_per_change(tmp_path: Path) -> None:
    init_workspace(tmp_path)
    assert await _open(tmp_path, "our own machine in the rack") == 1
    assert await _open(tmp_path, "our own machine in the rack") == 1
    assert await _open(tmp_path, "moved to another room") == 2
