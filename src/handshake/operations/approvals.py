"""Approvals: calls of tools that a person is asked about: put on the desk, approved for a while, or refused.

An approval is bound to the exact call that was shown. A run that waited goes on at its tools; its model is told of a
refusal as of any other error of a tool.

Source:
    gate.approval.bound_to_call, gate.approval.resumes_work (02 §1, §3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from handshake.gate import answering
from handshake.gate.tool_gate import ModelCall, Origin
from handshake.kernel.approval import Approval, ApprovalKind, lasting
from handshake.kernel.asked_call import AskedCall
from handshake.kernel.canonical import canonical_body
from handshake.kernel.desk import DeskItem, DeskKind
from handshake.kernel.errors import IntegrityBroken, JobNotAwaitingUser, StateConflict
from handshake.kernel.event import Actor, Context
from handshake.kernel.grant import Lifetime
from handshake.kernel.ids import ArtifactId, JobId, MessageId, SessionId, TurnId
from handshake.kernel.job import Job, JobState
from handshake.kernel.judgement import Reason, Verdict
from handshake.kernel.pointer import found
from handshake.kernel.queue import RunQueue
from handshake.kernel.settings import DESK_TOOL_APPROVAL_EXPIRY_S, PolicySettings
from handshake.kernel.tool_call import ToolCallRecord
from handshake.kernel.tool_message import CalledTool, ToolAnswer, answer_content
from handshake.kernel.units import US_PER_S
from handshake.operations import asking, grants, records, stalling, tool_calls, tool_steps
from handshake.operations.asking import CallShown, Question
from handshake.operations.attempts import last_attempt
from handshake.operations.call_policy import StoredPolicy
from handshake.operations.grant_requests import for_calls_like
from handshake.operations.tool_hearing import MAX_TAINTING
from handshake.operations.tool_steps import Told, content_of
from handshake.ports.store import Reader, Tx


class Approvals(StoredPolicy):
    """What sessions may call, and what people answer; one object per runtime.

    Args:
        policy: the rules of the workspace.
        read: reads a call as the gate does.
        new_ids: ids of one moment.
    """

    def __init__(
        self, policy: PolicySettings, read: Callable[[ModelCall], AskedCall], new_ids: Callable[[], Iterator[str]]
    ) -> None:
        super().__init__(policy)
        self._read = read
        self._level = policy.automation_level
        self._new_ids = new_ids

    # -- what the gate asks -----------------------------------------------------------------------------------

    def spend(self, tx: Tx, asked: AskedCall, verdict: Verdict) -> None:
        """Count one use of the grants that carry a call, and use up the approval that let it pass."""
        grants.count_use(tx, verdict.grants, bytes_=len(asked.shown or b""), amount=asked.amount)
        approval_id = verdict.approval_id or self.approval(tx, asked, now_us=tx.now_us)
        if approval_id is not None and not grants.use_approval(tx, approval_id):  # also where grants let the call pass
            raise StateConflict(approval_id=approval_id, reason="approval_used")

    def ask(self, tx: Tx, asked: AskedCall, verdict: Verdict) -> str:
        """Put a call before a person, once for the same call of a run or of no run; return the id of the question."""
        named = {"session_id": asked.session_id, "job_id": asked.origin.job_id, "call_sha256": asked.call_sha256}
        known = tx.row("desk_of_call", named)
        if known is not None:
            return str(known[0])
        definition = asked.definition
        assert definition is not None, "a call of an unknown tool is denied"
        item_id = next(self._new_ids())
        call = CallShown(
            tool_id=definition.tool_id,
            tool_version=definition.tool_version,
            call_sha256=asked.call_sha256,
            args_sha256=asked.args_sha256,
            findings=canonical_body([one.pointer for one in verdict.findings]).decode(),
            tainted_by=canonical_body(_tainting(tx, asked)).decode(),
        )
        question = Question(
            item_id=item_id,
            kind=DeskKind.TOOL_APPROVAL,
            reason=verdict.reason,
            attempts=asked.origin.attempt,
            level=self._level,
            call=call,
        )
        asking.ask(tx, self._context(tx, asked), question)
        return item_id

    # -- what a person answers --------------------------------------------------------------------------------

    def approve(self, tx: Tx, queue: RunQueue, item: DeskItem, *, words: str, by: str) -> None:
        """Let the call of an item be made, and calls like it for as long as `words` say; its run goes on.

        Raises:
            InvalidRequest: `words` say no lifetime.
            StateConflict: the tool was defined anew since it was shown.
            JobNotAwaitingUser: its run waits no longer.
        """
        how_long = lasting(words, now_us=tx.now_us)
        job = _waiting_job(tx, item)
        asked = self._asked(tx, item)
        session = records.session(tx, SessionId(item.session_id))
        ids = self._new_ids()
        soon_us = tx.now_us + DESK_TOOL_APPROVAL_EXPIRY_S * US_PER_S
        is_short = how_long.lifetime in (Lifetime.ONCE, Lifetime.TURN)
        approval = Approval(
            approval_id=next(ids),
            session_id=session.session_id,
            role=session.role,
            kind=ApprovalKind.CALL,
            lifetime=how_long.lifetime,
            call_sha256=item.call_sha256,
            user_id=by,
            created_at_us=tx.now_us,
            expires_at_us=soon_us if is_short else how_long.expires_at_us,
        )
        turn_id = None if job is None else TurnId(job.turn_id)
        given = for_calls_like(
            approval, session, [one.capability for one in asked.needed], _sinks(asked), ids, turn_id=turn_id
        )
        context = Context(actor=Actor.HUMAN, actor_id=by, model_session_id=session.session_id)
        grants.give(tx, approval, given, context)
        if job is not None:
            tool_steps.resume(tx, queue, job, actor=Actor.HUMAN, reason="approved")

    def refuse(self, tx: Tx, queue: RunQueue, item: DeskItem, reason: Reason, *, actor: Actor, by: str) -> None:
        """End the calls that wait for the answer to an item; a run that waited goes on and tells its model.

        Raises:
            JobNotAwaitingUser: its run waits no longer.
        """
        job = _waiting_job(tx, item)
        for row in _waiting_calls(tx, item):
            wanted = _wanted(tx, row)
            asked = self._read(_model_call(row, wanted))
            settled = tool_calls.refuse(tx, asked, row, self._context(tx, asked, actor, by), reason)
            if job is not None:
                self._tell(tx, job, wanted, answering.error_bytes(answering.refusal(settled.verdict)))
        if job is not None:
            tool_steps.resume(tx, queue, job, actor=actor, reason=reason.value)

    def _tell(self, tx: Tx, job: Job, wanted: CalledTool, content: bytes) -> None:
        told = Told(
            message_id=MessageId(next(self._new_ids())),
            content=content_of(answer_content(ToolAnswer(wanted.call_id, content.decode(), True))),
            is_trusted=True,
        )
        tool_steps.append_result(tx, stalling.about(job, Actor.SYSTEM), last_attempt(tx, job.job_id), told)

    def _asked(self, tx: Tx, item: DeskItem) -> AskedCall:
        """Return the call of an item as the gate reads it now."""
        for row in _waiting_calls(tx, item):
            asked = self._read(_model_call(row, _wanted(tx, row)))
            if asked.call_sha256 == item.call_sha256:
                return asked
        raise StateConflict(
            item_id=item.item_id,
            reason="call_gone",
            hint="the tool was defined anew, or nobody waits for the answer any more; deny the item",
        )

    def _context(self, tx: Tx, asked: AskedCall, actor: Actor = Actor.AGENT, actor_id: str | None = None) -> Context:
        session = records.session(tx, SessionId(asked.session_id or ""))
        return Context(
            actor=actor,
            actor_id=actor_id,
            job_id=asked.origin.job_id,
            model_id=session.model_id,
            model_session_id=session.session_id,
            mt_id=session.mt_id,
            trace_id=asked.trace_id,
            wp_id=session.wp_id,
        )


def _tainting(reader: Reader, asked: AskedCall) -> list[str]:
    rows = reader.rows("session_untrusted", {"session_id": asked.session_id, "limit": MAX_TAINTING})
    return [str(row[0]) for row in rows]


def _sinks(asked: AskedCall) -> dict[str, Any]:
    """Return the values of the sinks of a call by their pointers; a list of values is one value of its pointer."""
    definition = asked.definition
    assert definition is not None, "it was put on the desk"
    return {pointer: value for sink in definition.sinks for pointer, value in found(sink, asked.args)}


def _waiting_job(tx: Tx, item: DeskItem) -> Job | None:
    if item.job_id is None:
        return None
    job = records.job(tx, JobId(item.job_id))
    if job.state is not JobState.AWAITING_USER:
        raise JobNotAwaitingUser(job_id=job.job_id, item_id=item.item_id, state=job.state.value)
    return job


def _waiting_calls(reader: Reader, item: DeskItem) -> list[ToolCallRecord]:
    return tool_calls.waiting(reader, item.session_id, job_id=item.job_id, call_sha256=item.call_sha256)


def _wanted(reader: Reader, row: ToolCallRecord) -> CalledTool:
    """Return the exact text of a call's arguments: what its model wrote, or what the row keeps of another caller's."""
    if row.job_id is not None:
        return tool_steps.written(reader, row)
    data = None if row.args_artifact_id is None else reader.artifact(ArtifactId(row.args_artifact_id))
    if row.args_artifact_id is not None and data is None:
        raise IntegrityBroken(subject="tool_call", reason="arguments_missing", call_seq=row.call_seq)
    return CalledTool(row.tool_call_id, row.tool_id, (data or b"{}").decode())


def _model_call(row: ToolCallRecord, wanted: CalledTool) -> ModelCall:
    return ModelCall(
        origin=Origin(transport=row.transport, job_id=row.job_id, turn_id=row.turn_id, place=row.place),
        session_id=row.session_id,
        trace_id=row.trace_id,
        tool_call_id=row.tool_call_id,
        tool_id=row.tool_id,
        arguments=wanted.arguments,
        model_id="",
        idempotency_key=row.idempotency_key,
    )
