"""Plain policy: what a session may do, as a test says it, in the place of what other operations know."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from handshake.kernel.asked_call import AskedCall
from handshake.kernel.authority import Authority, Layer
from handshake.kernel.capability import Capability, CapabilityRegistry
from handshake.kernel.grant import Constraints, Grant, Use
from handshake.kernel.ids import SessionId
from handshake.kernel.judgement import Verdict
from handshake.kernel.tool import Risk
from handshake.ports.store import Reader, Tx


def question_id(call_sha256: str) -> str:
    """Return the id of the question about a call."""
    one = call_sha256
    return f"{one[:8]}-{one[8:12]}-7{one[13:16]}-8{one[17:20]}-{one[20:32]}"


class PlainPolicy:
    """Grants, rules and approvals in memory; a unit that runs twice counts twice, as a test may see."""

    def __init__(self) -> None:
        self.registry = CapabilityRegistry()
        self.grants: dict[str, list[Grant]] = {}
        self.denied: tuple[Capability, ...] = ()
        self.asks_for_missing = False
        self.is_locked = False
        self.risks: frozenset[Risk] = frozenset()
        self.approved: dict[tuple[str, str], str] = {}
        """Approvals by session and call."""
        self.questions: list[tuple[AskedCall, Verdict]] = []
        self.spent: list[Verdict] = []
        self.broken: Exception | None = None
        """What reading the authority raises."""

    def grant(
        self, session_id: str, *capabilities: str, use: Use = Use.ALLOW, constraints: Constraints | None = None
    ) -> None:
        """Give a session capabilities."""
        for text in capabilities:
            held = self.grants.setdefault(session_id, [])
            held.append(
                Grant(
                    grant_id=f"grant-{len(held)}",
                    approval_id="approval",
                    session_id=SessionId(session_id),
                    capability=self.registry.parse_rule(text),
                    use=use,
                    constraints=constraints or Constraints(),
                )
            )

    def revoke(self, session_id: str) -> None:
        """Take everything back from a session."""
        self.grants.pop(session_id, None)

    def approve(self, asked: AskedCall, approval_id: str) -> None:
        """Let exactly this call pass once."""
        self.approved[asked.session_id or "", asked.call_sha256] = approval_id

    def authority(self, reader: Reader, session_id: SessionId) -> Authority:
        """Return what was given."""
        if self.broken is not None:
            raise self.broken
        own = Layer(name="session", allow=tuple(self.grants.get(session_id, ())), is_own=True, deny=self.denied)
        return Authority(session_id=session_id, layers=(own,), asks_for_missing=self.asks_for_missing)

    def approval(self, reader: Reader, asked: AskedCall, *, now_us: int) -> str | None:
        """Return the approval of the call, if it was given and not used."""
        return self.approved.get((asked.session_id or "", asked.call_sha256))

    def relaxed(self, reader: Reader, session_id: SessionId, *, now_us: int) -> frozenset[Risk]:
        """Return the risks that a test left out."""
        return self.risks

    def spend(self, tx: Tx, asked: AskedCall, verdict: Verdict) -> None:
        """Count one use of each grant, and take the approval away."""
        self.spent.append(verdict)
        held: Sequence[Grant] = self.grants.get(asked.session_id or "", [])
        self.grants[asked.session_id or ""] = [
            msgspec.structs.replace(
                one, uses=one.uses + 1, bytes=one.bytes + len(asked.shown or b""), amount=one.amount + asked.amount
            )
            if one.grant_id in verdict.grants
            else one
            for one in held
        ]
        if verdict.approval_id is not None:
            del self.approved[asked.session_id or "", asked.call_sha256]

    def ask(self, tx: Tx, asked: AskedCall, verdict: Verdict) -> str:
        """Keep the question; its id is made of the call's hash."""
        self.questions.append((asked, verdict))
        return question_id(asked.call_sha256)
