"""Laws of threads: what is found through jobs is what a filter of all messages finds, in the same order."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from handshake.kernel.ids import JobId, SessionId
from handshake.kernel.job import Job
from handshake.kernel.message import Message, MessageRole
from handshake.operations import records, views
from handshake.ports.store import Reader
from tests.requirement import requirement
from tests.running import FINAL, Stage, settings_of

SEEDS = 8
STEPS = 60
SESSIONS = 4
LIMITS = (1, 2, 3, 1_000)


async def play(chance: Random) -> tuple[Stage, list[SessionId]]:
    """Return a stage whose sessions took turns, with queued turns, turns of several runs, failures and cancels."""
    stage = await Stage.open(settings_of(3, reserved=0), seed=chance.randrange(1 << 30))
    sessions = [await stage.create() for _ in range(SESSIONS)]
    for step in range(STEPS):
        stage.clock.advance(chance.choice((0, 1_000)))
        running = stage.running()
        if not running or chance.random() < 0.45:
            await stage.send(chance.choice(sessions), f"question {step}")
            continue
        ticket, kind = stage.ticket(chance.choice(running)), chance.random()
        if kind < 0.75:
            following = JobId(stage.new_id()) if chance.random() < 0.4 else None
            await stage.batch(stage.finishing(ticket, f"answer {step}", next_job_id=following))
        elif kind < 0.9:
            await stage.batch(stage.failing(ticket, FINAL))
        else:
            await stage.batch(stage.cancelling(ticket.job_id), stage.releasing(ticket))
    return stage, sessions


def pages(reader: Reader, session_id: SessionId, limit: int) -> list[Message]:
    """Return a thread as pages show it, one after another."""
    found: list[Message] = []
    while page := views.messages(reader, session_id, after=found[-1].seq if found else 0, limit=limit):
        found += [one.message for one in page]
    return found


def evidence(reader: Reader, session_id: SessionId, limit: int) -> list[tuple[Any, ...]]:
    """Return number and id of a session's messages as a verification reads them."""
    found: list[Any] = []
    while True:
        row, seq = (found[-1][0], found[-1][1]) if found else (0, 0)
        given = {"session_id": session_id, "after": seq, "after_row": row, "limit": limit}
        page = reader.rows("message_evidence", given)
        if not page:
            return [one[1:3] for one in found]
        found += page


def require_thread(reader: Reader, session_id: SessionId, expected: list[Message]) -> None:
    """Hold every way to read a thread to the messages of the session, in order of their numbers."""
    for limit in LIMITS:
        assert pages(reader, session_id, limit) == expected
        assert evidence(reader, session_id, limit) == [(one.seq, one.message_id) for one in expected]
    for after in range(len(expected) + 2):
        page = views.messages(reader, session_id, after=after, limit=2)
        assert [one.message for one in page] == [one for one in expected if one.seq > after][:2]
    for turn_seq in range(max((one.turn_seq for one in expected), default=0) + 2):
        rows = reader.rows("message_thread", {"session_id": session_id, "turn_seq": turn_seq})
        until = [one for one in expected if one.turn_seq <= turn_seq]
        in_turns = sorted(until, key=lambda one: (one.turn_seq, one.seq))
        assert [row[:3] for row in rows] == [(one.turn_seq, one.role, one.content_artifact_id) for one in in_turns]


def require_request(reader: Reader, job: Job, thread: list[Message]) -> None:
    """Hold the size of a run's request to its own turn and earlier turns with an answer."""
    answered = {one.turn_seq for one in thread if one.role is MessageRole.ASSISTANT and one.turn_seq < job.turn_seq}
    sizes = [one.content_bytes for one in thread if one.turn_seq in answered | {job.turn_seq}]
    row = reader.row("job_request_bytes", {"job_id": job.job_id, "session_id": job.session_id})
    assert row == (sum(sizes),)


def require_answer(reader: Reader, job: Job, thread: list[Message]) -> None:
    """Hold the answer of a job to the message that it names."""
    said = [(one.content_artifact_id,) for one in thread if one.message_id == job.answer_message_id]
    assert reader.row("job_answer", {"job_id": job.job_id}) == (said[0] if said else None)


@requirement("message.thread.rebuilds_same_bytes")
@pytest.mark.parametrize("seed", range(SEEDS))
async def test_a_thread_is_a_filter_of_all_messages(seed: int) -> None:
    chance = Random(seed)
    stage, sessions = await play(chance)
    found = stage.check()
    threads = {one: [message for message in found.messages if message.session_id == one] for one in sessions}
    interleaved = [job.session_id for job in found.jobs]
    assert interleaved != sorted(interleaved), "sessions that take turns"
    turns = [[one.turn_seq for one in thread] for thread in threads.values()]
    assert any(one != sorted(one) for one in turns), "a turn that was queued before the answer to the one before it"
    assert any(job.run_seq > 1 for job in found.jobs)

    def hold(reader: Reader) -> None:
        for session_id in sessions:
            require_thread(reader, session_id, threads[session_id])
        for job in found.jobs:
            require_request(reader, job, threads[job.session_id])
            require_answer(reader, job, threads[job.session_id])

    stage.store.read_now(hold)


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_messages_without_a_job_stand_in_their_places(seed: int) -> None:
    chance = Random(seed)
    stage, sessions = await play(chance)
    stage.memory.opened.db.execute("UPDATE message SET job_id = NULL WHERE rowid % 3 = ?", (seed % 3,)).fetchall()
    kept = stage.store.read_now(lambda reader: reader.rows("message_stretch", {"after": 0, "limit": 1_000}))
    assert {row[6] is None for row in kept} == {True, False}

    def hold(reader: Reader) -> None:
        for session_id in sessions:
            own = [records.record(Message, row[1:]) for row in kept if row[1] == session_id]
            require_thread(reader, session_id, sorted(own, key=lambda one: one.seq))

    stage.store.read_now(hold)
