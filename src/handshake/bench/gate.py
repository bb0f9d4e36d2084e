"""Gate bench: what deciding about a tool call takes, beside policy engines with the same policy."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping

from handshake.bench import gated, paths, sandbox
from handshake.bench.figure import Figure, figure, median
from handshake.bench.peers.environment import PeerDecisions
from handshake.bench.workbench import Workbench
from handshake.kernel.authority import Authority, Layer, Outcome, decide
from handshake.kernel.capability import SHIPPED, Capability
from handshake.kernel.grant import CallFacts, Grant
from handshake.kernel.ids import SessionId

_SESSION = SessionId("bench")
_CALL = CallFacts(args={"path": "src/module/a.py"}, now_us=1)
_GRANTS_SHOWN = 200
"""The number of grants for which a figure stands, or the nearest one that is measured."""
_KINDS = ("fs.read:src/m{0}/**", "fs.write:src/m{0}/**", "proc.exec:tool{0} *", "net.http:GET h{0}.example.org/*")


def measure(bench: Workbench, peers: Mapping[str, PeerDecisions]) -> dict[str, Figure]:
    """Measure every figure of the gate."""
    plan = bench.plan
    allowed: dict[int, list[float]] = {count: [] for count in plan.grants}
    denied: dict[int, list[float]] = {count: [] for count in plan.grants}
    bench.say("gate: decisions")
    for _ in range(plan.rounds):
        for count in plan.grants:
            authority = authority_of(count)
            last = count - 1 - (count - 1) % len(_KINDS)
            allowed[count].append(
                _decisions_us(authority, f"fs.read:src/m{last}/a/b.py", Outcome.ALLOW, plan.decisions)
            )
            denied[count].append(_decisions_us(authority, "fs.read:docs/a/b.md", Outcome.DENY, plan.decisions))
    shown = min(plan.grants, key=lambda count: abs(count - _GRANTS_SHOWN))
    by_size = {count: median(rounds) for count, rounds in allowed.items()}
    growth = [most / least for least, most in zip(allowed[plan.grants[0]], allowed[plan.grants[-1]], strict=True)]
    theirs = {peer: one.decide_us[shown] for peer, one in peers.items() if shown in one.decide_us}
    return {
        "decision": figure("decision", allowed[shown], peers=theirs),
        "decision_denied": figure("decision_denied", denied[shown]),
        "decision_growth": figure("decision_growth", growth, by_size=by_size),
        **gated.measure(bench),
        **paths.measure(bench),
        **sandbox.measure(bench),
    }


def authority_of(count: int) -> Authority:
    """Return the authority of a session with `count` grants of four axes, no two of them alike."""
    grants = tuple(
        Grant(
            grant_id=str(number),
            approval_id="bench",
            session_id=_SESSION,
            capability=SHIPPED.parse_rule(_KINDS[number % len(_KINDS)].format(number)),
        )
        for number in range(count)
    )
    return Authority(
        session_id=_SESSION, layers=(Layer(name="session", allow=grants, is_own=True), Layer(name="policy"))
    )


def _decisions_us(authority: Authority, text: str, expected: Outcome, count: int) -> float:
    """Return the microseconds of one decision, the required capability read already."""
    required: list[Capability] = [SHIPPED.parse(text)]
    if decide(authority, required, _CALL).outcome is not expected:
        raise RuntimeError(f"the measured decision is not {expected.value}")
    gc.collect()
    begun = time.perf_counter()
    for _ in range(count):
        decide(authority, required, _CALL)
    return 1_000_000 * (time.perf_counter() - begun) / count
