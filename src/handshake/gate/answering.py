"""Answering: what came of a call, as outcomes for the records and as HTC-1.0 responses for whoever asked.

Source:
    gate.envelope.validated_both_ways, gate.redaction.before_hash, gate.payload.limit (02 §3, §4).
"""

from __future__ import annotations

from typing import Any

import msgspec

from handshake.gate.tool_records import CallOutcome
from handshake.kernel.asked_call import AskedCall
from handshake.kernel.canonical import canonical_body
from handshake.kernel.catalogue.tools import ToolFaultKind
from handshake.kernel.errors import HandshakeError, InvalidRequest
from handshake.kernel.htc import CallError, CallResources, CallTiming, ToolResponse
from handshake.kernel.ids import is_sha256
from handshake.kernel.judgement import FAULTS, MISSING_CAPABILITY, Reason, Verdict
from handshake.kernel.moment import rfc3339
from handshake.kernel.redaction import KnownValues
from handshake.kernel.settings import MAX_INLINE_PAYLOAD_BYTES, MAX_TOOL_PAYLOAD_BYTES
from handshake.kernel.tool_registry import RegisteredTool
from handshake.kernel.units import US_PER_MS
from handshake.ports.tool import ToolFailed, ToolResult, Touched

MAX_MESSAGE_CHARS = 2_000
"""What a caller is told of one error."""
MAX_ARTIFACTS = 64
MAX_FILES = 1_000
MAX_URLS = 64
MAX_URL_CHARS = 2_000
MAX_PATH_CHARS = 4_096
"""What a response tells of a call's resources; its evidence counts all of them."""
_MAX_CODE_CHARS = 64
CUT = CallError(
    code="canceled", kind=ToolFaultKind.CANCELED, message="The call was cancelled.", retryable=False, details={}
)
"""What stands for a call that was cut."""
_ERROR = msgspec.json.Encoder(order="sorted")


def redacted(tool: RegisteredTool, result: ToolResult, known: KnownValues, duration_ms: int) -> CallOutcome:
    """Return the outcome of a call that gave something: its result if that is JSON, of its bounds and its schema."""
    try:
        whole = canonical_body(result.value)
    except InvalidRequest:
        return _unfit("output_invalid", "The tool's result is no JSON.", result, duration_ms)
    if len(whole) > MAX_TOOL_PAYLOAD_BYTES:
        return _unfit("output_too_large", "The tool's result is too large.", result, duration_ms)
    misfit = tool.output_check.misfit(result.value)
    if misfit is not None:
        return _unfit("output_invalid", "The tool's result does not fit its schema.", result, duration_ms)
    shown = known.clean(whole)
    if shown is not whole and not _still_fits(tool, shown):
        return _unfit("output_unredactable", "A known secret stands across parts of the result.", result, duration_ms)
    is_trusted = result.is_trusted is True and tool.definition.output_trust.value == "trusted"
    return CallOutcome(result=shown, error=None, touched=result.touched, is_trusted=is_trusted, duration_ms=duration_ms)


def failed(broken: ToolFailed, duration_ms: int) -> CallOutcome:
    """Return the outcome of a call that had no result."""
    kind = ToolFaultKind.TIMEOUT if broken.is_timeout else ToolFaultKind.TOOL
    error = CallError(
        code=_code(broken.code), kind=kind, message=_sentence(broken.sentence), retryable=broken.retryable, details={}
    )
    return CallOutcome(result=None, error=error, touched=broken.touched, is_trusted=False, duration_ms=duration_ms)


def canceled(duration_ms: int) -> CallOutcome:
    """Return the outcome of a call that was cut."""
    return CallOutcome(result=None, error=CUT, touched=Touched(), is_trusted=False, duration_ms=duration_ms)


def late() -> CallOutcome:
    """Return the outcome of a call about which the decision came too late, so that it was not carried out."""
    fault = FAULTS[Reason.GATE_TIMEOUT]
    error = CallError(
        code=fault.code,
        kind=fault.kind,
        message=fault.sentence,
        retryable=fault.retryable,
        details={"reason": Reason.GATE_TIMEOUT.value},
    )
    return CallOutcome(result=None, error=error, touched=Touched(), is_trusted=False, duration_ms=0)


