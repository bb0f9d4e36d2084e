"""Session events: a session's life, its messages and its budget (06 §3, 01 §2–3)."""

from __future__ import annotations

from enum import StrEnum

from handshake.kernel.budget import BudgetScope, BudgetType
from handshake.kernel.event import Payload, Retention, event
from handshake.kernel.fields import Count, Id, Name, Sha256, Token, Usd
from handshake.kernel.job import Backend
from handshake.kernel.message import MessageRole
from handshake.kernel.session import MemoryPolicy, SessionState


class EndStatus(StrEnum):
    """The terminal state in which a session ended."""

    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


@event("session.created", fr_id="FR-EVT-SESS-001", retention=Retention.RUN)
class SessionCreated(Payload, frozen=True, kw_only=True):
    """A session was created; what it is bound to never changes afterwards."""

    backend: Backend
    memory_policy: MemoryPolicy
    model_id: Name
    mt_id: Name | None
    role: Token
    session_id: Id
    spawn_depth: Count
    wp_id: Name | None


@event("session.state_change", fr_id="FR-EVT-SESS-002", retention=Retention.RUN)
class SessionStateChange(Payload, frozen=True, kw_only=True):
    """A session's derived state changed, and no other event of the same commit tells it."""

    from_state: SessionState
    reason: Token
    session_id: Id
    to_state: SessionState


@event("session.completed", fr_id="FR-EVT-SESS-003", retention=Retention.RUN)
class SessionCompleted(Payload, frozen=True, kw_only=True):
    """A session ended, with its sums; the cost is null where a price is unknown."""

    duration_ms: Count
    messages_count: Count
    session_id: Id
    status: EndStatus
    total_cost_usd: Usd | None
    total_tokens: Count


@event("session.message", fr_id="FR-EVT-SESS-004", retention=Retention.RUN)
class SessionMessage(Payload, frozen=True, kw_only=True):
    """A message was appended to a session's thread; its content is the artifact."""

    content_artifact_id: Sha256
    content_hash: Sha256
    message_id: Id
    role: MessageRole
    session_id: Id
    source_kind: Token
    """`operator`, `model`, `runtime`, `client_instructions`, `session`, `tool`."""
    token_count: Count | None
    trusted: bool


@event("session.budget_warning", fr_id="FR-EVT-SESS-005", retention=Retention.RUN)
class SessionBudgetWarning(Payload, frozen=True, kw_only=True):
    """A budget that binds a session passed its warning threshold; values are in the unit of `budget_type`."""

    budget_type: BudgetType
    current_value: Count
    session_id: Id
    threshold_value: Count


@event("budget.paused", retention=Retention.RUN, in_session=False)
class BudgetPaused(Payload, frozen=True, kw_only=True):
    """A budget is used up and nothing more starts under it; values are in the unit of `budget_type`."""

    budget_scope: BudgetScope
    budget_type: BudgetType
    current_value: Count
    limit_value: Count
    session_id: Id | None = None
    wp_id: Name | None = None
