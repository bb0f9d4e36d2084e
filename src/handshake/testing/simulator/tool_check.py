"""Tool check: judges every decision of the gate and every call that a tool carried out, by what the log told before.

It knows what sessions were given and what was taken back, and reads the capabilities of the simulated tools, which are
paths in few folders, in its own way.

Source:
    gate.tools.single_door, gate.event.on_every_path, gate.approval.bound_to_call, capability.default.denies,
    capability.session.intersection, scheduler.cancel.checked_at_tool_boundary, recovery.tools.reevaluated (02 §1, §3).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from handshake.kernel.desk import DeskKind
from handshake.kernel.job import JobState
from handshake.kernel.tool_call import ToolCallState
from handshake.ports.store import Store
from handshake.ports.tool import ToolContext
from handshake.testing.simulator.journal import Journal, ToldEvent
from handshake.testing.simulator.simulated_tools import ONCE_ONLY, SEND
from handshake.testing.simulator.violation import Violation, require

_ALLOW = "allow"
_STATE = 10
"""Place of a call's state in its row."""
_DECISION = 13


class ToolCheck:
    """All calls of tools of one workspace, through all its lives.

    Args:
        journal: sessions and jobs as the log tells them.
        report: takes what a tool saw that does not hold; a tool cannot raise it into the gate.
    """

    def __init__(self, journal: Journal, report: Callable[[Violation], None]) -> None:
        self._journal = journal
        self._report = report
        self._held: defaultdict[str, dict[str, tuple[str, ...]]] = defaultdict(dict)
        """What each session holds, by approval."""
        self._approved: Counter[str] = Counter()
        """Calls that a person approved, by session."""
        self._again: Counter[str] = Counter()
        """Lost runs that a person let run again."""
        self._carried_out: Counter[str] = Counter()
        self._told: set[str] = set()
        self.names: dict[str, str] = {}
        """What each grant is of that a client takes back; the log tells its id."""
        self.calls = 0

    def hear(self, event: ToldEvent) -> None:
        """Judge an event.

        Raises:
            Violation: something was allowed that nobody had given, or a run went on that had ended.
        """
        payload = event.payload
        if event.type == "capability.granted":
            self._held[payload["session_id"]][payload["approval_id"]] = tuple(payload["capabilities"])
        elif event.type == "capability.revoked":
            self._revoked(payload["session_id"], payload["grant_id"])
        elif event.type == "gov_human_intervention_received":
            self._answered(event)
        elif event.type == "capability.decision" and payload["decision_outcome"] == _ALLOW:
            self._allowed(event)
        elif event.type == "tool_call" and payload["tool_call_id"] is not None:
            self._told.add(payload["tool_call_id"])

    def began(self, store: Store, tool_id: str, context: ToolContext) -> None:
        """Judge a call that a tool is about to carry out: its row says that it was decided and begun."""
        self.calls += 1
        named = {"session_id": context.session_id, "tool_call_id": context.tool_call_id}
        row: Any = store.read_now(lambda reader: reader.row("tool_call_by_id", named))
        try:
            known = "gate.tools.single_door"
            require(row is not None, known, "a tool ran for a call that is not stored", context.tool_call_id)
            begun = (row[_STATE], row[_DECISION]) == (ToolCallState.STARTED, _ALLOW)
            require(begun, known, "a tool ran for a call that was not allowed and begun", context.tool_call_id)
            self._carried_out[context.tool_call_id] += 1
            again = self._again[context.job_id or ""]
            once = tool_id not in ONCE_ONLY or self._carried_out[context.tool_call_id] <= 1 + again
            require(once, "recovery.tools.reevaluated", "a call was carried out twice", context.tool_call_id)
        except Violation as broken:
            self._report(broken)

    def settled(self) -> None:
        """Judge that every call that was carried out has been told, now that nothing is under way.

        Raises:
            Violation: one has not.
        """
        silent = sorted(self._carried_out.keys() - self._told)
        require(not silent, "gate.event.on_every_path", "a call left no event", silent[0] if silent else None)

    def _revoked(self, session_id: str, grant_id: str) -> None:
        """Forget what was taken back, wherever it was given."""
        gone, held = self.names[grant_id], self._held[session_id]
        for approval_id, some in held.items():
            held[approval_id] = tuple(one for one in some if one != gone)

    def _answered(self, event: ToldEvent) -> None:
        if event.payload["decision"] != "approved":
            return
        if event.payload["gate_type"] == DeskKind.TOOL_APPROVAL:
            self._approved[event.session_id or ""] += 1
        elif event.job_id is not None:
            self._again[event.job_id] += 1

    def _allowed(self, event: ToldEvent) -> None:
        session_id, wanted = event.payload["session_id"], event.payload["capability_id"]
        job = self._journal.jobs.get(event.job_id or "")
        runs = job is None or job.state is JobState.RUNNING
        known = "scheduler.cancel.checked_at_tool_boundary"
        require(runs, known, "a call was allowed of a run that does not run", event.job_id)
        alone = event.payload["tool_id"] == SEND.tool_id and not self._approved[session_id]
        require(not alone, "gate.approval.bound_to_call", "a call was allowed that nobody was asked about", session_id)
        if self._approved[session_id]:  # what a person said of one call is more than what was given
            return
        held = [one for some in self._held[session_id].values() for one in some]
        known = "capability.session.intersection" if held else "capability.default.denies"
        require(any(_covers(one, wanted) for one in held), known, f"{wanted} was allowed", session_id)


def _covers(held: str, wanted: str) -> bool:
    """Return whether a capability is of what another names, or of something in its folder: all that scenarios give."""
    named = held.removesuffix("/**")
    return wanted == named or (held != named and wanted.startswith(f"{named}/"))
