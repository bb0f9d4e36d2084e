"""Tool hearing: loads all that the gate must know of a call to judge it; recording and explaining load the same.

Source:
    capability.explain.equals_gate, gate.failure.denies (02 §3, §6).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

import msgspec

from handshake.gate.tool_records import Reach
from handshake.kernel import authority as authorities
from handshake.kernel import command_pattern, path_glob
from handshake.kernel.asked_call import AskedCall
from handshake.kernel.authority import Authority
from handshake.kernel.capability import Axis
from handshake.kernel.catalogue.tools import Decision
from handshake.kernel.command import is_destructive
from handshake.kernel.errors import UnknownCapability
from handshake.kernel.event import Context
from handshake.kernel.grant import CallFacts
from handshake.kernel.ids import ArtifactId, SessionId, TurnId
from handshake.kernel.job import JobState
from handshake.kernel.judgement import EarlierCall, Hearing, Reason, Verdict, judge, undecidable
from handshake.kernel.lane import Lane
from handshake.kernel.session import SessionState
from handshake.kernel.settings import MAX_ASKED_CALLS_PER_SESSION, MAX_PAGE_ITEMS, MAX_TRUSTED_TEXT_BYTES
from handshake.kernel.taint import Taint
from handshake.kernel.tool import Risk
from handshake.kernel.tool_call import ToolCallRecord, ToolCallState
from handshake.kernel.tool_registry import Standing
from handshake.operations import write_scopes
from handshake.operations.tool_evidence import name_told
from handshake.ports.store import Reader, Tx

MAX_TAINTING = 20
"""Messages that are named as what tainted a session."""
_AXES = (Axis.FS_READ, Axis.FS_WRITE, Axis.PROC_EXEC, Axis.NET_HTTP)
_TOLD_KEPT = 1_024
"""Lists of scopes that are kept as adapters read them: those of the sessions that call tools at one time."""
_WHOLE: dict[str, str] = {Axis.FS_READ: "**", Axis.FS_WRITE: "**", Axis.PROC_EXEC: "*", Axis.NET_HTTP: "* *"}
"""How the whole of an axis is written as a scope of it."""


class HearingPolicy(Protocol):
    """What other operations know of a session that makes a call; whatever it raises is a no."""

    def authority(self, reader: Reader, session_id: SessionId) -> Authority:
        """Return what the session may do now, in all layers."""
        ...

    def approval(self, reader: Reader, asked: AskedCall, *, now_us: int) -> str | None:
        """Return the id of an unexpired, unspent approval of exactly this call in this session, or None."""
        ...

    def relaxed(self, reader: Reader, session_id: SessionId, *, now_us: int) -> frozenset[Risk]:
        """Return the risks for which an operator's debug relaxation leaves out the questions of policy."""
        ...

    @property
    def is_locked(self) -> bool:
        """Whether governance is locked."""
        ...


class CallPolicy(HearingPolicy, Protocol):
    """The same for who records the decision: what it takes, and what it asks."""

    def spend(self, tx: Tx, asked: AskedCall, verdict: Verdict) -> None:
        """Count one use of the grants that carry an allowed call, and spend the approval that let it pass."""
        ...

    def ask(self, tx: Tx, asked: AskedCall, verdict: Verdict) -> str:
        """Put a call before a person, once for the same call of a session; return the id of the question."""
        ...


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """A hearing with its verdict, and the rows that it was loaded from."""

    verdict: Verdict
    is_known: bool
    """Whether the session exists."""
    context: Context
    taint: Taint = Taint()
    itself: ToolCallRecord | None = None
    """The call's own row, if it was asked for before and waits to be carried out."""
    earlier: ToolCallRecord | None = None
    """The call whose recorded result is the answer."""
    has_row: bool = False
    """Whether another call of the session has this id."""
    authority: Authority | None = None
    facts: CallFacts | None = None
    write_scopes: tuple[str, ...] = ()
    """What the session must have to itself for the call; none for one that writes nothing."""

    def reach(self, asked: AskedCall) -> Reach:
        """Return what an allowed call may touch."""
        assert self.authority is not None, "it was read to allow the call"
        assert self.facts is not None, "it was read to allow the call"
        return _reach(self.authority, self.facts, asked)


