"""Asked call: a tool call as the gate has read it, before anything of its session was looked at."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from handshake.kernel.catalogue.tools import Transport
from handshake.kernel.htc import CallActor
from handshake.kernel.judgement import Refusal
from handshake.kernel.pointer import found
from handshake.kernel.template import Needed
from handshake.kernel.tool import ToolDefinition
from handshake.kernel.tool_registry import RegisteredTool
from handshake.kernel.units import MAX_SAFE_INTEGER


class Origin(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where a call comes from: its transport, and of a model's call the run that asked for it and its place there."""

    transport: Transport
    job_id: str | None = None
    turn_id: str | None = None
    attempt: int = 0
    place: int = 0


class AskedCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call with all that can be known of it by itself; what could not be read of it is None."""

    origin: Origin
    actor: CallActor
    tool_call_id: str | None
    trace_id: str | None
    session_id: str | None
    tool_id: str | None
    tool_version: str | None
    idempotency_key: str | None = None
    dry_run: bool = False
    args_ref: str | None = None
    """The artifact that holds the arguments, where they did not come with the call."""
    tool: RegisteredTool | None = None
    args: Mapping[str, Any] = {}
    """What is executed."""
    shown: bytes | None = None
    """The canonical arguments after redaction: what is shown, hashed and stored; None if there are none."""
    is_redacted: bool = False
    needed: Sequence[Needed] = ()
    call_sha256: str = ""
    refusal: Refusal | None = None

    @property
    def definition(self) -> ToolDefinition | None:
        """The tool's definition, or None of an unknown tool."""
        return None if self.tool is None else self.tool.definition

    @property
    def args_sha256(self) -> str | None:
        """SHA-256 of the arguments after redaction, also the artifact that holds them."""
        return None if self.shown is None else hashlib.sha256(self.shown).hexdigest()

    @property
    def amount(self) -> int:
        """What the call spends of a grant's `max_amount`; where that cannot be told, more than any grant has."""
        definition = self.definition
        if definition is None or definition.amount is None:
            return 0
        values = [value for _, value in found(definition.amount, self.args)]
        if all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in values):
            return min(int(sum(values)), MAX_SAFE_INTEGER)
        return MAX_SAFE_INTEGER


def call_sha256(definition_sha256: str, shown: bytes) -> str:
    """Return the hash by which an approval is bound to a call: the tool as it is defined now, and its arguments.

    Args:
        definition_sha256: of the whole definition, with the tool's id and version.
        shown: the canonical arguments as a person is shown them.
    """
    args = hashlib.sha256(shown).hexdigest()
    canonical = f'{{"args_sha256":"{args}","definition_sha256":"{definition_sha256}"}}'
    return hashlib.sha256(canonical.encode()).hexdigest()
