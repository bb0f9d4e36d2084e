"""Tool events: every call that met the Tool Gate, and every question of capability (02 §1–4)."""

from __future__ import annotations

from enum import StrEnum

from handshake.kernel.catalogue.lists import Names, Refs
from handshake.kernel.event import Actor, Payload, Retention, event
from handshake.kernel.fields import Count, Id, Name, Sha256, Timestamp, Token


class Decision(StrEnum):
    """What the gate answered."""

    ALLOW = "allow"
    DENY = "deny"
    ASK = "ask"


class Transport(StrEnum):
    """The way by which a tool call came."""

    LOCAL = "local"
    MCP = "mcp"
    GATEWAY = "gateway"
    STAGE = "stage"
    OTHER = "other"


class ToolExecutor(StrEnum):
    """Who executes a tool call."""

    RUNTIME = "runtime"
    CLIENT = "client"


class SideEffect(StrEnum):
    """What a tool may do to the world."""

    READ = "READ"
    WRITE = "WRITE"
    EXECUTE = "EXECUTE"


class ToolFaultKind(StrEnum):
    """What kind of error ended a tool call (HTC-1.0)."""

    VALIDATION = "validation"
    AUTH = "auth"
    CAPABILITY = "capability"
    TIMEOUT = "timeout"
    TOOL = "tool"
    TRANSPORT = "transport"
    CANCELED = "canceled"
    POLICY = "policy"


class ToolActor(Payload, frozen=True, kw_only=True):
    """Who asked for a tool call."""

    agent_id: Name | None = None
    kind: Actor
    model_id: Name | None = None


class ToolFault(Payload, frozen=True, kw_only=True):
    """The error of a tool call, without its message."""

    code: Token
    kind: ToolFaultKind
    retryable: bool


class ToolTiming(Payload, frozen=True, kw_only=True):
    """When a tool call ran."""

    duration_ms: Count
    ended_at: Timestamp
    started_at: Timestamp


class ToolResources(Payload, frozen=True, kw_only=True):
    """What a tool call touched: artifacts by hash, files and addresses by count only."""

    artifacts: Refs
    files_count: Count
    urls_count: Count


@event("tool_call", fr_id="FR-EVT-007", retention=Retention.RUN, in_session=False)
class ToolCall(Payload, frozen=True, kw_only=True):
    """A tool call was executed, denied or asked about; what an invalid envelope did not say is null."""

    actor: ToolActor
    approval_id: Id | None = None
    args_hash: Sha256 | None
    args_ref: Sha256 | None = None
    decision: Decision
    dry_run: bool
    error: ToolFault | None = None
    executed_by: ToolExecutor
    idempotency_key_sha256: Sha256 | None = None
    ok: bool
    resources: ToolResources | None = None
    restored_count: Count | None = None
    result_hash: Sha256 | None
    result_ref: Sha256 | None = None
    session_id: Id | None
    side_effect: SideEffect | None
    tainted: bool
    timing: ToolTiming
    tool_call_id: Name | None
    tool_id: Name | None
    tool_version: Name | None
    trace_id: Id | None
    transport: Transport


@event("capability.decision", retention=Retention.AUDIT)
class CapabilityDecision(Payload, frozen=True, kw_only=True):
    """The gate decided whether a session may use a capability."""

    actor_id: Name
    capability_id: Name
    capability_registry_version: Token
    decision_outcome: Decision
    missing: Names
    reason: Token
    session_id: Id
    tool_id: Name | None = None


@event("capability.granted", retention=Retention.AUDIT)
class CapabilityGranted(Payload, frozen=True, kw_only=True):
    """A person gave a session grants, by making it, by themselves, or by approving a call; long lists are cut."""

    approval_id: Id
    capabilities: Names
    capability_registry_version: Token
    grant_count: Count
    kind: Token
    lifetime: Token
    session_id: Id
    user_id: Name


@event("capability.revoked", retention=Retention.AUDIT)
class CapabilityRevoked(Payload, frozen=True, kw_only=True):
    """A person took back an approval with all that rests on it, or one grant."""

    approval_id: Id
    grant_id: Id | None
    session_id: Id
    user_id: Name
