"""Tool port: what a tool's adapter offers, and the pass without which none runs.

Only `gate.tool_gate` and the tools import this module (import contract "one door to tools").

Source:
    gate.tools.single_door (02 §3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Never, Protocol, SupportsIndex

import msgspec

from handshake.kernel.ids import JobId, SessionId


class ToolPass:
    """Proof that the Tool Gate allowed one call; good for one run of one tool.

    It has no public constructor: `claim_tool_mint` gives the only maker away once, to `gate.tool_gate`.
    """

    __slots__ = ("_spent", "session_id", "tool_call_id", "tool_id")

    session_id: SessionId
    tool_call_id: str
    tool_id: str
    _spent: bool

    def __init__(self) -> None:
        raise TypeError("a ToolPass is made by gate.tool_gate for an allowed call only")

    def __init_subclass__(cls) -> None:
        raise TypeError("there is one kind of ToolPass")

    def __reduce_ex__(self, protocol: SupportsIndex) -> Never:
        """Refuse to be copied or stored: a copy would run a second call."""
        raise TypeError("a ToolPass is not copied")

    def spend(self) -> None:
        """Use the pass, as the first thing a tool does; a second use is a bug in the adapter and raises."""
        if self._spent:
            raise RuntimeError("a ToolPass runs one call")
        self._spent = True


type_of_tool_mint = Callable[[SessionId, str, str], ToolPass]
_mint_given = False


def claim_tool_mint() -> type_of_tool_mint:
    """Give the maker of passes to the first caller, which is `gate.tool_gate` at import; nobody else gets one."""
    global _mint_given
    if _mint_given:
        raise RuntimeError("the mint of tool passes is taken")
    _mint_given = True

    def mint(session_id: SessionId, tool_call_id: str, tool_id: str) -> ToolPass:
        one = object.__new__(ToolPass)
        one.session_id = session_id
        one.tool_call_id = tool_call_id
        one.tool_id = tool_id
        one._spent = False
        return one

    return mint


class Reach(msgspec.Struct, frozen=True, gc=False):
    """What an allowed call may touch: the scopes of the session's effective grants, as written; empty is nothing.

    Nothing in it is denied or would have to be asked for, so that what a call comes to by a link, or by looking through
    a folder, is allowed as if it had been named. Paths are workspace-relative globs. The gate has checked the arguments
    against them already; an adapter holds to them again where it acts, so that nothing lies between check and use.
    """

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    execute: tuple[str, ...] = ()
    http: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    """Of the workspace, what is denied to be read or would have to be asked for: a command sees all the rest."""
    host_execution: bool = False
    """Whether the operator granted `proc.exec:host`: commands without a sandbox."""


class ToolContext(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """All that a tool may know of the call that it serves. Times in milliseconds, sizes in bytes."""

    session_id: SessionId
    job_id: JobId | None
    tool_call_id: str
    trace_id: str
    root: str
    """Absolute path of the folder that paths are relative to: the workspace, or the session's own worktree."""
    reach: Reach
    timeout_ms: int
    max_result_bytes: int
    idempotency_key: str | None = None


class Touched(msgspec.Struct, frozen=True, gc=False):
    """What a call touched, for its evidence: workspace-relative paths, addresses without credentials, artifacts."""

    files: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    artifacts: tuple[str, ...] = ()


class ToolResult(msgspec.Struct, frozen=True, gc=False):
    """What a call gave: a JSON object that fits the tool's output schema, and what was touched."""

    value: Mapping[str, Any]
    touched: Touched = Touched()
    is_trusted: bool = False
    """Whether the content may count as trusted; what the registry calls untrusted never does."""


class ToolFailed(Exception):
    """A call had no result. `code` is a token for the model and the evidence; `sentence` is for the model only."""

    def __init__(
        self,
        code: str,
        sentence: str,
        *,
        retryable: bool = False,
        touched: Touched | None = None,
        timeout: bool = False,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.sentence = sentence
        self.retryable = retryable
        self.touched = touched or Touched()
        self.is_timeout = timeout


class Tool(Protocol):
    """An adapter of one or more tools."""

    async def run(self, tool_pass: ToolPass, tool_id: str, args: Mapping[str, Any], context: ToolContext) -> ToolResult:
        """Carry out one call; it spends the pass first. Cancelling it ends the work, and what it started, in a second.

        Args:
            tool_pass: proof that the gate allowed the call.
            tool_id: which tool of the adapter.
            args: validated against the tool's input schema.
            context: where and how far it may act.

        Raises:
            ToolFailed: it could not, and what it did so far is in the error.
        """
        ...

    async def close(self) -> None:
        """Close everything that is open."""
        ...
