"""Mailbox: threads and messages between roles, the closed tables by which they move, and what a draft must bring.

A message is advice: nothing here, and nothing that stores it, changes what a session may do or what has authority.

Source:
    mailbox.transition.table, mailbox.transcription.required, mailbox.idempotency (04 §6).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from handshake.kernel.catalogue.mailbox import MailboxMessageType
from handshake.kernel.errors import InvalidRequest, InvalidTransition, StateConflict
from handshake.kernel.fields import Id, Name, Sha256, Token
from handshake.kernel.ids import uuid5
from handshake.kernel.settings import MAX_MAILBOX_LINKS, MAX_MAILBOX_REFERENCES


class MailboxKind(StrEnum):
    """What a mailbox is for; roles write to each other in COLLAB."""

    COLLAB = "COLLAB"
    MAIL = "MAIL"
    TASK_INTAKE = "TASK_INTAKE"
    SYSTEM = "SYSTEM"


class ThreadState(StrEnum):
    """Where a thread stands."""

    OPEN = "Open"
    AWAITING_RESPONSE = "AwaitingResponse"
    WAITING_ON_LINKED_AUTHORITY = "WaitingOnLinkedAuthority"
    ESCALATED = "Escalated"
    RESOLVED = "Resolved"
    EXPIRED = "Expired"
    ARCHIVED = "Archived"


class DeliveryState(StrEnum):
    """Where a message stands."""

    QUEUED = "Queued"
    DELIVERED = "Delivered"
    ACKNOWLEDGED = "Acknowledged"
    REPLIED = "Replied"
    IGNORED = "Ignored"
    FAILED = "Failed"
    DEAD_LETTERED = "DeadLettered"


_T, _D, _M = ThreadState, DeliveryState, MailboxMessageType
_CLOSING = frozenset({_T.ESCALATED, _T.RESOLVED, _T.EXPIRED, _T.ARCHIVED})

THREAD_TRANSITIONS: dict[ThreadState, frozenset[ThreadState]] = {
    _T.OPEN: frozenset({_T.AWAITING_RESPONSE}) | _CLOSING,
    _T.AWAITING_RESPONSE: frozenset({_T.OPEN, _T.WAITING_ON_LINKED_AUTHORITY}) | _CLOSING,
    _T.WAITING_ON_LINKED_AUTHORITY: frozenset({_T.AWAITING_RESPONSE}) | _CLOSING,
    _T.ESCALATED: frozenset({_T.RESOLVED, _T.EXPIRED, _T.ARCHIVED}),
    _T.RESOLVED: frozenset({_T.ARCHIVED}),
    _T.EXPIRED: frozenset({_T.ARCHIVED}),
    _T.ARCHIVED: frozenset(),
}
"""Every move a thread may make."""

DELIVERY_TRANSITIONS: dict[DeliveryState, frozenset[DeliveryState]] = {
    _D.QUEUED: frozenset({_D.DELIVERED, _D.FAILED, _D.DEAD_LETTERED}),
    _D.DELIVERED: frozenset({_D.ACKNOWLEDGED, _D.REPLIED, _D.IGNORED, _D.FAILED, _D.DEAD_LETTERED}),
    _D.ACKNOWLEDGED: frozenset({_D.REPLIED}),
    _D.REPLIED: frozenset(),
    _D.IGNORED: frozenset(),
    _D.FAILED: frozenset({_D.DEAD_LETTERED}),
    _D.DEAD_LETTERED: frozenset(),
}
"""Every move a message may make."""

CLOSED = frozenset({_T.RESOLVED, _T.EXPIRED, _T.ARCHIVED})
"""Threads that take no more messages."""
WAITING = frozenset({_D.QUEUED, _D.DELIVERED})
"""Messages of which nobody has taken note; a role can have only so many."""
TRANSCRIBED = frozenset({_M.SCOPE_CHANGE_APPROVAL, _M.WAIVER_APPROVAL, _M.VALIDATION_FINDING})
"""Types that say what only another record can decide: they must name that record."""
ASKING = frozenset(
    {
        _M.CLARIFICATION_REQUEST,
        _M.DECISION_REQUEST,
        _M.DELEGATE_WORK,
        _M.MICRO_TASK_REQUEST,
        _M.MICRO_TASK_VERIFICATION_NEEDED,
        _M.REVIEW_REQUEST,
        _M.SCOPE_CHANGE_PROPOSAL,
        _M.TOOLING_REQUEST,
        _M.WAIVER_PROPOSAL,
    }
)
"""Types after which the thread awaits an answer of those whom they go to."""
ESCALATING = frozenset({_M.ESCALATION_REQUEST, _M.MICRO_TASK_ESCALATION})
"""Types that escalate their thread."""
RUNTIME_ONLY = frozenset({_M.SESSION_ANNOUNCE_BACK})
"""Types that nobody but the runtime sends: it alone knows how a session ended."""


class TranscriptionLink(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The record that has authority for what a message says."""

    target_kind: Token
    target_ref: Name
    target_sha256: Sha256


