"""Provenance: what the store knows of where messages come from, and what it keeps of those that are let in."""

from __future__ import annotations

import msgspec

from handshake.gate.inbound import Inbound
from handshake.kernel.catalogue import SystemInjectionRejected, TurnTainted
from handshake.kernel.event import Actor, Context
from handshake.kernel.ids import MessageId, SessionId, TurnId, is_uuid
from handshake.kernel.message import SourceKind
from handshake.kernel.provenance import Attested, Incoming, Provenance
from handshake.kernel.section import MAX_NAME_CHARS
from handshake.ports.store import Reader, Store, Tx


class Source(msgspec.Struct, frozen=True):
    """The session that a message came from."""

    session_id: SessionId
    role: str


def door(store: Store) -> Inbound:
    """Return the door for messages from outside, on the records of `store`."""
    return Inbound(InboundStore(store))


def source_of(reader: Reader, message_id: MessageId) -> Source | None:
    """Return the session that a message came from; None if it came from none."""
    row = reader.row("message_source_get", {"message_id": message_id})
    return None if row is None else Source(SessionId(str(row[0])), str(row[1]))


class InboundStore:
    """The records of `gate.inbound`, in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def attest(self, source: SessionId, content_sha256: str) -> Attested | None:
        """Return what is stored about a session whose words a message is said to be; None if there is none."""
        return await self._store.read(lambda reader: attest(reader, source, content_sha256))

    async def reject(self, incoming: Incoming) -> None:
        """Record that a message spoke as SYSTEM; durable when this returns."""
        await self._store.write(lambda tx: reject(tx, incoming))


def attest(reader: Reader, source: SessionId, content_sha256: str) -> Attested | None:
    """Return what a session's thread says of bytes that are said to come from it, or None if there is no session."""
    row = reader.row("session_role", {"session_id": source}) if is_uuid(source) else None
    if row is None:
        return None
    said = reader.row("message_said", {"session_id": source, "content_hash": content_sha256})
    seq = None if said is None else said[0]
    tainted = reader.row("message_untrusted_before", {"session_id": source, "seq": seq})
    return Attested(role=str(row[0]), is_said=seq is not None, is_tainted=tainted is not None)


def reject(tx: Tx, incoming: Incoming) -> None:
    """Record that a message from outside spoke as SYSTEM; its content is not kept."""
    named, source = incoming.session_id, incoming.source_session_id
    known = named is not None and is_uuid(named) and tx.row("session_role", {"session_id": named}) is not None
    tx.append(
        SystemInjectionRejected(
            content_hash=incoming.content_sha256,
            session_id=named if known else None,
            source_id=_named(incoming.source_id),
            source_kind=incoming.channel.value,
            source_session_id=source if source is not None and is_uuid(source) else None,
        ),
        Context(actor=Actor.SYSTEM, model_session_id=named if known else None),
    )


def keep(
    tx: Tx, context: Context, provenance: Provenance, *, message_id: MessageId, turn_id: TurnId, content_hash: str
) -> None:
    """Keep where a message comes from, and tell it if it taints its turn; a step of the unit that appends it.

    Source:
        trust.routed.carries_provenance (01 §3, 02 §6).
    """
    if provenance.source_session_id is not None:
        tx.run(
            "message_source_insert",
            {
                "message_id": message_id,
                "source_session_id": provenance.source_session_id,
                "source_role": provenance.source_role or "",
            },
        )
    if not provenance.trusted:
        taint(
            tx,
            context,
            message_id=message_id,
            turn_id=turn_id,
            content_hash=content_hash,
            source_kind=provenance.source_kind,
            source_session_id=provenance.source_session_id,
        )


def taint(
    tx: Tx,
    context: Context,
    *,
    message_id: MessageId,
    turn_id: TurnId,
    content_hash: str,
    source_kind: SourceKind,
    source_session_id: SessionId | None = None,
) -> None:
    """Tell that a message brought untrusted content into the turn of `context`'s session."""
    tx.append(
        TurnTainted(
            content_hash=content_hash,
            message_id=message_id,
            session_id=context.model_session_id or "",
            source_kind=source_kind.value,
            source_session_id=source_session_id,
            turn_id=turn_id,
        ),
        context,
    )


def _named(source_id: str | None) -> str | None:
    """Return what a sender is called if an event can hold it; what it cannot must not keep the event away."""
    return source_id if source_id and len(source_id) <= MAX_NAME_CHARS and source_id.isprintable() else None
