"""Policy events: settings, localities and keys that a person changed, and guards that held (03 §7, §9)."""

from __future__ import annotations

import msgspec

from handshake.kernel.event import Payload, Retention, event
from handshake.kernel.fields import Name, Sha256, Token


@event("policy.changed", retention=Retention.AUDIT)
class PolicyChanged(Payload, frozen=True, kw_only=True):
    """An operator changed one key of the policy; a value that was or becomes unset is null."""

    from_: Name | None = msgspec.field(name="from")
    key: Token
    to: Name | None
    user_id: Name


@event("provider.locality_declared", retention=Retention.AUDIT)
class LocalityDeclared(Payload, frozen=True, kw_only=True):
    """An operator declared that a private address is run by them; the reason is kept as a hash."""

    note_sha256: Sha256
    origin: Name
    provider_id: Name


@event("key.created", retention=Retention.AUDIT)
class KeyCreated(Payload, frozen=True, kw_only=True):
    """A key for callers was made."""

    key_id: Token
    kind: Token
    policy_sha256: Sha256


@event("key.revoked", retention=Retention.AUDIT)
class KeyRevoked(Payload, frozen=True, kw_only=True):
    """A key for callers was taken back."""

    key_id: Token
    kind: Token
    policy_sha256: Sha256


@event("security_violation", retention=Retention.AUDIT)
class SecurityViolation(Payload, frozen=True, kw_only=True):
    """A guard met what must not happen and acted."""

    action_taken: Token
    guard_name: Token
    trigger: Token
    violation_type: Token
