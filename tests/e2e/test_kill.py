"""Kill: kill -9 at any moment loses nothing that was acknowledged, and the next start goes on from there."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from handshake.bootstrap import LOG_NAME, init_workspace, read_only, verify_log
from handshake.kernel.checkpoint import VerifierKey
from handshake.kernel.errors import StateConflict
from handshake.kernel.job import JobState
from handshake.storage.files import OsFiles
from handshake.storage.instance_lock import is_held
from handshake.storage.signing import SigningKey
from handshake.storage.workspace_folder import WorkspaceFolder
from handshake.testing.invariants import Contents, check_workspace, job_states
from handshake.testing.seeded_chance import SeededChance
from handshake.workspace import open_workspace
from tests.requirement import requirement

PROGRAM = Path(__file__).with_name("turn_sender.py")
MOMENTS = 18
"""How often the program is killed."""
OPENING = (2, 5, 6, 11)
"""Those of the times that it is killed while it opens the workspace."""
CONFIG = """
[providers.scripted]
dialects = ["openai_chat"]
base_url = "http://127.0.0.1:1/v1"
max_concurrent = 12
[scheduler.max_concurrent_per_model]
local = 12
"""


class Acknowledged(msgspec.Struct):
    """What the program was told, as far as it lived to say it."""

    sessions: set[str]
    accepted: set[str]
    ended: dict[str, str]
    ends: dict[int, str]
    """Hashes of the log's last event at some sizes."""

    def add(self, line: str) -> None:
        """Take in one line of the program; a line that it was killed in the middle of says nothing."""
        word, *rest = line.split() or [""]
        if not line.endswith("\n") or word not in ("session", "accepted", "ended"):
            return
        if word == "session":
            self.sessions.add(rest[0])
        elif word == "accepted":
            self.accepted.add(rest[0])
        else:
            self.ended[rest[0]] = rest[1]
        self.ends[int(rest[-2])] = rest[-1]


@pytest.fixture
def place(tmp_path: Path) -> WorkspaceFolder:
    found = init_workspace(tmp_path)
    found.config.write_text(CONFIG, encoding="utf-8")
    return found


def start(place: WorkspaceFolder, *what: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, PROGRAM, place.root, *what], stdout=subprocess.PIPE, text=True)


def kill_after(place: WorkspaceFolder, moment: int, lines: int, acknowledged: Acknowledged) -> None:
    """Start the program, kill it after so many lines, and take in all that it said."""
    with start(place, "send", str(moment + 1)) as process:
        assert process.stdout is not None
        for _ in range(lines):
            acknowledged.add(process.stdout.readline())
        process.kill()
        for line in process.stdout:
            acknowledged.add(line)
    assert process.returncode == -signal.SIGKILL


def key_of(place: WorkspaceFolder) -> VerifierKey:
    reader = read_only(place)
    row = reader.read_now(lambda one: one.row("workspace_get"))
    reader.shut()
    assert row is not None
    return SigningKey.load(place.keys, f"{LOG_NAME}{row[0]!s}", files=OsFiles()).verifier_key


def contents(place: WorkspaceFolder) -> Contents:
    """Return what the workspace holds, which must be whole."""
    key = key_of(place)
    reader = read_only(place)
    try:
        return reader.read_now(lambda one: check_workspace(one, key))
    finally:
        reader.shut()


def check_acknowledged(acknowledged: Acknowledged, found: Contents) -> None:
    """Everything that the program was told is there, and as it was told."""
    states = {str(job_id): state.value for job_id, state in job_states(found).items()}
    assert acknowledged.sessions <= {str(one.session_id) for one in found.sessions}
    assert acknowledged.accepted <= set(states)
    assert {job_id: states[job_id] for job_id in acknowledged.ended} == acknowledged.ended
    hashes = {one.seq: one.hash for one in found.events}
    assert {seq: hashes[seq] for seq in acknowledged.ends} == acknowledged.ends


def check_recovered(before: Contents, after: Contents) -> int:
    """What was running is told to be stalled and queued again, once per start that came so far; return how many."""
    fresh = after.events[len(before.events) :]
    steps = [
        (one.job_id, one.payload["from_state"], one.payload["to_state"])
        for one in fresh
        if one.type == "workflow_recovery"
    ]
    blocked = {
        one.session_id
        for one in fresh
        if one.type == "session.state_change"
        and (one.payload["to_state"], one.payload["reason"]) == ("BLOCKED", "crash_recovery")
    }
    orphans = [job for job in before.jobs if job.state is JobState.RUNNING]
    expected = [
        step for job in orphans for step in ((job.job_id, "running", "stalled"), (job.job_id, "stalled", "queued"))
    ]
    assert steps in (expected, []), "recovery takes all of them over, or it did not come to it"
    assert blocked == ({job.session_id for job in orphans} if steps else set())
    return len(steps)


@requirement(
    "recovery.kill.loses_nothing",
    "message.append.is_atomic",
    "recovery.start.dispatches_queue",
    "recovery.actions.are_evented",
)
def test_kill_at_any_moment_loses_nothing(place: WorkspaceFolder) -> None:
    chance = SeededChance(9)
    acknowledged = Acknowledged(set(), set(), {}, {})
    before = contents(place)
    recovered = 0
    for moment in range(MOMENTS):
        kill_after(place, moment, 1 if moment in OPENING else 2 + chance.bits(7), acknowledged)
        found = contents(place)
        check_acknowledged(acknowledged, found)
        recovered += check_recovered(before, found)
        before = found
        assert verify_log(place, deep=True).sound
    assert recovered
    assert acknowledged.ended
    with start(place, "drain") as process:
        assert process.wait() == 0
    after = contents(place)
    check_acknowledged(acknowledged, after)
    check_recovered(before, after)
    assert set(job_states(after)) == set(job_states(before)), "nothing was enqueued again"
    assert set(job_states(after).values()) == {JobState.COMPLETED}
    assert verify_log(place, deep=True).sound


@requirement("recovery.second_instance.is_refused")
async def test_second_runtime_is_refused_and_told_who_is_first(place: WorkspaceFolder) -> None:
    with start(place, "send", "1") as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["opening\n", "ready\n"]
        assert is_held(place.lock)
        with pytest.raises(StateConflict) as refused:
            async with open_workspace(place.root):
                pytest.fail("opened twice")
        assert refused.value.context["holder_pid"] == process.pid
        assert refused.value.context["holder_program"] == PROGRAM.name
        assert process.poll() is None, "the first is not disturbed"
        process.kill()
    async with open_workspace(place.root, dispatch=False) as hs:
        assert (await hs.status()).runtime_epoch == 2
