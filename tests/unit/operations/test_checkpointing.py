"""Checkpoints point at what is stored: by count, by decision, before a session rests, at a stop and after a crash."""

from __future__ import annotations

import asyncio
from typing import Any

from handshake.kernel.ids import SessionId
from handshake.kernel.job import JobState
from handshake.kernel.session import SessionState
from handshake.kernel.session_checkpoint import EVERY_TOKENS, Trigger, checkpoint_id
from handshake.kernel.settings import LocalRuns
from handshake.kernel.usage import TokenUsage
from handshake.operations import views
from handshake.testing.invariants import Contents
from handshake.testing.scripted_model import ScriptedModel
from tests.running import Stage, scene


def triggers(found: Contents, session_id: SessionId) -> list[str]:
    """Return why the checkpoints of a session were made, in order."""
    return [one.payload["trigger"] for one in found.of("checkpoint.created") if one.session_id == session_id]


def points(stage: Stage, session_id: SessionId) -> tuple[Any, ...]:
    """Return what a session's last checkpoint points at."""
    session = stage.session(session_id)
    return session.checkpoint_seq, session.checkpoint_state, session.checkpoint_trigger


async def test_every_fifth_message_makes_one_and_a_single_turn_none() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    made = []
    for _ in range(6):
        job_id = await stage.send(session_id)
        await stage.batch(stage.finishing(stage.ticket(job_id)))
        made.append(stage.session(session_id).checkpoint_count)
    assert made == [0, 0, 1, 1, 2, 2]
    assert points(stage, session_id) == (10, SessionState.IDLE, "messages")
    (first, second) = stage.check().of("checkpoint.created")
    assert [first.payload["checkpoint_id"], second.payload["checkpoint_id"]] == [
        checkpoint_id(session_id, 1), checkpoint_id(session_id, 2),
    ]  # fmt: skip


async def test_long_answers_make_one_before_five_messages_do() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    usage = TokenUsage(1, EVERY_TOKENS // 2, EVERY_TOKENS // 2 + 1)
    for _ in range(2):
        job_id = await stage.send(session_id)
        await stage.batch(stage.finishing(stage.ticket(job_id), usage=usage))
    assert points(stage, session_id) == (4, SessionState.IDLE, "tokens")
    assert stage.session(session_id).streamed_tokens == 0
    stage.check()


async def test_an_answer_of_unknown_usage_is_counted_by_its_size() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    job_id = await stage.send(session_id)
    await stage.batch(stage.finishing(stage.ticket(job_id), "word" * EVERY_TOKENS, usage=None))
    assert triggers(stage.check(), session_id) == ["tokens"]


async def test_every_decision_of_an_operator_makes_one() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    await stage.batch(stage.pausing(session_id))
    assert points(stage, session_id) == (0, SessionState.PAUSED, "pause")
    await stage.batch(stage.resuming(session_id))
    job_id = await stage.send(session_id)
    await stage.batch(stage.cancelling(job_id))
    assert points(stage, session_id) == (1, SessionState.IDLE, "operator_decision")
    await stage.batch(stage.completing(session_id))
    assert triggers(stage.check(), session_id) == ["pause"] + ["operator_decision"] * 3


async def test_a_pause_that_acts_when_the_run_is_over_makes_one_then() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    job_id = await stage.send(session_id)
    await stage.batch(stage.pausing(session_id))
    assert points(stage, session_id) == (1, SessionState.ACTIVE, "pause")
    await stage.batch(stage.finishing(stage.ticket(job_id)))
    assert points(stage, session_id) == (2, SessionState.PAUSED, "pause")
    stage.check()


async def test_a_stop_and_a_crash_make_one_each() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    job_id = await stage.send(session_id)
    await stage.batch(stage.handing_back(stage.ticket(job_id)))
    assert triggers(stage.check(), session_id) == ["shutdown"]
    await stage.begin()
    assert triggers(stage.check(), session_id) == ["shutdown", "block", "recovery"]
    assert points(stage, session_id) == (1, SessionState.IDLE, "recovery")


async def test_a_run_that_is_put_before_a_person_makes_one_and_so_does_the_answer() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    job_id = await stage.send(session_id)
    await stage.batch(stage.giving_up(stage.ticket(job_id), local_runs=LocalRuns.DESK))
    assert points(stage, session_id) == (1, SessionState.BLOCKED, "block")
    (item,) = stage.desk()
    await stage.batch(stage.approving(item))
    assert triggers(stage.check(), session_id) == ["block", "operator_decision"]


async def test_turns_that_wait_are_counted_too() -> None:
    stage = await Stage.open(dispatch=False)
    session_id = await stage.create()
    for _ in range(11):
        await stage.send(session_id)
    assert triggers(stage.check(), session_id) == ["messages", "messages"]
    assert points(stage, session_id) == (10, SessionState.CREATED, "messages")


async def test_a_long_answer_leaves_what_it_said_so_far_when_its_runtime_dies() -> None:
    waiting = asyncio.Event()
    pieces = [f"{number} " for number in range(2 * EVERY_TOKENS + 7)]
    async with scene(ScriptedModel(lambda text: (*pieces, waiting))) as one:
        turn = await (await one.create()).send("a")
        for _ in range(200):
            await one.settle()
        kept = await one.runtime.store.read(lambda reader: views.job_artifacts(reader, turn.job_id))
        assert [(left.attempt, left.kind) for left in kept] == [(1, "answer_so_far")]
        text = await one.runtime.store.read(lambda reader: views.text_of(reader, kept[0].artifact_id))
        assert text == "".join(pieces[: 2 * EVERY_TOKENS])
        assert triggers(one.check(), turn.session_id) == ["tokens", "tokens"]
        assert (await one.workspace.job(turn.job_id)).state is JobState.RUNNING
        waiting.set()
        assert (await turn.result()).text == "".join(pieces)
        one.check()


def test_the_triggers_are_a_closed_set() -> None:
    assert {one.value for one in Trigger} == {
        "operator_decision", "pause", "block", "shutdown", "messages", "tokens", "tool_call", "recovery",
    }  # fmt: skip
