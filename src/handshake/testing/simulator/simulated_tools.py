"""Simulated tools: three tools of a notebook, which take their time, fail or hang as a scenario says."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from random import Random
from typing import Any, Protocol

from handshake.bootstrap.toolbox import Provided, Tools, ToolsFor, Usable
from handshake.kernel.catalogue.tools import SideEffect
from handshake.kernel.errors import StoreFailed, Unsupported
from handshake.kernel.ids import SessionId
from handshake.kernel.redaction import KnownValues
from handshake.kernel.tool import Asking, Idempotency, Risk
from handshake.kernel.tool_registry import ToolSource
from handshake.ports.store import Store
from handshake.ports.tool import ToolContext, ToolFailed, ToolPass, ToolResult
from handshake.ports.worktree import MergePlan
from handshake.testing.scripted_tool import defined
from handshake.testing.simulator.reply_bytes import around
from handshake.testing.simulator.scenario import ToolPlan

READ = defined(
    tool_id="notes.read",
    description="Read a note.",
    side_effect=SideEffect.READ,
    idempotency=Idempotency.IDEMPOTENT,
    required_capabilities=("fs.read:{path}",),
)
WRITE = defined(tool_id="notes.write", idempotency=Idempotency.NON_IDEMPOTENT)
SEND = defined(
    tool_id="notes.send",
    description="Send a note to somebody.",
    side_effect=SideEffect.EXECUTE,
    idempotency=Idempotency.NON_IDEMPOTENT,
    risk_level=Risk.HIGH,
    asks=Asking.ALWAYS,
)
DEFINITIONS = {"read": READ, "write": WRITE, "send": SEND}
ONCE_ONLY = frozenset({WRITE.tool_id, SEND.tool_id})
"""Tools whose calls must not be carried out twice."""
_HOURS_S = 3_600


class ToolWitness(Protocol):
    """Who sees what tools do."""

    def began(self, store: Store, tool_id: str, context: ToolContext) -> None:
        """See that a call is about to be carried out."""
        ...


class SimulatedTools:
    """The adapter of the notebook.

    Args:
        plans: how each tool behaves.
        chance: draws times and failures.
        witness: sees every call.
        store: of the runtime that it serves.
    """

    def __init__(self, plans: Mapping[str, ToolPlan], chance: Random, witness: ToolWitness, store: Store) -> None:
        self._plans = {DEFINITIONS[name].tool_id: plan for name, plan in plans.items()}
        self._chance = chance
        self._witness = witness
        self._store = store

    async def run(self, tool_pass: ToolPass, tool_id: str, args: Mapping[str, Any], context: ToolContext) -> ToolResult:
        """Take some time, and then give what was planned."""
        tool_pass.spend()
        self._witness.began(self._store, tool_id, context)
        plan = self._plans[tool_id]
        drawn = self._chance.random() * 100
        if drawn < plan.hang_percent:
            await asyncio.sleep(_HOURS_S)
        await asyncio.sleep(around(self._chance, plan.ms) / 1_000)
        if drawn < plan.hang_percent + plan.fail_percent:
            raise ToolFailed("torn", "The page is torn.")
        return ToolResult({"said": str(args.get("path"))}, is_trusted=drawn >= 100 - plan.trusted_percent)

    async def close(self) -> None:
        """Nothing is open."""


class NoRepository:
    """The files of a workspace that lies in no git repository: sessions have none of their own."""

    async def has_repository(self) -> bool:
        """It lies in none."""
        return False

    def path(self, session_id: SessionId) -> str:
        """There are no files."""
        raise StoreFailed(reason="no_repository")

    async def make(self, session_id: SessionId) -> str:
        """None can be made."""
        raise Unsupported(field="worktree")

    async def plan(self, session_id: SessionId, base: str) -> MergePlan:
        """Nothing can be merged."""
        raise Unsupported(field="worktree")

    async def apply(self, session_id: SessionId, plan: MergePlan) -> None:
        """Nothing can be merged."""
        raise Unsupported(field="worktree")

    async def remove(self, session_id: SessionId) -> None:
        """There is nothing to remove."""


def simulated_tools(plans: Mapping[str, ToolPlan], chance: Random, witness: ToolWitness) -> ToolsFor:
    """Return what makes the tools of a scenario, in each life of its workspace."""

    async def has_sandbox() -> bool:
        return False

    def tools(store: Store, usable: Usable) -> Tools:
        adapter = SimulatedTools(plans, chance, witness, store)
        definitions = tuple(DEFINITIONS[name] for name in plans)
        return Tools(
            provided=(Provided(adapter, definitions, ToolSource.PROGRAM),),
            worktrees=NoRepository(),
            root="/notebook",
            has_sandbox=has_sandbox,
            known=KnownValues(),
        )

    return tools
