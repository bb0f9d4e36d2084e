"""Tooling: the door to tools, what opens it, and what must not happen twice, each forgotten in turn."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from handshake.gate import tool_gate
from handshake.kernel import authority, judgement
from handshake.kernel.job import JobStep
from handshake.operations import call_ends, tool_evidence, tool_steps, turns
from tests.simulation.must_fail.mutant import mutant, weaken


@mutant("tools", "capability.default.denies", "capability.session.intersection")
def what_nobody_gave_is_allowed(patch: pytest.MonkeyPatch) -> None:
    """A call is allowed although nothing that its session holds covers it."""
    original = authority.decide

    def decide(*given: Any, **named: Any) -> Any:
        return msgspec.structs.replace(original(*given, **named), outcome=authority.Outcome.ALLOW)

    patch.setattr(authority, "decide", decide)


@mutant("tools", "capability.session.intersection", seeds=8)
def what_was_taken_back_counts(patch: pytest.MonkeyPatch) -> None:
    """A grant that was revoked goes on to grant."""
    weaken(patch, "grant_live_of_session", "AND g.revoked_at_us IS NULL AND a.revoked_at_us IS NULL")


@mutant("tools", "gate.approval.bound_to_call")
def nobody_is_asked(patch: pytest.MonkeyPatch) -> None:
    """A tool that always asks a person asks nobody."""
    patch.setattr(judgement, "_question", lambda *given: (None, ()))


@mutant("tools", "gate.tools.single_door")
def denied_calls_are_carried_out(patch: pytest.MonkeyPatch) -> None:
    """The gate records that a call is denied, and carries it out all the same."""
    original = tool_gate.ToolGate._begin

    async def begin(self: Any, asked: Any, settle: Any) -> Any:
        begun = await original(self, asked, settle)
        if begun.settled is not None and asked.definition is not None:
            await self._run(asked, begun)
        return begun

    patch.setattr(tool_gate.ToolGate, "_begin", begin)


@mutant("tools", "gate.event.on_every_path", "gate.result.correlated")
def calls_are_not_told(patch: pytest.MonkeyPatch) -> None:
    """A call that was carried out leaves no event."""
    original = tool_evidence.tell_call

    def tell_call(tx: Any, context: Any, asked: Any, verdict: Any, response: Any, **named: Any) -> None:
        if not response.ok:
            original(tx, context, asked, verdict, response, **named)

    patch.setattr(tool_evidence, "tell_call", tell_call)


@mutant("tools", "gate.result.correlated", "message.append.is_atomic")
def results_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    """What came of a call is not told to its model."""
    patch.setattr(tool_steps, "append_result", lambda *given: None)


@mutant("tools", "recovery.tools.reevaluated", seeds=10)
def lost_calls_are_made_again(patch: pytest.MonkeyPatch) -> None:
    """A call that must not be made twice is made again after a crash."""
    patch.setattr(call_ends, "has_unknown_effect", lambda tx, job: False)


@mutant("tools", "scheduler.tools.resume_without_second_call")
def a_run_begins_anew_at_its_model(patch: pytest.MonkeyPatch) -> None:
    """A run that waited for an approval calls its provider once more."""
    original = turns.Turns._carry_out

    async def carry_out(self: Any, attempt: Any) -> None:
        attempt.ticket = msgspec.structs.replace(attempt.ticket, step=JobStep.CALL)
        await original(self, attempt)

    patch.setattr(turns.Turns, "_carry_out", carry_out)
