"""Invariants: each rule notices when it is broken, and a workspace as the runtime leaves it breaks none."""

from __future__ import annotations

import msgspec
import pytest

from handshake.kernel.budget import BudgetType
from handshake.kernel.ids import JobId
from handshake.kernel.job import JobState
from handshake.kernel.settings import RecorderSettings, WorkspaceBudgets
from handshake.testing.invariants import check_workspace, job_states
from handshake.testing.memory_store import MemoryStore
from handshake.testing.virtual_clock import VirtualClock
from tests.running import FINAL, Stage, settings_of


async def worked() -> tuple[MemoryStore, dict[str, JobId]]:
    """Return a workspace with a job in every state that this part knows."""
    clock = VirtualClock()
    memory = MemoryStore(clock=clock, recorder=RecorderSettings(checkpoint_every_events=8))
    stage = Stage(memory, clock, msgspec.structs.replace(settings_of(), budgets=WorkspaceBudgets(calls=99)))
    await stage.begin()
    ended, busy = await stage.create(), await stage.create(budget={BudgetType.TOKENS: 99_999, BudgetType.CALLS: 9})
    jobs = {"completed": await stage.send(ended, "one"), "failed": await stage.send(ended, "two")}
    await stage.store.write(stage.finishing(stage.ticket(jobs["completed"])))
    await stage.store.write(stage.failing(stage.ticket(jobs["failed"]), FINAL))
    jobs["cancelled"] = await stage.send(ended, "three")
    await stage.store.write(stage.cancelling(jobs["cancelled"]))
    await stage.store.write(stage.completing(ended))
    await stage.create()
    jobs["running"] = await stage.send(busy, "four")
    jobs["queued"] = await stage.send(busy, "five")
    return memory, jobs


def check(memory: MemoryStore) -> dict[JobId, JobState]:
    return job_states(memory.read_now(lambda reader: check_workspace(reader, memory.key.verifier_key)))


async def test_whole_workspace_breaks_none() -> None:
    memory, jobs = await worked()
    assert {state.value: job_id for job_id, state in check(memory).items()} == jobs


BREAKS = (
    "UPDATE event SET seq = 1000 WHERE seq = 3",
    "DELETE FROM event WHERE seq = 5",
    "DELETE FROM event WHERE seq = (SELECT max(seq) FROM event)",
    "UPDATE event SET body = CAST(replace(body, 'session', 'Session') AS BLOB) WHERE seq = 4",
    "UPDATE event SET hash = zeroblob(32) WHERE seq = 4",
    "UPDATE event SET type = 'session.message' WHERE seq = 1",
    "UPDATE event SET session_id = NULL WHERE session_id IS NOT NULL AND seq < 6",
    "UPDATE log_state SET size = size + 1",
    "UPDATE log_state SET last_hash = hex(zeroblob(32))",
    "UPDATE log_state SET frontier = zeroblob(40)",
    "UPDATE checkpoint SET root_hash = lower(hex(zeroblob(32)))",
    "DELETE FROM checkpoint WHERE tree_size = (SELECT min(tree_size) FROM checkpoint)",
    "UPDATE checkpoint SET note = replace(note, char(10) || char(10), char(10) || 'x' || char(10) || char(10))",
    "DELETE FROM message WHERE seq = 2",
    "UPDATE message SET seq = 50 WHERE seq = 3",
    "UPDATE message SET seq = 2 WHERE seq = 3",
    "INSERT INTO message SELECT * FROM message WHERE seq = 2",
    "UPDATE message SET job_id = 'of no job' WHERE seq = 2",
    "UPDATE message SET session_id = (SELECT min(session_id) FROM session WHERE session_id <> message.session_id)",
    "UPDATE message SET content_bytes = 1",
    "UPDATE message SET content_hash = lower(hex(zeroblob(32)))",
    "UPDATE message SET job_id = NULL",
    "UPDATE message SET turn_seq = 9",
    "UPDATE message SET role = 'ASSISTANT' WHERE seq = 1",
    "UPDATE session SET state = 'IDLE' WHERE running = 1",
    "UPDATE session SET running = 0",
    "UPDATE session SET waiting = 1",
    "UPDATE session SET dispatched = 0",
    "UPDATE session SET paused = 1 WHERE ending = 'open' AND running = 0",
    "UPDATE session SET thread_bytes = thread_bytes + 1",
    "UPDATE session SET total_tokens = total_tokens + 1",
    "UPDATE session SET settled_tokens = settled_tokens + 1",
    "UPDATE job SET settled_tokens = settled_tokens + 1 WHERE state = 'running'",
    "UPDATE budget SET reserved = reserved + 1 WHERE scope = 'workspace'",
    "UPDATE budget SET reserved = 0 WHERE scope = 'session'",
    "UPDATE budget SET spent = spent + 1 WHERE scope = 'session' AND kind = 'tokens'",
    "UPDATE session SET next_turn_seq = next_turn_seq + 1",
    "UPDATE session SET next_seq = next_seq + 1",
    "UPDATE session SET ended_at_us = NULL",
    "UPDATE session SET ending = 'completed', state = 'COMPLETED', ended_at_us = 1",
    "UPDATE job SET state = 'running' WHERE state = 'queued'",
    "UPDATE job SET state = 'completed', ended_at_us = 1 WHERE state = 'running'",
    "UPDATE job SET state = 'queued' WHERE state = 'running'",
    "UPDATE job SET ended_at_us = NULL",
    "UPDATE job SET holds_slot = 0",
    "UPDATE job SET holds_slot = 1 WHERE state = 'queued'",
    "UPDATE job SET attempt = attempt + 1 WHERE state = 'running'",
    "UPDATE job SET answer_message_id = NULL",
    "UPDATE job SET state = 'completed' WHERE state = 'failed'",
    "UPDATE job SET state = 'failed' WHERE state = 'cancelled'",
    "DELETE FROM job WHERE state = 'queued'",
)


@pytest.mark.parametrize("statement", BREAKS)
async def test_broken_rule_is_noticed(statement: str) -> None:
    memory, _ = await worked()
    db = memory.opened.db
    db.execute("PRAGMA foreign_keys=OFF").fetchall()
    db.execute(statement).fetchall()
    assert db.changes() > 0, "the statement breaks nothing"
    with pytest.raises(Exception) as noticed:
        check(memory)
    assert str(noticed.value)