def hear(
    reader: Reader, asked: AskedCall, policy: HearingPolicy, *, epoch: int, has_sandbox: bool, now_us: int
) -> Heard:
    """Return the verdict about a call by what is stored now; nothing is changed."""
    session_id = asked.session_id
    row: Any = None if session_id is None else reader.row("tool_call_session", {"session_id": session_id})
    if session_id is None or row is None:
        hearing = _outside(asked)
        return Heard(verdict=judge(hearing), is_known=False, context=_context(asked, None, None, is_known=False))
    state, parent, lane, wp_id, mt_id, is_tainted = row
    context = _context(asked, wp_id, mt_id, is_known=True)
    named = _named(reader, session_id, asked)
    keyed = _keyed(reader, session_id, asked)
    itself = named if named is not None and _is_itself(named, asked) else None
    taint = _taint(reader, session_id) if is_tainted else Taint()
    facts = CallFacts(
        args=asked.args,
        sinks=() if asked.definition is None else asked.definition.sinks,
        bytes=len(asked.shown or b""),
        amount=asked.amount,
        turn_id=None if asked.origin.turn_id is None else TurnId(asked.origin.turn_id),
        wp_id=wp_id,
        now_us=now_us,
    )
    authority = None if asked.refusal is not None else _authority(reader, SessionId(session_id), policy)
    is_watched = parent is not None or lane == Lane.BACKGROUND
    hearing = Hearing(
        session_id=session_id,
        session=SessionState(state),
        run_goes_on=_run_goes_on(reader, session_id, asked, epoch),
        refusal=asked.refusal,
        definition=asked.definition,
        standing=Standing.USABLE if asked.tool is None else asked.tool.standing,
        needed=asked.needed,
        call=facts,
        call_sha256=asked.call_sha256,
        is_redacted=asked.is_redacted,
        same_id=None if named is None or itself is not None else _earlier(named, epoch),
        same_key=None if keyed is None or keyed == itself else _earlier(keyed, epoch),
        authority=authority,
        taint=taint,
        trusted_texts=_trusted_texts(reader, session_id) if taint and _is_bound(asked) else (),
        approval_id=None,
        has_sandbox=has_sandbox or _runs_on_host(asked, authority, facts),
        is_destructive=is_watched and _destroys(asked, authority, facts),
        is_locked=policy.is_locked,
    )
    verdict = _judged(reader, asked, hearing, policy, now_us)
    scopes: tuple[str, ...] = ()
    if verdict.decision is Decision.ALLOW and verdict.recorded_seq is None and authority is not None:
        scopes = _write_scopes(asked, authority, facts)
        verdict = _unless_held(reader, SessionId(session_id), scopes, verdict)
    return Heard(
        verdict=verdict,
        is_known=True,
        context=context,
        taint=taint,
        itself=itself,
        earlier=keyed if verdict.recorded_seq is not None else None,
        has_row=named is not None and itself is None,
        authority=authority,
        facts=facts,
        write_scopes=scopes,
    )


def record(row: Any) -> ToolCallRecord:
    """Return a row as a record."""
    return msgspec.convert(dict(zip(ToolCallRecord.__struct_fields__, row, strict=True)), ToolCallRecord, strict=False)


def _judged(reader: Reader, asked: AskedCall, hearing: Hearing, policy: HearingPolicy, now_us: int) -> Verdict:
    """Return the verdict; approvals and relaxations are looked up only where one is of use."""
    try:
        verdict = judge(hearing)
        if verdict.fault is None or hearing.session_id is None or verdict.decision.value != "ask":
            return verdict
        heard = msgspec.structs.replace(
            hearing,
            approval_id=policy.approval(reader, asked, now_us=now_us),
            asks_nothing=policy.relaxed(reader, SessionId(hearing.session_id), now_us=now_us),
        )
        verdict = judge(heard)
        if verdict.decision is Decision.ASK and _asks_too_much(reader, asked):
            return msgspec.structs.replace(verdict, decision=Decision.DENY, reason=Reason.TOO_MANY_QUESTIONS.value)
        return verdict
    except Exception:  # noqa: BLE001  (a gate that raises denies)
        return undecidable()


