"""A session writes through the gate into files of its own, and its work comes back by the Python face and a command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from handshake.bootstrap import init_workspace
from handshake.kernel.asked_call import Origin
from handshake.kernel.catalogue.tools import Transport
from handshake.kernel.htc import ToolResponse
from handshake.kernel.ids import ProviderId
from handshake.testing.scripted_model import ScriptedModel
from handshake.workspace import SessionHandle, Workspace, open_workspace
from tests.e2e.command_line import CommandLine, configure
from tests.requirement import requirement
from tests.unit.tools.test_worktrees import files_of, git, written

NEW: dict[str, Any] = {"role": "coder", "model": "tiny/m", "memory_policy": "EPHEMERAL"}


async def write(hs: Workspace, session: SessionHandle, path: str, text: str) -> ToolResponse:
    """Write a file as a program calls a tool."""
    request = {
        "schema_version": "htc-1.0",
        "tool_call_id": f"write-{len(text)}-{path.replace('/', '-')}",
        "trace_id": "018f0000-0000-7000-8000-0000000000aa",
        "session_id": session.session_id,
        "actor": {"kind": "human", "agent_id": "tester"},
        "tool_id": "workspace.file.write",
        "tool_version": "1.0.0",
        "dry_run": False,
        "args": {"path": path, "content": text, "overwrite": True},
    }
    return await hs.runtime.tools.gate.call(msgspec.json.encode(request), Origin(transport=Transport.LOCAL))


@requirement("gate.workspace.merge_explicit", "gate.workspace.no_overlap")
async def test_what_a_session_wrote_comes_back_when_its_operator_says_so(tmp_path: Path) -> None:
    root, home = tmp_path / "work", tmp_path / "home"
    home.mkdir()
    written(root, {"src/a.py": "a\n", "b.txt": "b\n"})
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "first")
    init_workspace(root)
    configure(root, "http://127.0.0.1:9/v1")
    async with open_workspace(root, models={ProviderId("tiny"): ScriptedModel()}, dispatch=False) as hs:
        one = await hs.sessions.create(**NEW, grants=["fs.write:src/**"])
        other = await hs.sessions.create(**NEW, grants=["fs.write"])
        first = await write(hs, one, "src/a.py", "changed\n")
        assert first.ok, first.error
        refused = await write(hs, other, "b.txt", "theirs\n")
        assert getattr(refused.error, "code", None) == "CX-MM-002"
        assert files_of(root) == {"src/a.py": "a\n", "b.txt": "b\n"}
        assert (await one.merge()).files == ("src/a.py",)
        assert files_of(root) == {"src/a.py": "changed\n", "b.txt": "b\n"}
        assert (await write(hs, one, "src/new.py", "new\n")).ok
        assert (await write(hs, one, "src/a.py", "changed again\n")).ok
    written(root, {"src/a.py": "mine\n"})
    handshake = CommandLine(root, home)
    conflict = await handshake("session", "merge", one.session_id, "--json")
    assert conflict.out, conflict.err
    assert (conflict.code, conflict.json["merged"], conflict.json["conflicts"]) == (5, False, ["src/a.py"])
    assert (await handshake("session", "show", one.session_id, "--json")).json["state"] == "BLOCKED"
    written(root, {"src/a.py": "changed again\n"})
    merged = await handshake("session", "merge", one.session_id)
    assert (merged.code, merged.err, "src/new.py" in merged.out) == (0, "", True)
    assert files_of(root)["src/new.py"] == "new\n"
    shown = (await handshake("session", "show", other.session_id, "--json")).json
    assert shown["waits_for_session_id"] == one.session_id
    assert (await handshake("session", "merge", other.session_id)).code == 4
    assert (await handshake("audit", "verify")).code == 0
