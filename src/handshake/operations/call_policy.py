"""Call policy: what grants, approvals and relaxations that are stored say of a session.

Source:
    capability.session.intersection, capability.explain.equals_gate (02 §1, §3).
"""

from __future__ import annotations

from handshake.kernel.asked_call import AskedCall
from handshake.kernel.authority import Authority
from handshake.kernel.ids import SessionId
from handshake.kernel.settings import AutomationLevel, PolicySettings
from handshake.kernel.tool import Risk
from handshake.operations import debug_scopes, grants
from handshake.operations.authorities import Authorities
from handshake.ports.store import Reader


class StoredPolicy:
    """The rules of a workspace and the rows of its sessions."""

    def __init__(self, policy: PolicySettings) -> None:
        self._authorities = Authorities(policy)
        self.is_locked = policy.automation_level is AutomationLevel.LOCKED

    def authority(self, reader: Reader, session_id: SessionId) -> Authority:
        """Return what the session may do now, in all layers."""
        return self._authorities.of(reader, session_id)

    def approval(self, reader: Reader, asked: AskedCall, *, now_us: int) -> str | None:
        """Return the id of an unexpired, unspent approval of exactly this call in this session, or None."""
        found = grants.call_approval(reader, SessionId(asked.session_id or ""), asked.call_sha256, now_us=now_us)
        return None if found is None else found.approval_id

    def relaxed(self, reader: Reader, session_id: SessionId, *, now_us: int) -> frozenset[Risk]:
        """Return the risks for which an operator's debug relaxation leaves out the questions of policy."""
        return debug_scopes.relaxed(reader, session_id, now_us=now_us)
