"""Cedar: one decision under as many permissions as a session has grants; run by an interpreter that has cedarpy.

Policies and entities are parsed before; each call is authorized anew.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import time

import cedarpy

TEMPLATE = """permit(principal == Session::"bench", action == Action::"read", resource)
when {{ context.path like "src/m{0}/*" }};"""


def main() -> None:
    """Measure and print one JSON object."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--folder", required=True)
    options.add_argument("--decisions", type=int, required=True)
    options.add_argument("--grants", required=True)
    given = options.parse_args()
    took = {count: decide_us(count, given.decisions) for count in map(int, given.grants.split(","))}
    version = importlib.metadata.version("cedarpy")
    print(json.dumps({"peer": "cedarpy", "version": version, "decide_us": took}))


def decide_us(grants: int, decisions: int) -> float:
    """Return the microseconds of one decision."""
    policies = cedarpy.PolicySet.from_str("\n".join(TEMPLATE.format(number) for number in range(grants)))
    entities = cedarpy.Entities.from_json_str("[]")
    request = {
        "principal": 'Session::"bench"',
        "action": 'Action::"read"',
        "resource": 'Path::"any"',
        "context": {"path": f"src/m{grants - 1}/a/b.py"},
    }
    if not cedarpy.is_authorized(request, policies, entities).allowed:
        raise RuntimeError("the measured decision is no permission")
    begun = time.perf_counter()
    for _ in range(decisions):
        cedarpy.is_authorized(request, policies, entities)
    return 1_000_000 * (time.perf_counter() - begun) / decisions


if __name__ == "__main__":
    main()
