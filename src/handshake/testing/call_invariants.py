"""Call invariants: what must be true of the calls that runs asked for: rows, thread and log agree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from handshake.kernel.ids import ArtifactId
from handshake.kernel.job import Job, JobState, JobStep
from handshake.kernel.message import Message, MessageRole
from handshake.kernel.session import Session
from handshake.kernel.tool_call import ToolCallRecord, ToolCallState
from handshake.kernel.tool_message import read_answer, read_call
from handshake.operations import tool_calls
from handshake.ports.store import Reader


def check_calls(
    reader: Reader,
    sessions: Iterable[Session],
    jobs: Iterable[Job],
    messages: Iterable[Message],
    told: Sequence[Mapping[str, Any]],
) -> None:
    """Check calls against the thread, results against calls, and that the log tells of each that has ended.

    Args:
        reader: one state of the workspace.
        sessions: all.
        jobs: all.
        messages: all, in the order of each session.
        told: payloads of the `tool_call` events.

    Source:
        gate.result.correlated, gate.event.on_every_path (01 §4, 02 §3).
    """
    rows = [one for session in sessions for one in _calls(reader, session.session_id)]
    of_job: dict[str | None, list[ToolCallRecord]] = defaultdict(list)
    for row in rows:
        of_job[row.job_id].append(row)
    said: dict[tuple[str | None, MessageRole], list[Message]] = defaultdict(list)
    for message in messages:
        said[message.job_id, message.role].append(message)
    for job in jobs:
        calls = of_job.pop(job.job_id, [])
        asked = said.pop((job.job_id, MessageRole.TOOL_CALL), [])
        results = said.pop((job.job_id, MessageRole.TOOL_RESULT), [])
        _check_run(reader, job, calls, asked, results)
    assert {job_id for job_id in of_job if job_id is not None} == set(), "calls of no run"
    assert not [key for key in said if key[1] in (MessageRole.TOOL_CALL, MessageRole.TOOL_RESULT)], "astray"
    ended = {one.tool_call_id for one in rows if one.state is ToolCallState.ENDED}
    assert ended <= {one["tool_call_id"] for one in told}, "a call has ended, and no event tells it"


def _check_run(
    reader: Reader, job: Job, calls: list[ToolCallRecord], asked: list[Message], results: list[Message]
) -> None:
    assert bool(calls) == (job.step is JobStep.TOOLS), f"{job.job_id}: at its tools without calls, or the reverse"
    assert [one.message_id for one in asked] == [one.tool_call_id for one in calls], f"{job.job_id}: calls"
    wire_ids = [read_call(_text(reader, one)).call_id for one in asked]
    answered = [read_answer(_text(reader, one)).call_id for one in results]
    assert answered == wire_ids[: len(answered)], f"{job.job_id}: results that answer other calls"
    open_calls = [one for one in calls if one.state is not ToolCallState.ENDED]
    waiting = [one for one in open_calls if one.state is ToolCallState.AWAITING_USER]
    if job.state is JobState.COMPLETED and job.step is JobStep.TOOLS:
        assert len(answered) == len(calls), f"{job.job_id}: goes on without a result"
    if job.ended_at_us is None:
        assert len(answered) == len(calls) - len(open_calls), f"{job.job_id}: a call ended, and its model never hears"
    else:
        assert all(one.state is ToolCallState.STARTED for one in open_calls), f"{job.job_id}: ended with open calls"
    # A call that was approved is decided about anew when its run is at its tools again; until then it says no more.
    assert waiting or job.state is not JobState.AWAITING_USER, f"{job.job_id}: waits for a person about no call"


def _calls(reader: Reader, session_id: str) -> list[ToolCallRecord]:
    found: list[ToolCallRecord] = []
    while page := tool_calls.calls(reader, session_id, after=found[-1].call_seq if found else 0):
        found += page
    return found


def _text(reader: Reader, message: Message) -> str:
    data = reader.artifact(ArtifactId(message.content_artifact_id))
    assert data is not None, f"message {message.message_id} has no artifact"
    return data.decode()
