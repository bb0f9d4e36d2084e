"""Declarations: what the configuration declares about providers, told to the log once per change.

Source:
    03 §7 (`provider.locality_declared`).
"""

from __future__ import annotations

import hashlib

import msgspec

from handshake.kernel.catalogue import LocalityDeclared
from handshake.kernel.event import Actor, Context
from handshake.ports.store import Tx


class Declaration(msgspec.Struct, frozen=True):
    """An operator's word that a private address is run by them; the reason itself is never stored."""

    provider_id: str
    origin: str
    note: str


def declare(tx: Tx, declarations: tuple[Declaration, ...]) -> int:
    """Tell the log every declaration that it does not know yet in this form; return how many were told."""
    told = 0
    for one in declarations:
        note_sha256 = hashlib.sha256(one.note.encode()).hexdigest()
        subject = f"provider.locality:{one.provider_id}"
        digest = hashlib.sha256(f"{one.origin}\n{note_sha256}".encode()).hexdigest()
        known = tx.row("declaration_get", {"subject": subject})
        if known is not None and known[0] == digest:
            continue
        tx.run("declaration_put", {"subject": subject, "sha256": digest, "at_us": tx.now_us})
        payload = LocalityDeclared(note_sha256=note_sha256, origin=one.origin, provider_id=one.provider_id)
        tx.append(payload, Context(actor=Actor.HUMAN))
        told += 1
    return told
