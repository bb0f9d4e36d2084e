"""Desk: an answer is bound to what was shown, and is given once."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import pytest

from handshake.kernel.desk import (
    SENTENCES,
    TRANSITIONS,
    DeskItem,
    DeskKind,
    DeskState,
    decide,
    require_shown,
    shown,
    shown_sha256,
)
from handshake.kernel.errors import InvalidTransition, StateConflict

ITEM = DeskItem(
    item_seq=1,
    item_id="018f0000-0000-7000-8000-000000000001",
    kind=DeskKind.RECOVERY,
    state=DeskState.WAITING,
    reason="may_have_left",
    session_id="018f0000-0000-7000-8000-000000000002",
    job_id="018f0000-0000-7000-8000-000000000003",
    attempts=2,
    provider_id="desk",
    model_id="tiny",
    backend="local",
    request_sha256="0" * 64,
    created_at_us=0,
    expires_at_us=7 * 86_400 * 1_000_000,
    decided_at_us=None,
    decided_by=None,
)


def test_what_is_shown_is_canonical_and_hashed() -> None:
    told = json.loads(shown(ITEM))
    assert list(told) == sorted(told)
    assert told["expires_at"] == "1970-01-08T00:00:00.000000Z"
    assert shown_sha256(ITEM) == hashlib.sha256(shown(ITEM)).hexdigest()
    require_shown(ITEM, shown_sha256(ITEM))


@pytest.mark.parametrize(
    "change",
    [
        {"reason": "policy"}, {"attempts": 3}, {"model_id": "other"}, {"backend": "cloud"},
        {"request_sha256": "1" * 64}, {"expires_at_us": 1}, {"job_id": ITEM.session_id},
    ],
)  # fmt: skip
def test_an_answer_to_something_else_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(StateConflict) as refused:
        require_shown(msgspec.structs.replace(ITEM, **change), shown_sha256(ITEM))
    assert refused.value.context["reason"] == "shown_differs"


def test_an_item_is_answered_once() -> None:
    for after in set(DeskState) - {DeskState.WAITING}:
        assert decide(ITEM, after) is after
        answered = msgspec.structs.replace(ITEM, state=after)
        for again in DeskState:
            with pytest.raises(InvalidTransition):
                decide(answered, again)


def test_the_tables_are_total() -> None:
    assert set(TRANSITIONS) == set(DeskState)
    assert set(SENTENCES) == set(DeskKind)
