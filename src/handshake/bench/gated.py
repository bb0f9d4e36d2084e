"""Gated bench: what a whole call of a tool takes at the gate: read, checked, decided about, and recorded in batches."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from handshake.bench.figure import Figure, figure
from handshake.bench.load import HELD, Load, opened
from handshake.bench.plan import Plan
from handshake.bench.workbench import Workbench, run
from handshake.kernel.approval import Approval, ApprovalKind
from handshake.kernel.capability import SHIPPED
from handshake.kernel.catalogue.tools import SideEffect
from handshake.kernel.event import Context
from handshake.kernel.grant import Grant, Lifetime
from handshake.kernel.ids import SessionId
from handshake.operations import grants
from handshake.testing.granted_policy import GrantedPolicy
from handshake.testing.scripted_tool import defined
from handshake.testing.tool_door import ToolDoor

GRANTS = 200
"""Grants of each session that calls."""
READING = defined(tool_id="notes.read", side_effect=SideEffect.READ, required_capabilities=("fs.read:{path}",))

Call = Callable[[SessionId, int], Coroutine[Any, Any, None]]


def measure(bench: Workbench) -> dict[str, Figure]:
    """Measure every figure of whole calls."""
    bench.say("gate: calls")
    with bench.scratch() as folder:
        begun, called, denied = run(_rounds(folder, bench.plan))
    return {
        "call_begun": figure("call_begun", begun),
        "call": figure("call", called),
        "call_denied": figure("call_denied", denied),
    }


async def _rounds(folder: Path, plan: Plan) -> tuple[list[float], list[float], list[float]]:
    found: tuple[list[float], list[float], list[float]] = ([], [], [])
    for number in range(plan.rounds):
        async with opened(folder / f"round-{number}", slots=plan.in_flight) as load:
            runtime = load.runtime
            door = ToolDoor(runtime.store, runtime.queue, GrantedPolicy(), runtime.clock, runtime.dispatcher.epoch)
            door.define(READING)
            callers = await load.make_sessions(plan.in_flight, HELD)
            for session_id in callers:
                await _give(load, session_id)
            for figures, call in zip(found, _calls(door), strict=True):
                figures.append(await _call_us(callers, call, plan.calls))
    return found


def _calls(door: ToolDoor) -> tuple[Call, Call, Call]:
    """Return the three kinds of call that are measured."""

    def args(number: int) -> dict[str, str]:
        return {"path": f"src/m{number % GRANTS}/a.py", "text": "some words"}

    async def begin(session_id: SessionId, number: int) -> None:
        begun = await door.begin(door.envelope(session_id, args(number), tool_id=READING.tool_id))
        _require(begun.settled is None)

    async def call(session_id: SessionId, number: int) -> None:
        _require((await door.call(session_id, args(number), tool_id=READING.tool_id)).ok)

    async def deny(session_id: SessionId, number: int) -> None:
        _require(not (await door.call(session_id, {"path": "docs/a"}, tool_id=READING.tool_id)).ok)

    return begin, call, deny


async def _call_us(callers: list[SessionId], call: Call, count: int) -> float:
    """Return the microseconds of one call while every caller makes one after the other."""
    each = -(-count // len(callers))

    async def client(session_id: SessionId) -> None:
        for number in range(each):
            await call(session_id, number)

    await asyncio.gather(*(call(session_id, 0) for session_id in callers))
    gc.collect()
    begun = time.perf_counter()
    await asyncio.gather(*map(client, callers))
    return 1_000_000 * (time.perf_counter() - begun) / (each * len(callers))


async def _give(load: Load, session_id: SessionId) -> None:
    new_id = load.runtime.new_id
    approval = Approval(
        approval_id=new_id(),
        session_id=session_id,
        role="bench",
        kind=ApprovalKind.OPERATOR,
        lifetime=Lifetime.SESSION,
        user_id="bench",
        created_at_us=load.runtime.clock.now_us(),
    )
    given = [
        Grant(
            grant_id=new_id(),
            approval_id=approval.approval_id,
            session_id=session_id,
            capability=SHIPPED.parse_rule(f"fs.read:src/m{number}/**"),
        )
        for number in range(GRANTS)
    ]
    context = Context(model_session_id=session_id)
    await load.runtime.store.write(lambda tx: grants.give(tx, approval, given, context))


def _require(is_so: bool) -> None:
    if not is_so:
        raise RuntimeError("the measured call was decided otherwise")
