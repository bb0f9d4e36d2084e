"""Casbin: one decision under as many permissions as a session has grants; run by an interpreter that has casbin.

The model is read and the policy is in memory before; each call is enforced anew.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import time
from pathlib import Path

import casbin

MODEL = """[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.sub == p.sub && r.act == p.act && keyMatch(r.obj, p.obj)
"""


def main() -> None:
    """Measure and print one JSON object."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--folder", type=Path, required=True)
    options.add_argument("--decisions", type=int, required=True)
    options.add_argument("--grants", required=True)
    given = options.parse_args()
    model = given.folder / "model.conf"
    model.write_text(MODEL)
    took = {count: decide_us(model, count, given.decisions) for count in map(int, given.grants.split(","))}
    version = importlib.metadata.version("casbin")
    print(json.dumps({"peer": "casbin", "version": version, "decide_us": took}))


def decide_us(model: Path, grants: int, decisions: int) -> float:
    """Return the microseconds of one decision."""
    enforcer = casbin.Enforcer(str(model))
    for number in range(grants):
        enforcer.add_policy("bench", f"src/m{number}/*", "read")
    request = ("bench", f"src/m{grants - 1}/a/b.py", "read")
    if not enforcer.enforce(*request):
        raise RuntimeError("the measured decision is no permission")
    begun = time.perf_counter()
    for _ in range(decisions):
        enforcer.enforce(*request)
    return 1_000_000 * (time.perf_counter() - begun) / decisions


if __name__ == "__main__":
    main()
