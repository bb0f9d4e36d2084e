"""Tool records: what the gate needs of the store, as a protocol that operations implement, and what goes through it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from handshake.kernel.asked_call import AskedCall
from handshake.kernel.event import Context
from handshake.kernel.htc import CallError, ToolResponse
from handshake.kernel.judgement import Verdict
from handshake.kernel.tool_call import ToolCallState
from handshake.ports.store import Tx
from handshake.ports.tool import Reach, Touched

__all__ = ["Begun", "CallOutcome", "Reach", "Settle", "Settled", "ToolRecords", "Touched"]


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """Where a call stands when a unit of work has recorded something about it that is not its start."""

    asked: AskedCall
    verdict: Verdict
    state: ToolCallState
    """`ENDED`, or `AWAITING_USER`."""
    response: ToolResponse
    is_trusted: bool = False
    """Whether what is told of it may count as trusted content."""
    content: bytes | None = None
    """The result, or the error, in canonical form after redaction: what the response holds or refers to."""


Settle = Callable[[Tx, Settled], None]
"""What else belongs into the commit that settles a call; it may run twice, as every unit of work."""


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """What the first commit of a call gave: it may be carried out, or it is settled already."""

    verdict: Verdict
    call_seq: int = 0
    started_at_us: int = 0
    context: Context = Context()
    tainted: bool = False
    reach: Reach = Reach()
    settled: Settled | None = None


class CallOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a call that was carried out: a result or an error, each in canonical form after redaction."""

    result: bytes | None
    error: CallError | None
    touched: Touched
    is_trusted: bool
    duration_ms: int


class ToolRecords(Protocol):
    """The store as the gate sees it. Whatever it raises is a no."""

    async def begin(self, asked: AskedCall, *, has_sandbox: bool, deadline_us: int, settle: Settle | None) -> Begun:
        """Decide about a call and record the decision, and if it may be carried out its start, in one commit.

        Args:
            asked: the call.
            has_sandbox: whether a command could be confined now.
            deadline_us: when it is too late to allow it.
            settle: joins the commit if the call is settled by it.

        A cut while this waits leaves no call begun.

        Raises:
            StoreFailed: nothing is recorded.
        """
        ...

    async def end(self, asked: AskedCall, begun: Begun, outcome: CallOutcome, *, settle: Settle | None) -> Settled:
        """Record what came of a call that was begun, again and again until it is stored.

        Raises:
            StoreFailed: the runtime stops, or the store is closed; the next start finds the call as it was begun.
        """
        ...

    async def explain(self, asked: AskedCall, *, has_sandbox: bool) -> Verdict:
        """Decide as `begin` does, and record nothing."""
        ...

    async def arguments(self, session_id: str, sha256: str) -> bytes | None:
        """Return an artifact that a row of the session refers to, or None."""
        ...
