"""Inbound: the only door for messages from outside; nobody but the runtime comes through it as SYSTEM.

Source:
    trust.system.only_runtime, trust.routed.carries_provenance (02 §6).
"""

from __future__ import annotations

from typing import Protocol

from handshake.kernel.errors import NotFound, SystemProvenance
from handshake.kernel.ids import SessionId
from handshake.kernel.provenance import Attested, Incoming, Provenance, SystemRejected, let_in


class InboundRecords(Protocol):
    """What the door needs of the store."""

    async def attest(self, source: SessionId, content_sha256: str) -> Attested | None:
        """Return what is stored about a session whose words a message is said to be; None if there is none."""
        ...

    async def reject(self, incoming: Incoming) -> None:
        """Record that a message spoke as SYSTEM; durable when this returns."""
        ...


class Inbound:
    """Lets messages in with their provenance, or refuses them on the record."""

    def __init__(self, records: InboundRecords) -> None:
        self._records = records

    async def admit(self, incoming: Incoming) -> Provenance:
        """Return what the message is to be stored as.

        Raises:
            SystemProvenance: it speaks as SYSTEM; that is recorded, and nothing else of it.
            NotFound: it is said to come from a session that is not there.
            InvalidRequest: its role is none that an input can have.
        """
        source = incoming.source_session_id
        attested = None if source is None else await self._records.attest(source, incoming.content_sha256)
        verdict = let_in(incoming, attested)
        if isinstance(verdict, SystemRejected):
            await self._records.reject(incoming)
            raise SystemProvenance(channel=verdict.source_kind.value, content_hash=incoming.content_sha256)
        if source is not None and attested is None:
            raise NotFound(kind="session", session_id=source)
        return verdict
