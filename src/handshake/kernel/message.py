"""Message: one entry of a session's thread; its content lives only in an artifact."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from handshake.kernel.errors import InvalidRequest, TooLarge
from handshake.kernel.ids import ArtifactId, JobId, MessageId, SessionId, is_sha256
from handshake.kernel.settings import MAX_MESSAGE_BYTES


class MessageRole(StrEnum):
    """Who speaks in a message."""

    SYSTEM = "SYSTEM"
    USER = "USER"
    ASSISTANT = "ASSISTANT"
    TOOL_CALL = "TOOL_CALL"
    TOOL_RESULT = "TOOL_RESULT"


class SourceKind(StrEnum):
    """Where a message came from, as the runtime knows it, never as a client claims it."""

    OPERATOR = "operator"
    MODEL = "model"
    RUNTIME = "runtime"
    SESSION = "session"
    MAILBOX = "mailbox"
    MCP = "mcp"
    TOOL = "tool"
    CLIENT = "client"
    CLIENT_INSTRUCTIONS = "client_instructions"


class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A row of a thread (01 §3); `seq` is dense per session, `timestamp_us` microseconds since 1970."""

    session_id: SessionId
    seq: int
    message_id: MessageId
    turn_id: str
    turn_seq: int
    job_id: JobId | None
    role: MessageRole
    content_hash: str
    content_artifact_id: ArtifactId
    content_bytes: int
    timestamp_us: int
    token_count: int | None
    redacted: bool
    source_kind: SourceKind
    trusted: bool


def encode_text(text: str) -> bytes:
    """Return the bytes of a message, or refuse it.

    Raises:
        InvalidRequest: empty, or not encodable as UTF-8 (a lone surrogate).
        TooLarge: more than `MAX_MESSAGE_BYTES`.
    """
    if not text:
        raise InvalidRequest(field="text", reason="empty")
    if len(text) > MAX_MESSAGE_BYTES:
        raise TooLarge(field="text", limit_bytes=MAX_MESSAGE_BYTES)
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as broken:
        raise InvalidRequest(field="text", reason="lone_surrogate", position=broken.start) from broken
    if len(data) > MAX_MESSAGE_BYTES:
        raise TooLarge(field="text", limit_bytes=MAX_MESSAGE_BYTES, given_bytes=len(data))
    return data


def require_hash(claimed: str | None, content_hash: str) -> None:
    """Refuse content of which its sender says another hash; None says nothing.

    Args:
        claimed: what the sender says.
        content_hash: SHA-256 of the bytes that came, in lower-case hex.

    Raises:
        InvalidRequest: the hash is malformed, or that of other bytes.

    Source:
        message.content.hash_is_verified (01 §3).
    """
    if claimed is None or claimed == content_hash:
        return
    reason = "of_other_content" if is_sha256(claimed) else "not_a_sha256"
    raise InvalidRequest(field="content_hash", reason=reason, content_hash=content_hash)
