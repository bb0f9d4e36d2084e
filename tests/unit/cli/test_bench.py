"""Bench: what the command prints and keeps; how good the figures are, no test asks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from handshake.bench import plan
from handshake.bench.figure import kinds
from handshake.cli.border import run
from handshake.cli.main import root

NAME = "start"


@pytest.fixture(autouse=True)
def smallest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "QUICK", plan.SMALLEST)


def measured(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run(root, ["bench", *arguments])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_json_has_the_shape_of_the_interface_and_is_kept(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, err = measured(capsys, NAME, "--quick", "--json", "--results", str(tmp_path / "mine"))
    (result,) = map(json.loads, out.splitlines())
    assert (code, err) == (0, "")
    assert result["bench"] == NAME
    assert result["machine"]["cores"] > 0
    assert result["figures"].keys() == kinds(NAME).keys()
    for one in result["figures"].values():
        assert {"value", "unit"} <= one.keys() <= {"value", "unit", "floor", "ratio_to_floor", "peers", "low", "high"}
    assert json.loads((tmp_path / "mine" / f"{NAME}.json").read_bytes()) == result
    assert list((tmp_path / "mine").iterdir()) == [tmp_path / "mine" / f"{NAME}.json"]


def test_results_are_kept_below_the_current_folder_unless_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = measured(capsys, NAME, "--quick")
    assert code == 0
    assert {line.split()[0] for line in out.splitlines() if line} >= kinds(NAME).keys()
    assert "kept in handshake-bench/start.json" in err
    assert (tmp_path / "handshake-bench" / "start.json").exists()


def test_an_unknown_bench_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = measured(capsys, "gateways")
    assert code == 2
    assert "'scheduler'" in err


def test_results_that_can_be_nowhere_are_refused_before_anything_is_measured(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    code, out, err = measured(capsys, NAME, "--results", str(tmp_path / "file" / "below"))
    assert (code, out) == (2, "")
    assert "no folder can be made: Not a directory" in err