def _asks_too_much(reader: Reader, asked: AskedCall) -> bool:
    """Return whether a call of no run would be one question more than its session may have open; a run has one."""
    if asked.origin.job_id is not None:
        return False
    named = {"session_id": asked.session_id, "job_id": None, "call_sha256": asked.call_sha256}
    if reader.row("desk_of_call", named) is not None:
        return False
    row = reader.row("desk_calls_of_session", {"session_id": asked.session_id})
    return row is not None and int(row[0] or 0) >= MAX_ASKED_CALLS_PER_SESSION


def _write_scopes(asked: AskedCall, authority: Authority, facts: CallFacts) -> tuple[str, ...]:
    """Return all that the session may write if this call may write anything of it."""
    definition = asked.definition
    in_sandbox = definition is not None and definition.needs_sandbox
    if not in_sandbox and all(one.capability.axis != Axis.FS_WRITE for one in asked.needed):
        return ()
    axis = Axis.FS_WRITE
    held = _told(axis, authorities.reach_of(authority, facts, (axis,))[axis])
    globs = [path_glob.parse(one) for one in held]
    approved = (one.capability.scope or _WHOLE[axis] for one in asked.needed if one.capability.axis == axis)
    return (
        *held,
        *(one for one in approved if not any(path_glob.contains(glob, path_glob.parse(one)) for glob in globs)),
    )


def _unless_held(reader: Reader, session_id: SessionId, scopes: tuple[str, ...], verdict: Verdict) -> Verdict:
    """Return the verdict, or a denial if another session holds what the call may write."""
    try:
        if write_scopes.holder(reader, session_id, scopes) is None:
            return verdict
    except Exception:  # noqa: BLE001  (a gate that raises denies)
        return undecidable()
    held = {"decision": Decision.DENY, "reason": Reason.WRITE_SCOPE_HELD.value, "grants": ()}
    return msgspec.structs.replace(verdict, **held)


def _authority(reader: Reader, session_id: SessionId, policy: HearingPolicy) -> Authority | None:
    try:
        return policy.authority(reader, session_id)
    except Exception:  # noqa: BLE001  (what cannot be read is a no)
        return None


def _outside(asked: AskedCall) -> Hearing:
    """Return the hearing of a call of no session that exists."""
    return Hearing(
        session_id=asked.session_id,
        session=None,
        refusal=asked.refusal,
        definition=asked.definition,
        call=CallFacts(now_us=0),
        call_sha256=asked.call_sha256,
        authority=None,
    )


def _context(asked: AskedCall, wp_id: str | None, mt_id: str | None, *, is_known: bool) -> Context:
    return Context(
        actor=asked.actor.kind,
        actor_id=name_told(asked.actor.agent_id),
        job_id=asked.origin.job_id if is_known else None,
        model_id=name_told(asked.actor.model_id),
        model_session_id=asked.session_id if is_known else None,
        mt_id=mt_id,
        trace_id=asked.trace_id,
        wp_id=wp_id,
    )


def _named(reader: Reader, session_id: str, asked: AskedCall) -> ToolCallRecord | None:
    row = reader.row("tool_call_by_id", {"session_id": session_id, "tool_call_id": asked.tool_call_id})
    return None if row is None else record(row)


def _keyed(reader: Reader, session_id: str, asked: AskedCall) -> ToolCallRecord | None:
    if asked.idempotency_key is None:
        return None
    key = {"session_id": session_id, "tool_id": asked.tool_id, "idempotency_key": asked.idempotency_key}
    row = reader.row("tool_call_by_key", key)
    return None if row is None else record(row)


def _is_itself(named: ToolCallRecord, asked: AskedCall) -> bool:
    """Return whether a row is that of the call: asked for by the same run, or waiting for a person's answer."""
    if named.job_id != asked.origin.job_id or named.tool_id != asked.tool_id:
        return False
    if named.state is ToolCallState.REQUESTED:
        return True
    return named.state is ToolCallState.AWAITING_USER and named.call_sha256 == asked.call_sha256


def _earlier(one: ToolCallRecord, epoch: int) -> EarlierCall:
    is_lost = one.state is ToolCallState.STARTED and one.runtime_epoch != epoch
    unknown = one.reason == Reason.OUTCOME_UNKNOWN
    return EarlierCall(call_seq=one.call_seq, call_sha256=one.call_sha256, state=one.state, is_lost=is_lost or unknown)


