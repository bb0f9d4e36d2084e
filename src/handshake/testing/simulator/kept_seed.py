"""Kept seeds: files that say which scenario and seed failed, so that it is never forgotten and can be run again."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec
import tomlkit

from handshake.kernel.errors import InvalidConfig
from handshake.testing.simulator.simulation import Verdict


class KeptSeed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One seed worth keeping, and what it showed."""

    scenario: str
    seed: int
    requirement: str
    sentence: str
    virtual_s: int = 0


def keep(folder: Path, scenario: str, verdict: Verdict) -> Path:
    """Write a failing seed into `folder`, which is made if missing, and return the file's path.

    Args:
        folder: where.
        scenario: the name or path by which the scenario is found again.
        verdict: of a seed that failed.
    """
    failure = verdict.failure
    assert failure is not None, "what passed is not kept"
    folder.mkdir(parents=True, exist_ok=True)
    kept = KeptSeed(scenario, verdict.seed, failure.requirement, failure.sentence, failure.virtual_us // 1_000_000)
    path = folder / f"{verdict.scenario}-{verdict.seed}.toml"
    path.write_text(tomlkit.dumps(msgspec.to_builtins(kept)), encoding="utf-8")
    return path


def read_kept(path: Path) -> KeptSeed:
    """Return what a file of `keep` says.

    Raises:
        InvalidConfig: it is no such file.
    """
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), KeptSeed)
    except (OSError, ValueError, msgspec.ValidationError) as wrong:
        raise InvalidConfig(file=str(path), reason="no_kept_seed") from wrong
