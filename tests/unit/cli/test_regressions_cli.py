"""The doctor in a workspace that is not whole or not one's own, and how a cancelled run is told."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from handshake.bootstrap import init_workspace
from handshake.cli.border import ending_signals
from handshake.cli.command import Invocation
from handshake.cli.doctor import Finding, Verdict, _look
from handshake.cli.main import root
from handshake.cli.sending import _failure
from handshake.kernel.errors import ConsentRequired, StateConflict
from handshake.kernel.ids import JobId, SessionId
from handshake.kernel.job import JobState
from handshake.testing.upstream import Upstream
from handshake.workspace import Result


def findings(folder: Path) -> dict[str, Finding]:
    """Return what the doctor finds, by subject."""
    return {one.subject: one for one in _look(Invocation(as_json=False, workspace=folder))}


def test_a_workspace_without_its_parts_is_told_and_not_tripped_over(tmp_path: Path) -> None:
    (tmp_path / ".handshake").mkdir(mode=0o700)
    found = findings(tmp_path)
    assert {name for name, one in found.items() if one.verdict is Verdict.FAIL} == {"permissions", "store", "log key"}


async def test_the_doctor_sends_no_credential_where_others_may_say_to_whom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = init_workspace(tmp_path)
    monkeypatch.setenv("A_KEY", "sk-0123456789abcdef")
    async with Upstream() as upstream:
        place.config.write_text(
            f'[providers.x]\ndialects = ["openai_chat"]\nbase_url = "{upstream.base_url}"\ncredential = "env:A_KEY"\n'
        )
        place.config.chmod(0o644)
        await asyncio.to_thread(findings, tmp_path)
        place.config.chmod(0o600)
        await asyncio.to_thread(findings, tmp_path)
        sent = [one.headers.get("authorization") for one in upstream.received]
    assert sent == [None, "Bearer sk-0123456789abcdef"]


@pytest.mark.parametrize(
    ("state", "error_code", "leaf", "exit_code"),
    [
        (JobState.CANCELLED, None, StateConflict, 5),
        (JobState.FAILED, "HSK-403-CLOUD-CONSENT-REQUIRED", ConsentRequired, 3),
    ],
)
def test_how_a_run_ended_decides_the_exit_code(
    state: JobState, error_code: str | None, leaf: type[Exception], exit_code: int
) -> None:
    ended = Result(
        job_id=JobId("j"),
        session_id=SessionId("s"),
        state=state,
        text=None,
        usage=None,
        attempts=1,
        error_code=error_code,
        reason="operator",
    )
    failure = _failure(ended)
    assert (type(failure), failure.exit_code) == (leaf, exit_code)


def test_a_closed_terminal_ends_a_command_unless_hang_ups_are_ignored() -> None:
    assert signal.SIGHUP in ending_signals()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert ending_signals() == (signal.SIGTERM,)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_hint_of_a_cloud_refusal_names_a_command_that_there_is() -> None:
    named = ConsentRequired.hint.split("`")[1].split()
    assert named[0] == "handshake"
    assert named[1] in root.commands
