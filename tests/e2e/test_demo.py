"""The demo as a process: it needs nothing, ends with a verdict, and leaves a workspace that stands up to a look."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.e2e.command_line import CommandLine, first_line, interrupt
from tests.requirement import requirement


@requirement("face.cli.json")
async def test_the_demo_runs_cancels_and_verifies(tmp_path: Path) -> None:
    here = CommandLine(None, tmp_path)
    ended = await here("demo", "--yes", "--json", environment={"TMPDIR": str(tmp_path)})
    assert (ended.code, ended.err) == (0, "")
    told = ended.json
    assert told["audit"]["verified"] is True
    sessions = told["sessions"].values()
    assert sorted(one["state"] for one in sessions) == ["CANCELLED"] + ["COMPLETED"] * 5
    assert {one["lane"] for one in sessions} == {"PRIMARY", "VALIDATION", "SUBAGENT", "BACKGROUND"}
    assert all(one["tokens"] > 0 for one in sessions if one["state"] == "COMPLETED")
    folder = Path(told["workspace"])
    assert folder.parent == tmp_path
    look = CommandLine(folder, tmp_path)
    listed = (await look("session", "list", "--json")).lines
    assert {one["session_id"]: one["state"] for one in listed} == {
        session_id: one["state"] for session_id, one in told["sessions"].items()
    }
    jobs = (await look("job", "list", "--json")).lines
    assert sorted(one["state"] for one in jobs) == ["cancelled"] * 2 + ["completed"] * 10
    verdict = (await look("audit", "verify", "--deep", "--json")).json
    assert (verdict["verified"], verdict["events"]) == (True, told["audit"]["events"])
    assert os.listdir(folder) == [".handshake"]


async def test_an_interrupted_demo_leaves_nothing_running_and_a_sound_log(tmp_path: Path) -> None:
    here = CommandLine(None, tmp_path)
    async with here.started("demo", environment={"TMPDIR": str(tmp_path)}) as process:
        while not (await first_line(process)).endswith("runs\n"):
            pass
        ended = await interrupt(process)
    assert ended.code == 130
    assert ended.err.startswith("HSK-499-CLIENT-GONE: ")
    (folder,) = re.findall(r"handshake -w (\S+)", ended.err)
    look = CommandLine(Path(folder), tmp_path)
    assert (await look("audit", "verify", "--deep")).code == 0
    assert {one["state"] for one in (await look("job", "list", "--json")).lines} == {"queued"}
    assert (await look("status", "--json")).json["held_by"] is None
