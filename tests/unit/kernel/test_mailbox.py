"""Tests of the mailbox: the closed tables of threads and messages, what a draft must bring, and whose answer is due."""

from __future__ import annotations

import uuid
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handshake.kernel.catalogue.mailbox import MailboxMessageType
from handshake.kernel.errors import InvalidRequest, InvalidTransition, StateConflict
from handshake.kernel.ids import uuid5
from handshake.kernel.mailbox import (
    ASKING,
    CLOSED,
    DELIVERY_TRANSITIONS,
    ESCALATING,
    THREAD_TRANSITIONS,
    TRANSCRIBED,
    DeliveryState,
    Draft,
    Sender,
    ThreadState,
    TranscriptionLink,
    check_draft,
    message_id,
    move_message,
    move_thread,
    new_thread_id,
    state_after,
)

WORKSPACE = "018f0000-0000-7000-8000-000000000001"
SESSION = "018f0000-0000-7000-8000-000000000002"
LINK = TranscriptionLink(target_kind="work_packet", target_ref="WP-1", target_sha256="a" * 64)

THREADS = {
    "Open": "AwaitingResponse Escalated Resolved Expired Archived",
    "AwaitingResponse": "Open WaitingOnLinkedAuthority Escalated Resolved Expired Archived",
    "WaitingOnLinkedAuthority": "AwaitingResponse Escalated Resolved Expired Archived",
    "Escalated": "Resolved Expired Archived",
    "Resolved": "Archived",
    "Expired": "Archived",
    "Archived": "",
}
MESSAGES = {
    "Queued": "Delivered Failed DeadLettered",
    "Delivered": "Acknowledged Replied Ignored Failed DeadLettered",
    "Acknowledged": "Replied",
    "Replied": "",
    "Ignored": "",
    "Failed": "DeadLettered",
    "DeadLettered": "",
}
"""04 §6, word for word."""


def draft(message_type: MailboxMessageType = MailboxMessageType.FYI, **others: Any) -> Draft:
    """Return a draft that begins a thread."""
    return Draft(
        **{"message_type": message_type, "to_roles": ("coder",), "idempotency_key": "k", "subject": "s"} | others
    )


def test_the_tables_are_those_of_the_specification() -> None:
    assert {one: set(after.split()) for one, after in THREADS.items()} == {
        state.value: {one.value for one in targets} for state, targets in THREAD_TRANSITIONS.items()
    }
    assert {one: set(after.split()) for one, after in MESSAGES.items()} == {
        state.value: {one.value for one in targets} for state, targets in DELIVERY_TRANSITIONS.items()
    }


@pytest.mark.parametrize(("before", "after"), list(product(ThreadState, ThreadState)))
def test_a_thread_moves_only_by_its_table(before: ThreadState, after: ThreadState) -> None:
    if after.value in THREADS[before.value].split():
        assert move_thread("t", before, after) is after
        return
    with pytest.raises(InvalidTransition) as refused:
        move_thread("t", before, after)
    assert refused.value.context == {"thread_id": "t", "from_state": before.value, "to_state": after.value}


@pytest.mark.parametrize(("before", "after"), list(product(DeliveryState, DeliveryState)))
def test_a_message_moves_only_by_its_table(before: DeliveryState, after: DeliveryState) -> None:
    if after.value in MESSAGES[before.value].split():
        assert move_message("m", before, after) is after
        return
    with pytest.raises(InvalidTransition) as refused:
        move_message("m", before, after)
    assert refused.value.context == {"message_id": "m", "from_state": before.value, "to_state": after.value}


@pytest.mark.parametrize("kind", MailboxMessageType)
def test_approvals_and_findings_name_the_record_that_decides(kind: MailboxMessageType) -> None:
    must = {"ScopeChangeApproval", "WaiverApproval", "ValidationFinding"}
    assert (kind in TRANSCRIBED) is (kind.value in must)
    if kind is MailboxMessageType.SESSION_ANNOUNCE_BACK:
        with pytest.raises(InvalidRequest, match="only_the_runtime"):
            check_draft(draft(kind, transcription_links=(LINK,)))
        return
    if kind.value in must:
        with pytest.raises(InvalidRequest) as refused:
            check_draft(draft(kind))
        assert refused.value.context["field"] == "transcription_links"
    check_draft(draft(kind, transcription_links=(LINK,)))


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"subject": None}, "subject"),
        ({"subject": "two\nlines"}, "subject"),
        ({"idempotency_key": "a\x1bb"}, "idempotency_key"),
        ({"to_roles": ("coder", "coder")}, "to_roles"),
        ({"thread_id": SESSION}, "thread_id"),
        ({"thread_id": SESSION, "subject": None, "expires_at_us": 1}, "thread_id"),
    ],
)
def test_a_draft_of_which_no_record_can_be_made_is_refused(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_draft(draft(**wrong))
    assert refused.value.context["field"] == field


@pytest.mark.parametrize("state", ThreadState)
@pytest.mark.parametrize("kind", MailboxMessageType)
def test_a_message_moves_its_thread_by_the_table_alone(state: ThreadState, kind: MailboxMessageType) -> None:
    if state in CLOSED:
        with pytest.raises(StateConflict, match="thread_closed"):
            state_after("t", state, (), draft(kind), "validator")
        return
    before = ("validator",) if state is ThreadState.AWAITING_RESPONSE else ()
    if state is ThreadState.ESCALATED and kind in ESCALATING:
        assert state_after("t", state, before, draft(kind), "validator")[0] is state
        return
    after, awaiting = state_after("t", state, before, draft(kind), "validator")
    assert after is state or after in THREAD_TRANSITIONS[state]
    assert awaiting == (("coder",) if kind in ASKING else ())
    if state in (ThreadState.OPEN, ThreadState.AWAITING_RESPONSE) and kind not in ESCALATING:
        assert (after is ThreadState.AWAITING_RESPONSE) is bool(awaiting)


def test_nobody_awaits_an_answer_of_himself_and_others_stay_awaited() -> None:
    asking = draft(MailboxMessageType.REVIEW_REQUEST, to_roles=("coder", "validator"))
    state, awaiting = state_after("t", ThreadState.OPEN, (), asking, "coder")
    assert (state, awaiting) == (ThreadState.AWAITING_RESPONSE, ("validator",))
    assert state_after("t", state, awaiting, draft(), "operator") == (state, awaiting)


def test_ids_follow_from_sender_and_key() -> None:
    person, session = Sender(role="coder"), Sender(role="coder", session_id=SESSION)
    made = {message_id(WORKSPACE, one, key) for one in (person, session) for key in ("a", "b")}
    assert len(made) == 4
    assert message_id(WORKSPACE, session, "a") in made
    assert len({new_thread_id(WORKSPACE, one) for one in made} | made) == 8


@given(st.uuids(), st.text(st.characters(exclude_categories=["Cs"])))
def test_the_id_of_a_name_is_that_of_the_standard_library(namespace: uuid.UUID, name: str) -> None:
    assert uuid5(str(namespace), name) == str(uuid.uuid5(namespace, name))
