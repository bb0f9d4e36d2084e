"""Judgement: whether one tool call may be carried out, by the checks of the gate in their order, each with its reason.

Deny beats ask beats allow. What somebody approved is the exact call: an approval answers every question of it and no
denial. The same hearing has the same verdict, whatever the transport.

Source:
    gate.session.required, gate.approval.bound_to_call, gate.idempotency.returns_recorded,
    gate.decision.same_on_every_transport (02 §3, §6).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec

from handshake.kernel import authority as authorities
from handshake.kernel import http_scope
from handshake.kernel.authority import Authority, Outcome, Ruling
from handshake.kernel.capability import Axis
from handshake.kernel.catalogue.tools import Decision, ToolFaultKind
from handshake.kernel.errors import UnknownCapability
from handshake.kernel.grant import CallFacts
from handshake.kernel.locality import AddressKind, is_localhost, kind_of
from handshake.kernel.pointer import found, is_within
from handshake.kernel.session import TERMINAL, SessionState
from handshake.kernel.taint import Finding, Taint, unbounded_sinks
from handshake.kernel.template import Needed
from handshake.kernel.tool import Asking, Risk, ToolDefinition
from handshake.kernel.tool_call import ToolCallState
from handshake.kernel.tool_registry import Standing


class Fault(NamedTuple):
    """What a refusal is to its caller: the code and kind of HTC-1.0, and one sentence."""

    code: str
    kind: ToolFaultKind
    sentence: str
    retryable: bool = False


class Reason(StrEnum):
    """Why the gate refuses a call, asks about it or answers it from its records; rulings bring reasons of their own."""

    ENVELOPE_INVALID = "envelope_invalid"
    SESSION_REQUIRED = "session_required"
    SESSION_UNKNOWN = "session_unknown"
    SESSION_ENDED = "session_ended"
    SESSION_CANCELLED = "session_cancelled"
    RUN_ENDED = "run_ended"
    TOOL_UNKNOWN = "tool_unknown"
    TOOL_VERSION = "tool_version"
    ARGUMENTS_UNREADABLE = "arguments_unreadable"
    ARGUMENTS_INVALID = "arguments_invalid"
    ARGUMENTS_TOO_LARGE = "arguments_too_large"
    ARGUMENTS_UNKNOWN = "arguments_unknown"
    CALL_ID_REPEATED = "call_id_repeated"
    DEFINITION_NOT_APPROVED = "definition_not_approved"
    DEFINITION_CHANGED = "definition_changed"
    POLICY_UNREADABLE = "policy_unreadable"
    GATE_TIMEOUT = "gate_timeout"
    GOVERNANCE_LOCKED = "governance_locked"
    TAINTED_ARGUMENT = "tainted_argument"
    TAINTED_RISK = "tainted_risk"
    ASKED_BY_TOOL = "asked_by_tool"
    LEAVES_MACHINE = "leaves_machine"
    DESTRUCTIVE = "destructive"
    WRITE_SCOPE_HELD = "write_scope_held"
    SECRET_IN_ARGUMENTS = "secret_in_arguments"  # noqa: S105
    APPROVED = "approved"
    TOO_MANY_QUESTIONS = "too_many_questions"
    DENIED_BY_PERSON = "denied_by_person"
    APPROVAL_EXPIRED = "approval_expired"
    KEY_REUSED = "key_reused"
    KEY_IN_USE = "key_in_use"
    OUTCOME_UNKNOWN = "outcome_unknown"
    RECORDED = "recorded"
    SANDBOX_MISSING = "sandbox_missing"


_K = ToolFaultKind
FAULTS: Mapping[str, Fault] = {
    Reason.ENVELOPE_INVALID: Fault("VAL-HTC-001", _K.VALIDATION, "The envelope is not a valid HTC-1.0 request."),
    Reason.SESSION_REQUIRED: Fault("HSK-403-CAPABILITY", _K.AUTH, "A tool call needs a session."),
    Reason.SESSION_UNKNOWN: Fault("HSK-404-NOT-FOUND", _K.AUTH, "There is no such session."),
    Reason.SESSION_ENDED: Fault("HSK-409-CONFLICT", _K.AUTH, "The session has ended."),
    Reason.SESSION_CANCELLED: Fault("HSK-409-CONFLICT", _K.CANCELED, "The session is cancelled."),
    Reason.RUN_ENDED: Fault("HSK-409-CONFLICT", _K.CANCELED, "The run that asked for the call goes on no more."),
    Reason.TOOL_UNKNOWN: Fault("HSK-404-NOT-FOUND", _K.VALIDATION, "There is no such tool."),
    Reason.TOOL_VERSION: Fault("HSK-409-CONFLICT", _K.VALIDATION, "The tool has another version now."),
    Reason.ARGUMENTS_UNREADABLE: Fault("HSK-400-INVALID-REQUEST", _K.VALIDATION, "The arguments are no strict JSON."),
    Reason.ARGUMENTS_INVALID: Fault("HSK-400-INVALID-REQUEST", _K.VALIDATION, "The arguments do not fit the tool."),
    Reason.ARGUMENTS_TOO_LARGE: Fault(
        "HSK-413-TOO-LARGE", _K.VALIDATION, "The arguments are too large; longer ones go by args_ref."
    ),
    Reason.ARGUMENTS_UNKNOWN: Fault("HSK-404-NOT-FOUND", _K.VALIDATION, "args_ref names nothing of this session."),
    Reason.CALL_ID_REPEATED: Fault("HSK-409-CONFLICT", _K.VALIDATION, "The session has had a call of this id."),
    Reason.DEFINITION_NOT_APPROVED: Fault(
        "HSK-403-CAPABILITY", _K.POLICY, "Nobody has approved the tool's definition yet."
    ),
    Reason.DEFINITION_CHANGED: Fault(
        "HSK-403-CAPABILITY", _K.POLICY, "The tool's definition has changed since it was approved."
    ),
    Reason.POLICY_UNREADABLE: Fault("HSK-403-CAPABILITY", _K.POLICY, "What the session may do cannot be read."),
    Reason.GATE_TIMEOUT: Fault("HSK-403-CAPABILITY", _K.POLICY, "The decision took too long.", retryable=True),
    Reason.WRITE_SCOPE_HELD: Fault("CX-MM-002", _K.POLICY, "Another session holds the write scope.", retryable=True),
    Reason.SECRET_IN_ARGUMENTS: Fault(
        "HSK-403-UNREDACTABLE", _K.POLICY, "A known secret stands in arguments that a person would have to see."
    ),
    Reason.GOVERNANCE_LOCKED: Fault("HSK-403-GOVERNANCE-LOCKED", _K.POLICY, "Governance is locked: nobody is asked."),
    Reason.TOO_MANY_QUESTIONS: Fault(
        "HSK-429-RATE-LIMIT", _K.POLICY, "As many calls of the session wait for a person as may.", retryable=True
    ),
    Reason.DENIED_BY_PERSON: Fault("denied_by_person", _K.POLICY, "A person denied the call."),
    Reason.APPROVAL_EXPIRED: Fault("approval_expired", _K.POLICY, "Nobody answered in time whether the call may be."),
    Reason.KEY_REUSED: Fault(
        "HSK-409-CONFLICT", _K.VALIDATION, "The idempotency key belongs to a call with other arguments."
    ),
    Reason.KEY_IN_USE: Fault(
        "HSK-409-CONFLICT", _K.POLICY, "A call with this idempotency key has not ended.", retryable=True
    ),
    Reason.OUTCOME_UNKNOWN: Fault("outcome_unknown", _K.TOOL, "Nobody knows what came of the call."),
    Reason.SANDBOX_MISSING: Fault("HSK-403-CAPABILITY", _K.POLICY, "No sandbox of this machine passes its self-test."),
}
"""What a caller is told, by reason; every other denial is a missing capability."""

MISSING_CAPABILITY = Fault("HSK-403-CAPABILITY", _K.CAPABILITY, "A required capability is not granted.")
APPROVAL_REQUIRED = Fault("approval_required", _K.POLICY, "A person must approve the call first.", retryable=True)


def fault_of(decision: Decision, reason: str) -> Fault | None:
    """Return what a caller is told of a decision, or None of one that allows."""
    if decision is Decision.ALLOW:
        return None
    return APPROVAL_REQUIRED if decision is Decision.ASK else FAULTS.get(reason, MISSING_CAPABILITY)


class Refusal(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What was wrong with a call before anything of its session was looked at."""

    reason: Reason
    pointer: str | None = None
    """Where in the arguments."""
    sentence: str | None = None
    """More for the caller than the reason's own sentence; content, never evidence."""


