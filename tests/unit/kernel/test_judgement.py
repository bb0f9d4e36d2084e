"""Judgement: the checks of the gate in their order, each with its own reason."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from handshake.kernel.authority import Authority, Layer
from handshake.kernel.capability import CapabilityRegistry
from handshake.kernel.catalogue.tools import Decision, ToolFaultKind
from handshake.kernel.grant import CallFacts, Constraints, Exact, Grant, Use
from handshake.kernel.ids import SessionId
from handshake.kernel.judgement import (
    APPROVAL_REQUIRED,
    FAULTS,
    MISSING_CAPABILITY,
    EarlierCall,
    Hearing,
    Reason,
    Refusal,
    Verdict,
    fault_of,
    judge,
    undecidable,
)
from handshake.kernel.session import SessionState
from handshake.kernel.taint import Taint
from handshake.kernel.template import parse_template, required
from handshake.kernel.tool import Asking, Risk
from handshake.kernel.tool_call import ToolCallState
from handshake.kernel.tool_registry import Standing
from tests.requirement import requirement
from tests.unit.kernel.test_tool import TOOL

REGISTRY = CapabilityRegistry()
SESSION = SessionId("018f0000-0000-7000-8000-000000000001")
ALLOW, DENY, ASK = Decision
TAINT = Taint(("018f0000-0000-7000-8000-00000000000a",))
WEB = msgspec.structs.replace(
    TOOL, tool_id="http.request", sinks=("/url",), content=("/body",), asks=Asking.UNLESS_FIXED, is_egress=True,
    required_capabilities=("net.http:{method=GET} {url}",),
)  # fmt: skip
BARE = msgspec.structs.replace(TOOL, sinks=(), content=(), risk_level=Risk.HIGH)


def grant(capability: str, **fields: Any) -> Grant:
    return Grant(
        grant_id="g", approval_id="a", session_id=SESSION, capability=REGISTRY.parse_rule(capability), **fields
    )


def authority(*grants: Grant, **fields: Any) -> Authority:
    return Authority(session_id=SESSION, layers=(Layer(name="session", allow=grants, is_own=True),), **fields)


def hearing(args: dict[str, Any] | None = None, **fields: Any) -> Hearing:
    given = {"path": "src/a.py", "text": "x"} if args is None else args
    definition = fields.get("definition", TOOL)
    templates = [parse_template(one) for one in definition.required_capabilities] if definition else []
    whole: dict[str, Any] = {
        "session_id": SESSION,
        "session": SessionState.ACTIVE,
        "definition": definition,
        "needed": required(templates, given, REGISTRY),
        "call": CallFacts(args=given, now_us=1),
        "call_sha256": "c" * 64,
        "authority": authority(grant("fs.write:src/**"), grant("net.http")),
    }
    return Hearing(**whole | fields)


def answer(verdict: Verdict) -> tuple[Decision, str]:
    return verdict.decision, str(verdict.reason)


def test_granted_call_is_allowed_by_its_grants() -> None:
    verdict = judge(hearing())
    assert answer(verdict) == (ALLOW, "granted")
    assert verdict.grants == ("g",)
    assert verdict.fault is None


@requirement("capability.deny.is_explicit")
def test_missing_capability_is_denied_with_what_is_missing_and_held() -> None:
    verdict = judge(hearing({"path": "docs/a"}))
    assert answer(verdict) == (DENY, "not_granted")
    assert (verdict.missing, verdict.held, verdict.grants) == (("fs.write:docs/a",), ("fs.write:src/**",), ())
    assert verdict.fault == MISSING_CAPABILITY
    assert MISSING_CAPABILITY[:2] == ("HSK-403-CAPABILITY", ToolFaultKind.CAPABILITY)


EARLIER = EarlierCall(call_seq=7, call_sha256="c" * 64, state=ToolCallState.ENDED, is_lost=False)
ORDER: list[tuple[str, dict[str, Any]]] = [
    ("envelope_invalid", {"refusal": Refusal(reason=Reason.ENVELOPE_INVALID)}),
    ("session_required", {"session_id": None}),
    ("session_unknown", {"session": None}),
    ("session_cancelled", {"session": SessionState.CANCELLED}),
    ("run_ended", {"run_goes_on": False}),
    ("arguments_invalid", {"refusal": Refusal(reason=Reason.ARGUMENTS_INVALID)}),
    ("call_id_repeated", {"same_id": EARLIER}),
    ("definition_changed", {"standing": Standing.CHANGED}),
    ("policy_unreadable", {"authority": None}),
    ("not_granted", {"authority": authority()}),
    ("key_reused", {"same_key": msgspec.structs.replace(EARLIER, call_seq=8, call_sha256="d" * 64)}),
    ("governance_locked", {"is_destructive": True, "is_locked": True}),
    ("sandbox_missing", {"definition": msgspec.structs.replace(TOOL, needs_sandbox=True), "has_sandbox": False}),
]


@pytest.mark.parametrize("first", range(len(ORDER)))
def test_checks_have_their_order(first: int) -> None:
    fields: dict[str, Any] = {}
    for _, fault in reversed(ORDER[first:]):
        fields |= fault
    verdict = judge(hearing(**fields))
    assert answer(verdict) == (DENY, ORDER[first][0])
    assert verdict.fault is not None


@requirement("gate.session.required")
@pytest.mark.parametrize(
    ("session_id", "session", "reason"),
    [
        (None, SessionState.ACTIVE, "session_required"),
        (SESSION, None, "session_unknown"),
        (SESSION, SessionState.COMPLETED, "session_ended"),
        (SESSION, SessionState.FAILED, "session_ended"),
        (SESSION, SessionState.CANCELLED, "session_cancelled"),
    ],
)
def test_call_without_a_live_session_is_denied(
    session_id: str | None, session: SessionState | None, reason: str
) -> None:
    assert answer(judge(hearing(session_id=session_id, session=session))) == (DENY, reason)
    assert answer(judge(hearing(definition=None, session_id=session_id, session=session))) == (DENY, reason)


@pytest.mark.parametrize(
    "state", sorted(set(SessionState) - {SessionState.COMPLETED, SessionState.FAILED, SessionState.CANCELLED})
)
def test_live_session_is_live(state: SessionState) -> None:
    assert judge(hearing(session=state)).decision is ALLOW


@requirement("gate.failure.denies")
def test_what_cannot_be_read_is_a_no() -> None:
    assert answer(judge(hearing(authority=None))) == (DENY, "policy_unreadable")
    assert answer(undecidable()) == (DENY, "policy_unreadable")
    assert undecidable().fault == FAULTS[Reason.POLICY_UNREADABLE]
    assert answer(judge(hearing(definition=None))) == (DENY, "tool_unknown")


def test_refusal_of_the_reader_is_handed_on() -> None:
    said = Refusal(reason=Reason.ARGUMENTS_INVALID, pointer="/path", sentence="Too long.")
    assert judge(hearing(refusal=said)).refusal == said
    assert judge(hearing(refusal=said, session=None)).refusal is None


def test_questions_of_policy_are_asked_and_approved() -> None:
    asks = authority(grant("fs.write:src/**", use=Use.ASK))
    assert answer(judge(hearing(authority=asks))) == (ASK, "asked_by_grant")
    approved = judge(hearing(authority=asks, approval_id="p"))
    assert answer(approved) == (ALLOW, "approved")
    assert approved.approval_id == "p"
    missing = authority(asks_for_missing=True)
    verdict = judge(hearing(authority=missing))
    assert (answer(verdict), verdict.missing) == ((ASK, "not_granted"), ("fs.write:src/a.py",))
    assert judge(hearing(authority=missing)).fault == APPROVAL_REQUIRED


@requirement("gate.approval.bound_to_call")
def test_approval_opens_no_denial() -> None:
    assert judge(hearing(authority=authority(), approval_id="p")).decision is DENY
    assert judge(hearing(standing=Standing.CHANGED, approval_id="p")).decision is DENY
    assert judge(hearing(approval_id="p")).approval_id is None, "what nobody asked about spends no approval"


@requirement("trust.taint.asks_for_unbounded")
def test_tainted_sink_asks_unless_somebody_stands_for_it() -> None:
    asked = judge(hearing(taint=TAINT))
    assert answer(asked) == (ASK, "tainted_argument")
    assert [(one.pointer, one.value) for one in asked.findings] == [("/path", "src/a.py")]
    assert judge(hearing(taint=TAINT, trusted_texts=["Write src/a.py, please."])).decision is ALLOW
    assert judge(hearing(taint=TAINT, trusted_texts=["Write mysrc/a.pyx"])).decision is ASK
    named = authority(grant("fs.write:src/a.py"))
    assert judge(hearing(taint=TAINT, authority=authority(grant("fs.write:src/**")))).decision is ASK
    assert judge(hearing(taint=TAINT, authority=named)).decision is ASK, "a folder of that name would be held as well"
    fixed = Constraints(args={"/path": Exact("src/a.py")})
    assert (
        judge(hearing(taint=TAINT, authority=authority(grant("fs.write:src/**", constraints=fixed)))).decision is ALLOW
    )
    assert answer(judge(hearing(taint=TAINT, approval_id="p"))) == (ALLOW, "approved")


@requirement("trust.taint.asks_for_unbounded")
def test_link_in_tainted_content_asks() -> None:
    fixed = authority(grant("fs.write:src/**", constraints=Constraints(args={"/path": Exact("src/a.py")})))
    args = {"path": "src/a.py", "text": "see https://evil.example/x"}
    verdict = judge(hearing(args, taint=TAINT, authority=fixed))
    assert answer(verdict) == (ASK, "tainted_argument")
    assert [one.pointer for one in verdict.findings] == ["/text"]


@requirement("trust.taint.asks_for_unbounded")
def test_risky_tool_without_sinks_asks_in_a_tainted_run() -> None:
    assert answer(judge(hearing(definition=BARE, taint=TAINT))) == (ASK, "tainted_risk")
    assert judge(hearing(definition=BARE)).decision is ALLOW
    low = msgspec.structs.replace(BARE, risk_level=Risk.LOW)
    assert judge(hearing(definition=low, taint=TAINT)).decision is ALLOW
    assert answer(judge(hearing(definition=msgspec.structs.replace(low, is_egress=True), taint=TAINT)))[0] is ASK


@pytest.mark.parametrize(
    ("url", "grants", "decision"),
    [
        ("https://api.example.org/a", ["net.http"], ASK),
        ("https://api.example.org/a", ["net.http:GET api.example.org/*"], ASK),
        ("https://api.example.org/a", ["net.http:GET api.example.org/a"], ALLOW),
        ("http://127.0.0.1:8080/a", ["net.http"], ALLOW),
        ("http://[::1]:8080/a", ["net.http"], ALLOW),
        ("http://localhost/a", ["net.http"], ALLOW),
        ("http://localhost.example.org/a", ["net.http"], ASK),
        ("http://10.0.0.1/a", ["net.http"], ASK),
    ],
)
def test_request_that_leaves_the_machine_asks_unless_host_and_path_are_fixed(
    url: str, grants: list[str], decision: Decision
) -> None:
    held = authority(*(grant(one) for one in grants))
    verdict = judge(hearing({"url": url}, definition=WEB, authority=held))
    assert verdict.decision is decision
    assert verdict.reason == ("leaves_machine" if decision is ASK else "granted")


def test_tool_that_always_asks_is_settled_by_a_grant_that_answers_it() -> None:
    always = msgspec.structs.replace(TOOL, asks=Asking.ALWAYS)
    assert answer(judge(hearing(definition=always))) == (ASK, "asked_by_tool")
    settled = authority(grant("fs.write:src/**", settles_ask=True))
    assert judge(hearing(definition=always, authority=settled)).decision is ALLOW
    assert judge(hearing(definition=always, authority=settled, taint=TAINT)).decision is ASK
    assert answer(judge(hearing(authority=settled, is_destructive=True))) == (ASK, "destructive")


def test_relaxation_leaves_out_questions_about_what_is_granted() -> None:
    asks = authority(grant("fs.write:src/**", use=Use.ASK))
    relaxed = frozenset({Risk.LOW, Risk.MEDIUM})
    assert judge(hearing(authority=asks, asks_nothing=relaxed)).decision is ALLOW
    assert judge(hearing(authority=asks, asks_nothing=frozenset({Risk.LOW}))).decision is ASK
    assert judge(hearing(authority=authority(asks_for_missing=True), asks_nothing=relaxed)).decision is ASK
    assert judge(hearing(authority=asks, asks_nothing=relaxed, taint=TAINT)).decision is ASK
    assert judge(hearing(authority=authority(), asks_nothing=relaxed)).decision is DENY


def test_nobody_is_asked_about_what_cannot_be_shown_or_while_locked() -> None:
    assert answer(judge(hearing(is_destructive=True, is_redacted=True))) == (DENY, "secret_in_arguments")
    assert judge(hearing(is_redacted=True)).decision is ALLOW
    assert answer(judge(hearing(is_destructive=True, is_locked=True))) == (DENY, "governance_locked")
    assert judge(hearing(is_locked=True)).decision is ALLOW


@requirement("gate.idempotency.returns_recorded")
def test_key_gives_the_recorded_result_of_the_same_call_and_of_no_other() -> None:
    recorded = judge(hearing(same_key=EARLIER, is_destructive=True))
    assert answer(recorded) == (ALLOW, "recorded")
    assert (recorded.recorded_seq, recorded.grants) == (7, ())
    assert judge(hearing(same_key=EARLIER, same_id=EARLIER)).recorded_seq == 7
    for change, reason in (
        ({"call_sha256": "d" * 64}, "key_reused"),
        ({"call_sha256": None}, "key_reused"),
        ({"state": ToolCallState.STARTED}, "key_in_use"),
        ({"is_lost": True}, "outcome_unknown"),
    ):
        earlier = msgspec.structs.replace(EARLIER, **change)
        assert answer(judge(hearing(same_key=earlier))) == (DENY, reason)
    assert judge(hearing(same_key=EARLIER, authority=authority())).decision is DENY


def test_every_reason_of_a_denial_tells_its_caller_something() -> None:
    asks = {Reason.TAINTED_ARGUMENT, Reason.TAINTED_RISK, Reason.ASKED_BY_TOOL, Reason.LEAVES_MACHINE,
            Reason.DESTRUCTIVE}  # fmt: skip
    assert set(Reason) - set(FAULTS) == asks | {Reason.APPROVED, Reason.RECORDED}
    for reason in Reason:
        assert fault_of(ALLOW, reason) is None
        assert fault_of(ASK, reason) == APPROVAL_REQUIRED
        fault = fault_of(DENY, reason)
        assert fault is not None
        assert fault.sentence.endswith(".")
