"""Mailbox body: what a message between roles says, as `hsk.role_mailbox_body@0.5`; it is read, and it commands nobody.

Source:
    mailbox.body.matches_hash (04 §6).
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from handshake.kernel.canonical import canonical
from handshake.kernel.catalogue.mailbox import MailboxMessageType
from handshake.kernel.errors import InvalidRequest, TooLarge, Unredactable
from handshake.kernel.fields import Count, Name, Sha256, Timestamp, Token
from handshake.kernel.redaction import KnownValues
from handshake.kernel.settings import (
    MAX_MAILBOX_BODY_BYTES,
    MAX_MAILBOX_LINKS,
    MAX_MAILBOX_REFERENCES,
    MAX_MAILBOX_SUMMARY_CHARS,
    MAX_MAILBOX_TEXT_CHARS,
)
from handshake.kernel.strict_json import read_json

SCHEMA: Final = "hsk.role_mailbox_body@0.5"
MEDIA_TYPE = "application/json"

_PLACE = re.compile(r"at `\$\.?([a-z_]*)")


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a body: what is not in its schema is refused."""


class MicroTaskContext(_Part, frozen=True, kw_only=True):
    """The work that a message is about."""

    wp_id: Name | None = None
    mt_id: Name | None = None
    iteration: Count | None = None


class ExpectedResponse(_Part, frozen=True, kw_only=True):
    """The answer that the sender hopes for."""

    message_type: MailboxMessageType
    by: Timestamp | None = None


class ActionRequest(_Part, frozen=True, kw_only=True):
    """Something that the sender would have done; whoever does it needs the authority for it from elsewhere."""

    action: Token
    target_ref: Name | None = None
    due_at: Timestamp | None = None


class HandoffNote(_Part, frozen=True, kw_only=True):
    """Work that goes from one role to another, by reference."""

    to_role: Token
    wp_id: Name | None = None
    mt_id: Name | None = None
    artifacts: Annotated[tuple[Sha256, ...], Meta(max_length=MAX_MAILBOX_REFERENCES)] = ()


class Body(_Part, frozen=True, kw_only=True):
    """What a message says; larger things are artifacts that it names."""

    text: Annotated[str, Meta(min_length=1, max_length=MAX_MAILBOX_TEXT_CHARS)]
    schema: Literal["hsk.role_mailbox_body@0.5"] = SCHEMA
    summary: Annotated[str, Meta(max_length=MAX_MAILBOX_SUMMARY_CHARS)] = ""
    artifacts: Annotated[tuple[Sha256, ...], Meta(max_length=MAX_MAILBOX_REFERENCES)] = ()
    mt_context: MicroTaskContext | None = None
    expected_response: ExpectedResponse | None = None
    action_request: ActionRequest | None = None
    handoff: HandoffNote | None = None
    suggested_actions: Annotated[tuple[ActionRequest, ...], Meta(max_length=MAX_MAILBOX_LINKS)] = ()


def parse_body(value: object) -> Body:
    """Return the body that `value` describes: a `Body` that somebody made, or plain data.

    Raises:
        InvalidRequest: it does not fit the schema; the context names the part, never its content.
    """
    plain = msgspec.to_builtins(value) if isinstance(value, Body) else value
    try:
        return msgspec.convert(plain, Body)
    except msgspec.ValidationError as unfit:
        place = _PLACE.search(str(unfit))
        at = place[1] if place else ""
        raise InvalidRequest(field="body", reason="not_of_the_schema", at=at, schema=SCHEMA) from None


def body_bytes(body: Body, known: KnownValues) -> bytes:
    """Return the canonical bytes by whose hash a body is known.

    Args:
        body: what is said.
        known: secrets of this process, none of which may be in it.

    Raises:
        InvalidRequest: a text is not encodable.
        TooLarge: it is over `MAX_MAILBOX_BODY_BYTES`.
        Unredactable: a secret stands in it; it is not changed, because its hash is what others refer to.
    """
    data = canonical(msgspec.to_builtins(body))
    if len(data) > MAX_MAILBOX_BODY_BYTES:
        raise TooLarge(field="body", limit_bytes=MAX_MAILBOX_BODY_BYTES, given_bytes=len(data))
    if known.clean(data) != data:
        raise Unredactable(field="body", hint="take the secret out of the message; name what holds it")
    return data


def read_body(data: bytes) -> Body:
    """Return the body that an artifact holds.

    Raises:
        InvalidRequest, TooLarge: it holds none.
    """
    return parse_body(read_json(data, max_bytes=MAX_MAILBOX_BODY_BYTES))