class ThreadContext(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The work that a thread is about."""

    spec_id: Name | None = None
    work_packet_id: Name | None = None
    task_board_id: Name | None = None
    project_id: Name | None = None


Links = Annotated[tuple[TranscriptionLink, ...], Meta(max_length=MAX_MAILBOX_LINKS)]
Attachments = Annotated[tuple[Sha256, ...], Meta(max_length=MAX_MAILBOX_REFERENCES)]
Receivers = Annotated[tuple[Token, ...], Meta(min_length=1, max_length=MAX_MAILBOX_REFERENCES)]


class Draft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message as its sender asks for it; who sends it is not for a sender to say.

    Without `thread_id` it begins a thread, which then needs a subject. Times are microseconds since 1970.
    """

    message_type: MailboxMessageType
    to_roles: Receivers
    idempotency_key: Name
    thread_id: Id | None = None
    subject: Name | None = None
    context: ThreadContext = ThreadContext()
    relates_to_message_id: Id | None = None
    attachments: Attachments = ()
    transcription_links: Links = ()
    expires_at_us: int | None = None
    escalation_at_us: int | None = None


class Sender(msgspec.Struct, frozen=True, kw_only=True):
    """Who sends, as the runtime knows it: a person without a session, or a session with its role."""

    role: str
    session_id: str | None = None
    trusted: bool = True
    """Whether no untrusted content was before the model that wrote."""
    wp_id: str | None = None
    mt_id: str | None = None


class Thread(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A thread (04 §6). `context` is canonical JSON; times are microseconds since 1970."""

    thread_seq: int
    thread_id: str
    mailbox_kind: MailboxKind
    subject: str
    context: str
    governance_mode: str
    participants: str
    """Roles as a JSON array in order, as are `awaiting_from_roles`."""
    lifecycle_state: ThreadState
    awaiting_from_roles: str
    messages: int
    created_at_us: int
    expires_at_us: int | None
    escalation_at_us: int | None
    closed_at_us: int | None


class MailboxMessage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message (04 §6); `seq` is its place in its thread. What it says lies in an artifact only."""

    thread_id: str
    seq: int
    message_id: str
    created_at_us: int
    from_role: str
    from_session_id: str | None
    trusted: bool
    to_roles: str
    message_type: MailboxMessageType
    delivery_state: DeliveryState
    body_ref: str
    body_sha256: str
    attachments: str
    relates_to_message_id: str | None
    transcription_links: str
    action_request: str | None
    idempotency_key: str


def message_id(workspace_id: str, sender: Sender, idempotency_key: str) -> str:
    """Return the id of the message that a sender sends under a key: the same key gives the same message."""
    return uuid5(workspace_id, f"mailbox_message\n{sender.session_id or sender.role}\n{idempotency_key}")


def new_thread_id(workspace_id: str, first_message_id: str) -> str:
    """Return the id of the thread that a message begins."""
    return uuid5(workspace_id, f"mailbox_thread\n{first_message_id}")


def check_draft(draft: Draft) -> None:
    """Refuse a draft that no record could be made of.

    Raises:
        InvalidRequest: the context names the field.
    """
    if draft.message_type in RUNTIME_ONLY:
        raise InvalidRequest(field="message_type", reason="only_the_runtime")
    if draft.message_type in TRANSCRIBED and not draft.transcription_links:
        hint = "name the record that decides it: target_kind, target_ref and target_sha256"
        raise InvalidRequest(field="transcription_links", reason="required", type=draft.message_type.value, hint=hint)
    if len(set(draft.to_roles)) != len(draft.to_roles):
        raise InvalidRequest(field="to_roles", reason="twice_the_same")
    if draft.thread_id is None and draft.subject is None:
        raise InvalidRequest(field="subject", reason="required", hint="a new thread has a subject")
    if draft.thread_id is not None and any((draft.subject, draft.expires_at_us, draft.escalation_at_us)):
        raise InvalidRequest(field="thread_id", reason="exists_already", hint="a thread keeps what it began with")
    for name in ("idempotency_key", "subject"):
        if not (getattr(draft, name) or "x").isprintable():
            raise InvalidRequest(field=name, reason="not_one_line")


def move_thread(thread_id: str, before: ThreadState, after: ThreadState) -> ThreadState:
    """Return `after` if the table has the move from `before`.

    Raises:
        InvalidTransition: the table does not have it.
    """
    if after not in THREAD_TRANSITIONS[before]:
        raise InvalidTransition(thread_id=thread_id, from_state=before.value, to_state=after.value)
    return after


def move_message(message_id: str, before: DeliveryState, after: DeliveryState) -> DeliveryState:
    """Return `after` if the table has the move from `before`.

    Raises:
        InvalidTransition: the table does not have it.
    """
    if after not in DELIVERY_TRANSITIONS[before]:
        raise InvalidTransition(message_id=message_id, from_state=before.value, to_state=after.value)
    return after


def state_after(
    thread_id: str, state: ThreadState, awaiting: Sequence[str], draft: Draft, from_role: str
) -> tuple[ThreadState, tuple[str, ...]]:
    """Return where a thread stands after one more message, and of whom it then awaits an answer.

    A role that writes has answered. What waits for a linked authority, or was escalated, does so until somebody moves
    it on.

    Raises:
        StateConflict: the thread takes no more messages.
    """
    if state in CLOSED:
        raise StateConflict(thread_id=thread_id, reason="thread_closed", state=state.value, hint="begin another thread")
    left = set(awaiting) - {from_role}
    if draft.message_type in ASKING:
        left |= set(draft.to_roles) - {from_role}
    wanted = state
    if draft.message_type in ESCALATING:
        wanted = _T.ESCALATED
    elif state in (_T.OPEN, _T.AWAITING_RESPONSE):
        wanted = _T.AWAITING_RESPONSE if left else _T.OPEN
    after = state if wanted is state else move_thread(thread_id, state, wanted)
    return after, tuple(sorted(left))
