"""Tool calls: asked for, decided about, begun and ended; each function is one step of a unit of work.

A call that is carried out commits twice: its start before the effect, its outcome after. Whatever is not carried out
is recorded by one.

Source:
    gate.event.on_every_path, gate.idempotency.returns_recorded (01 §4, 02 §3).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from handshake.gate import answering
from handshake.gate.tool_gate import Origin, Settle, Settled
from handshake.gate.tool_records import Begun, CallOutcome
from handshake.kernel.asked_call import AskedCall
from handshake.kernel.canonical import canonical_body
from handshake.kernel.catalogue.tools import Decision, SideEffect
from handshake.kernel.errors import IntegrityBroken
from handshake.kernel.event import Actor, Context
from handshake.kernel.htc import CallActor, CallError
from handshake.kernel.ids import ArtifactId, SessionId
from handshake.kernel.judgement import Reason, Verdict, undecidable
from handshake.kernel.section import MAX_NAME_CHARS
from handshake.kernel.settings import MAX_PAGE_ITEMS
from handshake.kernel.tool_call import ToolCallRecord, ToolCallState, move
from handshake.operations import records, tool_evidence, write_scopes
from handshake.operations.tool_hearing import CallPolicy, Heard, hear, record
from handshake.ports.store import Content, Reader, Tx

JSON = "application/json"


def request(tx: Tx, asked: AskedCall, content: Content | None, *, epoch: int) -> int:
    """Record that a run's model asked for a call, which the gate has not seen yet; return the call's number.

    Args:
        tx: the unit's transaction.
        asked: the call.
        content: what the model wrote as arguments, as an artifact.
        epoch: of this runtime.
    """
    if content is not None:
        tx.put(content)
    return tx.insert("tool_call_insert", _new(tx, asked) | _columns(asked, content, ToolCallState.REQUESTED, epoch))


def open_calls(reader: Reader, session_id: str, job_id: str | None = None) -> list[ToolCallRecord]:
    """Return the calls of a session, or of one of its runs, that have not ended, in the order in which they came."""
    found = {"session_id": session_id, "job_id": job_id, "limit": MAX_PAGE_ITEMS}
    return [record(row) for row in reader.rows("tool_call_open", found)]


def waiting(
    reader: Reader, session_id: str, *, job_id: str | None, call_sha256: str | None = None
) -> list[ToolCallRecord]:
    """Return the calls of a run, or of a session and none of its runs, that wait for a person, oldest first."""
    named = {"session_id": session_id, "job_id": job_id, "call_sha256": call_sha256, "limit": MAX_PAGE_ITEMS}
    return [record(row) for row in reader.rows("tool_call_waiting", named)]


def lost(reader: Reader, *, epoch: int, limit: int) -> list[ToolCallRecord]:
    """Return calls that a runtime before `epoch` began, whose outcome nobody will tell: no open run has them."""
    return [record(row) for row in reader.rows("tool_call_lost", {"epoch": epoch, "limit": limit})]


def calls(reader: Reader, session_id: str, *, after: int = 0, limit: int = MAX_PAGE_ITEMS) -> list[ToolCallRecord]:
    """Return the calls of a session after the number `after`, in the order in which they came."""
    found = {"session_id": session_id, "after": after, "limit": min(limit, MAX_PAGE_ITEMS)}
    return [record(row) for row in reader.rows("tool_call_page", found)]


def begin(
    tx: Tx,
    asked: AskedCall,
    content: Content | None,
    policy: CallPolicy,
    *,
    epoch: int,
    has_sandbox: bool,
    deadline_us: int,
    settle: Settle | None,
) -> Begun:
    """Decide about a call and record the decision; what may be carried out is started, all else is settled.

    Args:
        tx: the unit's transaction.
        asked: the call.
        content: its arguments as an artifact, or None if there are none.
        policy: what other operations know of the session.
        epoch: of this runtime.
        has_sandbox: whether a command could be confined now.
        deadline_us: when it is too late to allow the call.
        settle: joins this commit if the call is settled by it.
    """
    heard = hear(tx, asked, policy, epoch=epoch, has_sandbox=has_sandbox, now_us=tx.now_us)
    if heard.verdict.decision is not Decision.DENY and tx.now_us > deadline_us:
        heard = msgspec.structs.replace(heard, verdict=undecidable(Reason.GATE_TIMEOUT), earlier=None)
    verdict = heard.verdict
    if heard.write_scopes and not asked.dry_run and (verdict.decision is Decision.ALLOW or is_held(verdict)):
        write_scopes.take(tx, records.session(tx, SessionId(asked.session_id or "")), heard.write_scopes)
    if heard.is_known:
        tool_evidence.tell_decision(tx, heard.context, asked, verdict)
    if verdict.decision is Decision.ALLOW and heard.earlier is None and not asked.dry_run:
        return _start(tx, asked, content, heard, policy, epoch)
    settled = _settle(tx, asked, content, heard, policy, epoch)
    if settle is not None:
        settle(tx, settled)
    return Begun(verdict=verdict, settled=settled)


def is_held(verdict: Verdict) -> bool:
    """Return whether a call was denied because another session holds what it would write; then its session waits."""
    return verdict.reason == Reason.WRITE_SCOPE_HELD


def end(
    tx: Tx, asked: AskedCall, begun: Begun, outcome: CallOutcome, content: Content, *, epoch: int, settle: Settle | None
) -> Settled:
    """Record what came of a call that was begun: the row, its result or error, and the event.

    Args:
        tx: the unit's transaction.
        asked: the call.
        begun: what its first commit gave.
        outcome: what came of it.
        content: the result or the error as an artifact.
        epoch: of this runtime.
        settle: joins this commit.

    Raises:
        IntegrityBroken: it is not begun.
    """
    tx.put(content)
    error = outcome.error
    _close(tx, begun.call_seq, ToolCallState.STARTED, epoch, begun.verdict.reason, error, content.artifact_id)
    response = answering.response(
        asked,
        started_at_us=begun.started_at_us,
        duration_ms=outcome.duration_ms,
        result=outcome.result,
        result_ref=content.artifact_id,
        error=error,
        touched=outcome.touched,
    )
    tool_evidence.tell_call(
        tx,
        begun.context,
        asked,
        begun.verdict,
        response,
        tainted=begun.tainted,
        result_sha256=content.artifact_id if error is None else None,
        touched=outcome.touched,
    )
    settled = Settled(
        asked=asked,
        verdict=begun.verdict,
        state=ToolCallState.ENDED,
        response=response,
        is_trusted=outcome.is_trusted and not (begun.tainted and _changes(asked)),
        content=outcome.result,
    )
    if settle is not None:
        settle(tx, settled)
    return settled


def withdraw(tx: Tx, asked: AskedCall, begun: Begun, content: Content, *, epoch: int, settle: Settle | None) -> None:
    """Record that a call was cut between its start and its effect, if its start was recorded."""
    if begun.settled is not None:
        return
    row = tx.row("tool_call_by_id", {"session_id": asked.session_id, "tool_call_id": asked.tool_call_id})
    found = None if row is None else record(row)
    if found is not None and found.call_seq == begun.call_seq and found.state is ToolCallState.STARTED:
        end(tx, asked, begun, answering.canceled(0), content, epoch=epoch, settle=settle)


def asked_of(reader: Reader, row: ToolCallRecord) -> AskedCall:
    """Return what is known of a call by its row alone, for the evidence of its end."""
    shown = None if row.args_artifact_id is None else reader.artifact(ArtifactId(row.args_artifact_id))
    return AskedCall(
        origin=Origin(transport=row.transport, job_id=row.job_id, turn_id=row.turn_id, place=row.place),
        actor=CallActor(kind=Actor.AGENT),
        tool_call_id=row.tool_call_id,
        trace_id=row.trace_id or None,
        session_id=row.session_id,
        tool_id=row.tool_id,
        tool_version=row.tool_version or None,
        idempotency_key=row.idempotency_key,
        shown=shown,
    )


def refuse(tx: Tx, asked: AskedCall, row: ToolCallRecord, context: Context, reason: Reason) -> Settled:
    """End a call that waits for a person: denied, or not answered in time; return what its caller is told.

    Raises:
        InvalidTransition: it has ended.
    """
    move(row.tool_call_id, row.state, ToolCallState.ENDED)
    verdict = Verdict(decision=Decision.DENY, reason=reason.value, approval_id=row.approval_id)
    error = answering.refusal(verdict)
    _close(tx, row.call_seq, row.state, row.runtime_epoch, reason.value, error, None)
    tool_evidence.tell_decision(tx, context, asked, verdict)
    response = answering.response(asked, started_at_us=tx.now_us, error=error)
    tool_evidence.tell_call(tx, context, asked, verdict, response, tainted=row.tainted)
    return Settled(asked=asked, verdict=verdict, state=ToolCallState.ENDED, response=response)


def _start(tx: Tx, asked: AskedCall, content: Content | None, heard: Heard, policy: CallPolicy, epoch: int) -> Begun:
    """Record the start of an allowed call, whose outcome nobody knows from here until it is recorded."""
    policy.spend(tx, asked, heard.verdict)
    more = {"started_at_us": tx.now_us, "approval_id": heard.verdict.approval_id}
    return Begun(
        verdict=heard.verdict,
        call_seq=_write(tx, asked, content, heard, ToolCallState.STARTED, epoch, more),
        started_at_us=tx.now_us,
        context=heard.context,
        tainted=bool(heard.taint),
        reach=heard.reach(asked),
    )


def _settle(tx: Tx, asked: AskedCall, content: Content | None, heard: Heard, policy: CallPolicy, epoch: int) -> Settled:
    """Record a call that is not carried out now: denied, asked about, answered from the records, or a dry run."""
    verdict = heard.verdict
    is_asked = verdict.decision is Decision.ASK
    if is_asked and not asked.dry_run:
        verdict = msgspec.structs.replace(verdict, approval_id=policy.ask(tx, asked, verdict))
    result_id, result, error = _answer(tx, heard, verdict)
    response = answering.response(asked, started_at_us=tx.now_us, result=result, result_ref=result_id, error=error)
    state = ToolCallState.AWAITING_USER if is_asked else ToolCallState.ENDED
    is_stored = heard.is_known and not heard.has_row and not asked.dry_run and asked.tool_id is not None
    if is_stored and not (is_asked and _waits_already(tx, asked, heard)):
        more = {
            "approval_id": verdict.approval_id,
            "error_code": None if error is None else error.code,
            "result_artifact_id": result_id,
            "ended_at_us": None if is_asked else tx.now_us,
        }
        _write(tx, asked, content, heard, state, epoch, more)
    tool_evidence.tell_call(
        tx,
        heard.context,
        asked,
        verdict,
        response,
        tainted=bool(heard.taint),
        result_sha256=result_id if error is None else None,
    )
    is_trusted = verdict.decision is not Decision.ALLOW and not heard.taint  # a refusal repeats what was asked for
    return Settled(asked=asked, verdict=verdict, state=state, response=response, is_trusted=is_trusted, content=result)


def _changes(asked: AskedCall) -> bool:
    """Return whether the call is of a tool that says what it changed, which its arguments chose."""
    return asked.definition is not None and asked.definition.side_effect is not SideEffect.READ


def _waits_already(tx: Tx, asked: AskedCall, heard: Heard) -> bool:
    """Return whether this call of no run waits for a person under another id: who asks again adds no row to it."""
    if asked.origin.job_id is not None or heard.itself is not None:
        return False
    return bool(waiting(tx, asked.session_id or "", job_id=None, call_sha256=asked.call_sha256))


def _answer(tx: Tx, heard: Heard, verdict: Verdict) -> tuple[str | None, bytes | None, CallError | None]:
    """Return what a call is answered that is not carried out: the recorded artifact, and a result or an error."""
    if verdict.fault is not None:
        return None, None, answering.refusal(verdict)
    if heard.earlier is None:
        return None, canonical_body({"decision": verdict.decision.value, "reason": verdict.reason}), None
    result_id = heard.earlier.result_artifact_id
    data = None if result_id is None else tx.artifact(ArtifactId(result_id))
    if data is None:
        raise IntegrityBroken(subject="tool_call", reason="no_result", call_seq=heard.earlier.call_seq)
    return (result_id, data, None) if heard.earlier.error_code is None else (None, None, answering.read_error(data))


def _write(
    tx: Tx,
    asked: AskedCall,
    content: Content | None,
    heard: Heard,
    state: ToolCallState,
    epoch: int,
    more: Mapping[str, object],
) -> int:
    """Write the row of a call, or change the one that it has; return its number."""
    if content is not None:
        tx.put(content)
    columns = _columns(asked, content, state, epoch) | {
        "decision": heard.verdict.decision,
        "reason": heard.verdict.reason,
        "tainted": bool(heard.taint),
        **more,
    }
    row = heard.itself
    if row is None:
        return tx.insert("tool_call_insert", _new(tx, asked) | columns)
    if row.state is not state:
        move(row.tool_call_id, row.state, state)
    if tx.run("tool_call_decided", {"call_seq": row.call_seq, **columns}) != 1:
        raise IntegrityBroken(subject="tool_call", reason="not_waiting", call_seq=row.call_seq)
    return row.call_seq


def _close(
    tx: Tx, call_seq: int, before: ToolCallState, epoch: int, reason: str, error: CallError | None, result: str | None
) -> None:
    """End a row as it was read."""
    ended = {
        "call_seq": call_seq,
        "before": before,
        "runtime_epoch": epoch,
        "reason": reason,
        "error_code": None if error is None else error.code,
        "result_artifact_id": result,
        "now_us": tx.now_us,
    }
    if tx.run("tool_call_ended", ended) != 1:
        raise IntegrityBroken(subject="tool_call", reason="moved", call_seq=call_seq)


def _new(tx: Tx, asked: AskedCall) -> dict[str, object]:
    """Return what never changes in a call's row."""
    return {
        "session_id": asked.session_id,
        "tool_call_id": asked.tool_call_id,
        "job_id": asked.origin.job_id,
        "turn_id": asked.origin.turn_id,
        "trace_id": asked.trace_id or "",
        "place": asked.origin.place,
        "tool_id": (asked.tool_id or "")[:MAX_NAME_CHARS],
        "transport": asked.origin.transport,
        "created_at_us": tx.now_us,
    }


def _columns(asked: AskedCall, content: Content | None, state: ToolCallState, epoch: int) -> dict[str, object]:
    """Return what a decision writes into a call's row, before it has written anything."""
    definition = asked.definition
    nothing = ("decision", "reason", "error_code", "approval_id", "result_artifact_id", "started_at_us", "ended_at_us")
    return {
        **dict.fromkeys(nothing),
        "state": state,
        "tool_version": asked.tool_version or "",
        "args_artifact_id": None if content is None else content.artifact_id,
        "call_sha256": asked.call_sha256 or None,
        "idempotency_key": asked.idempotency_key,
        "idempotency": None if definition is None else definition.idempotency,
        "side_effect": None if definition is None else definition.side_effect,
        "tainted": False,
        "runtime_epoch": epoch,
    }
