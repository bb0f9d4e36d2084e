"""Granted policy: grants and approvals as they are stored, for gates without a desk: questions are only kept."""

from __future__ import annotations

from handshake.kernel.asked_call import AskedCall
from handshake.kernel.errors import StateConflict
from handshake.kernel.judgement import Verdict
from handshake.kernel.settings import PolicySettings
from handshake.operations import grants
from handshake.operations.call_policy import StoredPolicy
from handshake.ports.store import Tx
from handshake.testing.plain_policy import question_id


class GrantedPolicy(StoredPolicy):
    """The rows of sessions under a policy; by default one that says nothing."""

    def __init__(self, policy: PolicySettings | None = None) -> None:
        super().__init__(policy or PolicySettings())
        self.questions: list[tuple[AskedCall, Verdict]] = []

    def spend(self, tx: Tx, asked: AskedCall, verdict: Verdict) -> None:
        """Count one use of the grants that carry a call, and use up the approval that let it pass."""
        grants.count_use(tx, verdict.grants, bytes_=len(asked.shown or b""), amount=asked.amount)
        if verdict.approval_id is not None and not grants.use_approval(tx, verdict.approval_id):
            raise StateConflict(approval_id=verdict.approval_id, reason="approval_used")

    def ask(self, tx: Tx, asked: AskedCall, verdict: Verdict) -> str:
        """Keep the question; its id is made of the call's hash."""
        self.questions.append((asked, verdict))
        return question_id(asked.call_sha256)
