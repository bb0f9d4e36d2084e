"""Tool offer: which tools a session could make some call of, for listings; about each call the gate decides.

Source:
    02 §5 (lists are filtered by the session's grants; progressive disclosure).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from handshake.kernel.authority import Authority, Layer
from handshake.kernel.capability import Capability
from handshake.kernel.containment import covers
from handshake.kernel.grant import Use
from handshake.kernel.tool_registry import RegisteredTool, Standing

_WORD = re.compile(r"[^\W_]+")


def offered(tools: Iterable[RegisteredTool], authority: Authority) -> tuple[RegisteredTool, ...]:
    """Return the tools whose definition may be used and whose every capability the session holds some scope of.

    What it holds to be asked about counts, and so does what policy would ask a person for.
    """
    known: dict[str, bool] = {}
    chosen = []
    for tool in tools:
        axes = {template.axis for template in tool.templates}
        for axis in axes - known.keys():
            known[axis] = _could_hold(authority, axis)
        if tool.standing is Standing.USABLE and all(known[axis] for axis in axes):
            chosen.append(tool)
    return tuple(chosen)


def matching(tools: Iterable[RegisteredTool], query: str) -> tuple[RegisteredTool, ...]:
    """Return the tools whose id or description has words of `query`, best first; equal ones by their id."""
    words = frozenset(_WORD.findall(query.casefold()))
    ranked = sorted((-_score(tool, words), tool.definition.tool_id, tool) for tool in tools if _score(tool, words))
    return tuple(tool for _, _, tool in ranked)


def _could_hold(authority: Authority, axis: str) -> bool:
    whole = Capability(axis, None)
    if any(covers(rule, whole) for layer in authority.layers for rule in layer.deny):
        return False
    speaking = [layer for layer in authority.layers if layer.allow is not None]
    return bool(speaking) and all(
        _grants(layer, axis) or (layer.is_own and authority.asks_for_missing) for layer in speaking
    )


def _grants(layer: Layer, axis: str) -> bool:
    families = (one for one in layer.families if covers(one.capability, Capability(axis, None)))
    return any(one.use is not Use.DELEGATE_ONLY for one in (*layer.held(axis), *families))


def _score(tool: RegisteredTool, words: frozenset[str]) -> int:
    """Return how well a tool fits: words of its id count most, then parts of them, then its description."""
    name = tool.definition.tool_id
    parts, told = frozenset(_WORD.findall(name)), tool.definition.description.casefold()
    return sum(4 if word in parts else 2 if word in name else 1 if word in told else 0 for word in words)