def refusal(verdict: Verdict) -> CallError:
    """Return what a caller is told of a call that may not be, or not yet."""
    fault = verdict.fault or MISSING_CAPABILITY
    details: dict[str, Any] = {"reason": str(verdict.reason)}
    if fault is MISSING_CAPABILITY:
        details |= {"missing": list(verdict.missing), "held": list(verdict.held)}
    if verdict.approval_id is not None:
        details["approval_id"] = verdict.approval_id
    if verdict.findings:
        details["arguments"] = list(dict.fromkeys(one.pointer for one in verdict.findings))[:MAX_ARTIFACTS]
    said = verdict.refusal
    if said is not None and said.pointer:
        details["pointer"] = said.pointer
    sentence = fault.sentence if said is None or not said.sentence else f"{fault.sentence} {said.sentence}"
    return CallError(
        code=fault.code, kind=fault.kind, message=_sentence(sentence), retryable=fault.retryable, details=details
    )


def error_bytes(error: CallError) -> bytes:
    """Return an error as it is stored."""
    return _ERROR.encode(error)


def read_error(data: bytes) -> CallError:
    """Return the error that `error_bytes` wrote."""
    return msgspec.json.decode(data, type=CallError)


def response(
    asked: AskedCall,
    *,
    started_at_us: int,
    duration_ms: int = 0,
    result: bytes | None = None,
    result_ref: str | None = None,
    error: CallError | None = None,
    touched: Touched | None = None,
) -> ToolResponse:
    """Return the response to a call: a result, where it is too large its reference, or an error.

    Args:
        asked: the call.
        started_at_us: when it began, or was decided about.
        duration_ms: how long it took.
        result: the canonical result.
        result_ref: the artifact that holds it.
        error: why there is none.
        touched: what the call touched.
    """
    content: dict[str, Any] = {}
    if error is not None:
        content["error"] = error
    elif result is not None and (result_ref is None or len(result) <= MAX_INLINE_PAYLOAD_BYTES):
        content["result"] = msgspec.json.decode(result)
    else:
        content["result_ref"] = result_ref
    ended_at_us = started_at_us + duration_ms * US_PER_MS
    return ToolResponse(
        tool_call_id=asked.tool_call_id,
        trace_id=asked.trace_id,
        ok=error is None,
        timing=CallTiming(started_at=rfc3339(started_at_us), ended_at=rfc3339(ended_at_us), duration_ms=duration_ms),
        resources=_resources(touched or Touched(), result_ref),
        **content,
    )


def undecided(asked: AskedCall, broken: Exception, now_us: int) -> ToolResponse:
    """Return the response to a call about which nothing could be recorded, so that it was not carried out."""
    fault = FAULTS[Reason.POLICY_UNREADABLE]
    code = broken.code if isinstance(broken, HandshakeError) else fault.code
    error = CallError(
        code=code,
        kind=fault.kind,
        message=fault.sentence,
        retryable=False,
        details={"reason": Reason.POLICY_UNREADABLE.value},
    )
    return response(asked, started_at_us=now_us, error=error)


def _resources(touched: Touched, result_ref: str | None) -> CallResources:
    artifacts = [one for one in touched.artifacts if is_sha256(one)]
    if result_ref is not None:
        artifacts.append(result_ref)
    return CallResources(
        artifacts=tuple(dict.fromkeys(artifacts))[:MAX_ARTIFACTS],
        files=tuple(one[:MAX_PATH_CHARS] for one in touched.files[:MAX_FILES]),
        urls=tuple(one[:MAX_URL_CHARS] for one in touched.urls[:MAX_URLS]),
    )


def _unfit(code: str, sentence: str, result: ToolResult, duration_ms: int) -> CallOutcome:
    return failed(ToolFailed(code, sentence, touched=result.touched), duration_ms)


def _still_fits(tool: RegisteredTool, data: bytes) -> bool:
    """Return whether a result is one without its secrets, too: one may have stood across several of its parts."""
    try:
        return tool.output_check.misfit(msgspec.json.decode(data)) is None
    except (msgspec.MsgspecError, UnicodeError):
        return False


def _code(code: str) -> str:
    plain = "".join(one if one.isascii() and (one.isalnum() or one in "_.:/-") else "_" for one in code)
    return plain[:_MAX_CODE_CHARS] if plain[:1].isalnum() else "tool_failed"


def _sentence(text: str) -> str:
    return text[:MAX_MESSAGE_CHARS].encode(errors="replace").decode() or "The tool failed."