class EarlierCall(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A call of the same session with the same id, or of the same tool with the same idempotency key."""

    call_seq: int
    call_sha256: str | None
    state: ToolCallState
    is_lost: bool
    """Whether it was started by a runtime that is no more, or ended without anybody knowing its outcome."""


class Hearing(msgspec.Struct, frozen=True, kw_only=True):
    """All that the gate knows of a call when it decides."""

    session_id: str | None
    session: SessionState | None
    """None: there is none of this id."""
    run_goes_on: bool = True
    """Whether the run that asked for the call is the one that the record names; true where none did."""
    refusal: Refusal | None = None
    definition: ToolDefinition | None = None
    """None only with a refusal."""
    standing: Standing = Standing.USABLE
    needed: Sequence[Needed] = ()
    call: CallFacts
    call_sha256: str
    is_redacted: bool = False
    """Whether a known secret stands in the arguments."""
    same_id: EarlierCall | None = None
    """Ended or started; one that waits to be carried out is the call itself."""
    same_key: EarlierCall | None = None
    authority: Authority | None
    """None: it cannot be read."""
    taint: Taint = Taint()
    trusted_texts: Sequence[str] = ()
    approval_id: str | None = None
    """Of an unexpired approval of exactly this call."""
    has_sandbox: bool = True
    is_destructive: bool = False
    """Whether it is a destructive command of a child or background session."""
    asks_nothing: frozenset[Risk] = frozenset()
    """Risks of which an operator's debug relaxation of this session leaves out the questions of policy."""
    is_locked: bool = False
    """Whether governance is locked, so that what would need a person is denied (03 §9)."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate decided, and on which grounds."""

    decision: Decision
    reason: str
    missing: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    grants: tuple[str, ...] = ()
    """Grants that carry the call, in every layer; uses are counted of them."""
    findings: tuple[Finding, ...] = ()
    """What of a tainted call nobody stands for."""
    approval_id: str | None = None
    """The approval that let it pass."""
    recorded_seq: int | None = None
    """The call whose recorded result is the answer."""
    refusal: Refusal | None = None

    @property
    def fault(self) -> Fault | None:
        """What the caller is told, or None if the call may be."""
        return fault_of(self.decision, self.reason)


def judge(hearing: Hearing) -> Verdict:
    """Return the gate's verdict about a call.

    Source:
        gate.session.required, capability.deny.is_explicit, trust.taint.asks_for_unbounded (02 §3).
    """
    reason = _hindrance(hearing)
    if reason is not None:
        return _denied(
            reason, refusal=hearing.refusal if hearing.refusal and hearing.refusal.reason is reason else None
        )
    assert hearing.definition is not None, "without one there is a refusal"
    if hearing.authority is None:
        return _denied(Reason.POLICY_UNREADABLE)
    ruling = authorities.decide(hearing.authority, [one.capability for one in hearing.needed], hearing.call)
    if ruling.outcome is Outcome.DENY:
        return _ruled(Decision.DENY, ruling, ruling.reason)
    recorded = _recorded(hearing, ruling)
    if recorded is not None:
        return recorded
    asked, findings = _question(hearing, hearing.definition, ruling)
    if asked is not None and hearing.approval_id is None:
        if hearing.is_locked:
            return _ruled(Decision.DENY, ruling, Reason.GOVERNANCE_LOCKED, findings)
        if hearing.is_redacted:
            return _ruled(Decision.DENY, ruling, Reason.SECRET_IN_ARGUMENTS, findings)
        return _ruled(Decision.ASK, ruling, asked, findings)
    if hearing.definition.needs_sandbox and not hearing.has_sandbox:
        return _ruled(Decision.DENY, ruling, Reason.SANDBOX_MISSING)
    if asked is None:
        return _ruled(Decision.ALLOW, ruling, ruling.reason)
    allowed = _ruled(Decision.ALLOW, ruling, Reason.APPROVED, findings)
    return msgspec.structs.replace(allowed, approval_id=hearing.approval_id)


def undecidable(reason: Reason = Reason.POLICY_UNREADABLE) -> Verdict:
    """Return the verdict where nothing could be decided: no answer means no."""
    return _denied(reason)


def _hindrance(hearing: Hearing) -> Reason | None:
    """Return the first thing that is wrong with the call itself, before anything is asked of authority."""
    for check in _CHECKS:
        reason = check(hearing)
        if reason is not None:
            return reason
    return None


def _of_session(hearing: Hearing) -> Reason | None:
    if hearing.refusal is not None and hearing.refusal.reason is Reason.ENVELOPE_INVALID:
        return Reason.ENVELOPE_INVALID
    if hearing.session_id is None:
        return Reason.SESSION_REQUIRED
    if hearing.session is None:
        return Reason.SESSION_UNKNOWN
    if hearing.session in TERMINAL:
        cancelled = hearing.session is SessionState.CANCELLED
        return Reason.SESSION_CANCELLED if cancelled else Reason.SESSION_ENDED
    return None if hearing.run_goes_on else Reason.RUN_ENDED


def _of_tool(hearing: Hearing) -> Reason | None:
    if hearing.refusal is not None:
        return hearing.refusal.reason
    return Reason.TOOL_UNKNOWN if hearing.definition is None else None


def _of_id(hearing: Hearing) -> Reason | None:
    same = hearing.same_id
    if same is None:
        return None
    is_repeat = hearing.same_key is not None and hearing.same_key.call_seq == same.call_seq
    return None if is_repeat else Reason.CALL_ID_REPEATED


def _of_definition(hearing: Hearing) -> Reason | None:
    return {
        Standing.USABLE: None,
        Standing.NOT_APPROVED: Reason.DEFINITION_NOT_APPROVED,
        Standing.CHANGED: Reason.DEFINITION_CHANGED,
    }[hearing.standing]


_CHECKS: tuple[Callable[[Hearing], Reason | None], ...] = (_of_session, _of_tool, _of_id, _of_definition)


def _recorded(hearing: Hearing, ruling: Ruling) -> Verdict | None:
    """Return the answer that an earlier call with the same key gives, or None if there was none.

    What was carried out is not asked about anew: its repeat has no effect.
    """
    same = hearing.same_key
    if same is None:
        return None
    if same.call_sha256 != hearing.call_sha256:
        return _ruled(Decision.DENY, ruling, Reason.KEY_REUSED)
    if same.is_lost:
        return _ruled(Decision.DENY, ruling, Reason.OUTCOME_UNKNOWN)
    if same.state is not ToolCallState.ENDED:
        return _ruled(Decision.DENY, ruling, Reason.KEY_IN_USE)
    known = _ruled(Decision.ALLOW, ruling, Reason.RECORDED)
    return msgspec.structs.replace(known, recorded_seq=same.call_seq, grants=())


def _question(hearing: Hearing, definition: ToolDefinition, ruling: Ruling) -> tuple[str | None, tuple[Finding, ...]]:
    """Return why a person must be asked, or None, and what of the arguments nobody stands for."""
    matters = bool(hearing.taint) or definition.asks is Asking.UNLESS_FIXED
    loose = _loose_sinks(hearing, definition, ruling) if matters else ()
    findings = _findings(hearing, definition, loose)
    if findings:
        return Reason.TAINTED_ARGUMENT, findings
    if hearing.is_destructive:
        return Reason.DESTRUCTIVE, ()
    if hearing.taint and not definition.sinks and (definition.is_egress or definition.risk_level is Risk.HIGH):
        return Reason.TAINTED_RISK, ()
    if ruling.is_settled:
        return None, ()
    if definition.asks is Asking.ALWAYS:
        return Reason.ASKED_BY_TOOL, ()
    if definition.asks is Asking.UNLESS_FIXED and loose and not _stays_here(hearing.needed):
        return Reason.LEAVES_MACHINE, ()
    is_relaxed = definition.risk_level in hearing.asks_nothing and not ruling.missing
    return (ruling.reason, ()) if ruling.outcome is Outcome.ASK and not is_relaxed else (None, ())


def _findings(hearing: Hearing, definition: ToolDefinition, loose: tuple[str, ...]) -> tuple[Finding, ...]:
    if not hearing.taint:
        return ()
    content = tuple(place for pointer in definition.content for place, _ in found(pointer, hearing.call.args))
    return unbounded_sinks(loose, content, hearing.call.args, fixed=frozenset(), trusted_texts=hearing.trusted_texts)


def _loose_sinks(hearing: Hearing, definition: ToolDefinition, ruling: Ruling) -> tuple[str, ...]:
    """Return the sinks that are in the call and that no grant fixes: neither by value, nor by naming the one thing."""
    named = {pointer for one in hearing.needed for pointer in one.pointers}
    general = {
        pointer for one in hearing.needed if str(one.capability) not in ruling.literal for pointer in one.pointers
    }
    return tuple(
        place
        for sink in definition.sinks
        if general.intersection(inner for inner in named if is_within(inner, sink))
        or not any(is_within(sink, outer) or is_within(outer, sink) for outer in named)
        for place, _ in found(sink, hearing.call.args)
        if not any(is_within(place, pointer) for pointer in ruling.fixed)
    )


def _stays_here(needed: Sequence[Needed]) -> bool:
    """Return whether every request that the call may make goes to this machine itself."""
    scopes = [one.capability.scope for one in needed if one.capability.axis == Axis.NET_HTTP]
    return bool(scopes) and all(scope is not None and _is_loopback(scope) for scope in scopes)


def _is_loopback(scope: str) -> bool:
    try:
        host = http_scope.parse(scope).host
    except UnknownCapability:
        return False
    return is_localhost(host) or kind_of(host) is AddressKind.LOOPBACK


def _denied(reason: Reason, *, refusal: Refusal | None = None) -> Verdict:
    return Verdict(decision=Decision.DENY, reason=reason, refusal=refusal)


def _ruled(decision: Decision, ruling: Ruling, reason: str, findings: tuple[Finding, ...] = ()) -> Verdict:
    return Verdict(
        decision=decision,
        reason=str(reason),
        missing=ruling.missing,
        held=ruling.held,
        grants=ruling.grants if decision is Decision.ALLOW else (),
        findings=findings,
    )
