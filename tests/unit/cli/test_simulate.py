"""Simulate: what the command prints and keeps, and the exit codes that it ends with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from handshake.cli.border import run
from handshake.cli.main import root
from handshake.testing.simulator import read_kept, shipped

QUICK = "standard"


def simulated(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run(root, ["simulate", *arguments])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_each_seed_is_a_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, err = simulated(capsys, "--seeds", "2", "--first-seed", "7", "--keep", str(tmp_path / "kept"))
    assert code == 0
    assert [line.split(":")[0] for line in out.splitlines()] == ["seed 7", "seed 8"]
    assert "2 of 2 seeds of standard hold every promise" in err
    assert not (tmp_path / "kept").exists()


def test_json_is_an_object_per_seed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = simulated(capsys, "--seeds", "1", "--json")
    (verdict,) = map(json.loads, out.splitlines())
    assert code == 0
    assert (verdict["passed"], verdict["failure"], verdict["seed"]) == (True, None, 1)
    assert verdict["jobs"] > 0


def test_shipped_scenarios_are_listed_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = simulated(capsys, "--list", "--json")
    assert code == 0
    assert [json.loads(line)["scenario"] for line in out.splitlines()] == list(shipped())
    code, out, _ = simulated(capsys, "--print", QUICK)
    assert (code, out) == (0, shipped()[QUICK].read_text(encoding="utf-8"))


def test_a_name_of_nothing_is_refused_with_what_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = simulated(capsys, "--scenario", "standart")
    assert code == 4
    assert "Did you mean standard?" in err


def test_a_broken_promise_is_named_and_kept(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handshake.kernel.limit.Usage.full", lambda self, key, limits: None)
    kept_in = tmp_path / "kept"
    code, out, err = simulated(capsys, "--seeds", "1", "--keep", str(kept_in))
    assert code == 1
    kept = read_kept(kept_in / "standard-1.toml")
    assert kept.requirement == "scheduler.limit.is_never_exceeded"
    assert f"BROKEN {kept.requirement}" in out
    assert "again: handshake simulate --scenario standard --first-seed 1 --seeds 1" in err
