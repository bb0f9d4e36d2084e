"""Session checkpoint: when one is due, and that each has an id of its own that says the same twice."""

from __future__ import annotations

import pytest

from handshake.kernel.ids import SessionId, is_uuid
from handshake.kernel.session import SessionState
from handshake.kernel.session_checkpoint import EVERY_MESSAGES, EVERY_TOKENS, Trigger, checkpoint_id, due

SESSION = SessionId("018f0000-0000-7000-8000-000000000001")


@pytest.mark.parametrize(
    ("state", "messages", "tokens", "trigger"),
    [
        (SessionState.IDLE, 0, 0, None),
        (SessionState.IDLE, EVERY_MESSAGES - 1, EVERY_TOKENS - 1, None),
        (SessionState.IDLE, EVERY_MESSAGES, 0, Trigger.MESSAGES),
        (SessionState.IDLE, 1, EVERY_TOKENS, Trigger.TOKENS),
        (SessionState.PAUSED, 0, 0, Trigger.PAUSE),
        (SessionState.BLOCKED, EVERY_MESSAGES, EVERY_TOKENS, Trigger.BLOCK),
    ],
)
def test_one_is_due_by_count_and_before_a_session_rests(
    state: SessionState, messages: int, tokens: int, trigger: Trigger | None
) -> None:
    assert due(state, messages=messages, tokens=tokens) is trigger


def test_each_has_an_id_of_its_own() -> None:
    ids = [checkpoint_id(SESSION, number) for number in range(1, 1_000)]
    assert len(set(ids)) == len(ids)
    assert all(is_uuid(one) and one[14] == "8" and one[19] in "89ab" for one in ids)
    assert ids == [checkpoint_id(SESSION, number) for number in range(1, 1_000)]
