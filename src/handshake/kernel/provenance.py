"""Provenance: what a message from outside becomes here, by the way it came and by what the runtime itself can attest.

Only the runtime speaks as SYSTEM. Whether content is trusted is never what its sender says.

Source:
    trust.system.only_runtime, trust.routed.carries_provenance, trust.flag.not_believed (02 §6, TRUST-001, TRUST-002).
"""

from __future__ import annotations

import unicodedata
from enum import StrEnum

import msgspec

from handshake.kernel.errors import InvalidRequest
from handshake.kernel.ids import SessionId
from handshake.kernel.message import MessageRole, SourceKind

MAX_ROLE_CHARS = 64
"""A role as a sender writes it; a longer one is none."""


class Channel(StrEnum):
    """The way by which a message came."""

    API = "api"
    GATEWAY = "gateway"
    MCP = "mcp"
    TOOL = "tool"
    MAILBOX = "mailbox"
    SESSION = "session"


class Incoming(msgspec.Struct, frozen=True, kw_only=True):
    """A message as it comes from outside the runtime."""

    channel: Channel
    role: str
    """As its sender wrote it."""
    content_sha256: str
    """Of the bytes that came."""
    session_id: SessionId | None
    """Where it is to go."""
    is_operator: bool = False
    """Whether the operator's own credential sent it."""
    source_session_id: SessionId | None = None
    """The session whose words it is said to be."""
    source_id: str | None = None
    """Server, tool, key or thread that it came from, as a token."""
    claims_trust: bool | None = None
    """What its sender says of it; nothing follows from that."""


class Attested(msgspec.Struct, frozen=True, kw_only=True):
    """What the runtime's own records say of a session that a message is said to come from."""

    role: str
    """The role of that session."""
    is_said: bool
    """Whether exactly these bytes stand in its thread, as its input or its answer."""
    is_tainted: bool
    """Whether untrusted content was before the model when they were said."""


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """What a message that was let in is, as the runtime stores it."""

    role: MessageRole
    source_kind: SourceKind
    trusted: bool
    source_session_id: SessionId | None = None
    source_role: str | None = None


class SystemRejected(msgspec.Struct, frozen=True):
    """A message that spoke as SYSTEM from outside."""

    source_kind: Channel


_SYSTEM = frozenset({"system", "developer"})
_INPUT = frozenset({"user"})
_KINDS = {
    Channel.API: SourceKind.CLIENT,
    Channel.GATEWAY: SourceKind.CLIENT,
    Channel.MCP: SourceKind.MCP,
    Channel.TOOL: SourceKind.TOOL,
    Channel.MAILBOX: SourceKind.MAILBOX,
    Channel.SESSION: SourceKind.SESSION,
}


def let_in(incoming: Incoming, attested: Attested | None = None) -> Provenance | SystemRejected:
    """Return what a message becomes, or that it is refused because it speaks as SYSTEM.

    A gateway client's own instructions are let in as such, below the runtime's: never as SYSTEM.

    Args:
        incoming: the message.
        attested: what the runtime's records say of its source session; None if it names none that is known.

    Raises:
        InvalidRequest: the role is none that an input can have.
    """
    role = _spelled(incoming.role)
    if role in _SYSTEM:
        if incoming.channel is Channel.GATEWAY:
            return Provenance(role=MessageRole.USER, source_kind=SourceKind.CLIENT_INSTRUCTIONS, trusted=True)
        return SystemRejected(incoming.channel)
    if role not in _INPUT:
        raise InvalidRequest(field="role", reason="not_an_input", hint="send the text as USER")
    if incoming.source_session_id is not None:
        return _routed(incoming.source_session_id, attested)
    if incoming.is_operator and incoming.channel is Channel.API:
        return Provenance(role=MessageRole.USER, source_kind=SourceKind.OPERATOR, trusted=True)
    return Provenance(
        role=MessageRole.USER,
        source_kind=_KINDS[incoming.channel],
        # A client with a key gives its session its task; what is untrusted is what reaches a session besides that.
        trusted=incoming.channel in (Channel.API, Channel.GATEWAY),
    )


def _routed(source: SessionId, attested: Attested | None) -> Provenance:
    return Provenance(
        role=MessageRole.USER,
        source_kind=SourceKind.SESSION,
        trusted=attested is not None and attested.is_said and not attested.is_tainted,
        source_session_id=source,
        source_role=None if attested is None else attested.role,
    )


def _spelled(role: str) -> str:
    """Return a role in the form in which look-alikes of one word are that word."""
    folded = unicodedata.normalize("NFKC", role[:MAX_ROLE_CHARS]).casefold()
    return "".join(char for char in folded if char.isalpha())