def _run_goes_on(reader: Reader, session_id: str, asked: AskedCall, epoch: int) -> bool:
    if asked.origin.job_id is None:
        return True
    row: Any = reader.row("tool_call_run", {"job_id": asked.origin.job_id, "session_id": session_id})
    return row is not None and row == (JobState.RUNNING.value, asked.origin.attempt, epoch)


def _taint(reader: Reader, session_id: str) -> Taint:
    rows = reader.rows("session_untrusted", {"session_id": session_id, "limit": MAX_TAINTING})
    return Taint(tuple(str(row[0]) for row in rows))


def _is_bound(asked: AskedCall) -> bool:
    """Return whether what operators said can matter to the call."""
    definition = asked.definition
    return definition is not None and bool(definition.sinks or definition.content)


def _trusted_texts(reader: Reader, session_id: str) -> Sequence[str]:
    """Return what operators and trusted sources said, newest first, as far as it is searched."""
    texts: list[str] = []
    left = MAX_TRUSTED_TEXT_BYTES
    rows: Any = reader.rows("session_trusted_texts", {"session_id": session_id, "limit": MAX_PAGE_ITEMS})
    for artifact_id, size, inline in rows:
        left -= size
        if left < 0:
            break
        data = inline if isinstance(inline, bytes) else reader.artifact(ArtifactId(artifact_id))
        texts.append((data or b"").decode(errors="replace"))
    return texts


def _reach(authority: Authority, facts: CallFacts, asked: AskedCall) -> Reach:
    """Return what the session's grants let a call touch, and what this call requires: that is decided about."""
    told = {axis: _told(axis, found) for axis, found in authorities.reach_of(authority, facts, _AXES).items()}
    host_execution = command_pattern.HOST in told[Axis.PROC_EXEC]  # granted, not named by a command of that name
    for axis, scope in (one.capability for one in asked.needed):
        if axis in told:  # whether it is there already is not worth a look through all of them
            told[axis] = (*told[axis], scope or _WHOLE[axis])
    return Reach(
        read=told[Axis.FS_READ],
        write=told[Axis.FS_WRITE],
        execute=told[Axis.PROC_EXEC],
        http=told[Axis.NET_HTTP],
        hidden=_hidden(authority),
        host_execution=host_execution,
    )


@lru_cache(maxsize=_TOLD_KEPT)
def _told(axis: str, scopes: tuple[str, ...]) -> tuple[str, ...]:
    """Return scopes as adapters read them: the whole axis is a scope, too."""
    return tuple(dict.fromkeys(one or _WHOLE[axis] for one in scopes))


def _hidden(authority: Authority) -> tuple[str, ...]:
    """Return the scopes of reading that some layer denies, or lets only a person allow."""
    rules = [one for layer in authority.layers for one in (*layer.deny, *layer.ask)]
    return tuple(dict.fromkeys(one.scope or _WHOLE[Axis.FS_READ] for one in rules if one.axis == Axis.FS_READ))


def _runs_on_host(asked: AskedCall, authority: Authority | None, facts: CallFacts) -> bool:
    """Return whether an operator granted the session commands without a sandbox, explicitly."""
    return authority is not None and _reach(authority, facts, asked).host_execution


def _destroys(asked: AskedCall, authority: Authority | None, facts: CallFacts) -> bool:
    """Return whether a call runs a command that counts as destructive."""
    try:
        return authority is not None and _names_destruction(asked, _reach(authority, facts, asked))
    except Exception:  # noqa: BLE001  (what cannot be told counts as destructive)
        return True


def _names_destruction(asked: AskedCall, reach: Reach) -> bool:
    cwd = asked.args.get("cwd")
    globs = [path_glob.parse(one) for one in reach.write]

    def in_scope(path: str) -> bool:
        try:
            return any(path_glob.contains(one, path_glob.with_all_inside(path_glob.parse(path))) for one in globs)
        except UnknownCapability:
            return False

    return any(
        is_destructive(words, cwd=cwd if isinstance(cwd, str) else ".", in_scope=in_scope) for words in _commands(asked)
    )


def _commands(asked: AskedCall) -> list[list[str]]:
    scopes = [one.capability.scope for one in asked.needed if one.capability.axis == Axis.PROC_EXEC]
    found = [command_pattern.parse(scope) for scope in scopes if scope is not None and scope != command_pattern.HOST]
    return [[one.executable, *one.arguments] for one in found]
