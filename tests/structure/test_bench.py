"""Bench: every figure is measured against what it should be, and shown; how good it is, no test asks."""

from __future__ import annotations

import ast
import asyncio
import importlib
import math
import re
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from click.testing import CliRunner

from bench import __main__ as command
from bench import floor, machine, recorder, report, scheduler, start
from bench.figure import FLOORS, TABLE, Figure, Machine, Result, figure, kinds, missed
from bench.peers.environment import PEERS, PeerRuns
from bench.plan import FULL, QUICK, SMALLEST
from handshake.storage.schema import open_reader
from handshake.storage.workspace_folder import WorkspaceFolder
from tests.structure.tree import ROOT, dotted, imported, name_of, python_files, syntax, text

PROGRAMS = tuple(ROOT / "bench" / "peers" / program for program in PEERS.values())
MODULES = tuple(path for path in python_files("bench") if path not in PROGRAMS)
PEER = PeerRuns(peer="other", version="1", sqlite="3", runs_per_s=10.0, start_ms=20.0, durable_ms=30.0)
GOALS = {
    "runs": "at_least=6000 floor_ratio_at_least=0.25",
    "runs_behind_queue": "at_least=6000 floor_ratio_at_least=0.25",
    "events_per_run": "at_least=5",
    "commits_per_run": "at_least=2",
    "alone_start": "at_most=0.6",
    "alone_durable": "at_most=1.5",
    "choose_growth": "at_most=1.5",
    "enqueue_growth": "at_most=1.5",
    "index_growth": "at_most=1.5",
    "events_durable": "at_least=40000",
    "verify": "at_least=100000",
    "import_handshake": "at_most=150",
    "handshake_help": "at_most=250",
}
"""What was set as a goal, so that none is softened unseen."""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Measure in a folder of the test's own."""
    monkeypatch.setattr(machine, "RESULTS", tmp_path / "results")
    yield
    assert list((tmp_path / "results").glob("work-*")) == []


def complete(bench: str, found: dict[str, Figure]) -> bool:
    """Return whether a bench gave all of its figures, each a number in the unit of the table."""
    return found.keys() == kinds(bench).keys() and all(
        one.unit == TABLE[name].unit and math.isfinite(one.value) and one.value > 0 for name, one in found.items()
    )


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_imports(path: Path) -> None:
    """Nothing of the bench has fallen behind the code that it measures."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    assert importlib.import_module(name).__doc__


def test_scheduler_figures_are_complete() -> None:
    """Every figure of runs is measured; floors and peers stand beside it, and each run left all its evidence."""
    found = scheduler.measure(SMALLEST, {"other": PEER})
    assert complete("scheduler", found)
    assert found["runs"].ratio_to_floor is not None
    assert [found[name].peers for name in ("runs", "alone_start", "alone_durable")] == [
        {"other": 10.0},
        {"other": 20.0},
        {"other": 30.0},
    ]
    assert (found["events_per_run"].value, found["commits_per_run"].value) == (5.0, 2.0)
    for name in ("choose_growth", "enqueue_growth", "index_growth"):
        assert list(found[name].by_size or {}) == [str(size) for size in SMALLEST.sizes]


def test_recorder_figures_are_complete() -> None:
    """Every figure of the log is measured, beside its floor."""
    found = recorder.measure(SMALLEST)
    assert complete("recorder", found)
    assert all(one.floor for one in found.values())


def test_start_figures_are_complete() -> None:
    """Every figure of whole processes is measured."""
    assert complete("start", start.measure(SMALLEST))


def test_floor_writes_the_rows_that_the_runtime_wrote(tmp_path: Path) -> None:
    """Played back, a recording gives the same database, in two commits for all runs of a round."""
    recording = asyncio.run(floor.record_runs(tmp_path / "recorded", SMALLEST, in_flight=4, count=8))
    assert recording.units == 8
    assert len(recording.measured) == 4
    floor.play(recording, tmp_path / "played.db")
    played = open_reader(tmp_path / "played.db")
    recorded = open_reader(WorkspaceFolder(tmp_path / "recorded").database)
    assert rows(played, "SELECT count(*) FROM event WHERE job_id IS NOT NULL") == [(40,)]
    for table in ("session", "message", "job", "artifact", "tree_pass", "virtual_time"):
        whole = f"SELECT * FROM {table}"
        assert rows(played, whole) == rows(recorded, whole)
    log = "SELECT * FROM event WHERE seq <= (SELECT size FROM log_state) ORDER BY seq"
    assert rows(played, log) == rows(recorded, log)[: len(rows(played, log))]
    played.close()
    recorded.close()


def rows(db: apsw.Connection, query: str) -> list[object]:
    """Return the rows of a query."""
    return list(db.execute(query))


def test_goals_stand() -> None:
    """The goals are those that were set, and every figure belongs to a bench that exists."""
    bounds = ("at_least", "at_most", "floor_ratio_at_least")
    held = {
        name: " ".join(f"{bound}={value:g}" for bound in bounds if (value := getattr(kind, bound)) is not None)
        for name, kind in TABLE.items()
    }
    assert {name: goals for name, goals in held.items() if goals} == GOALS
    assert {kind.bench for kind in TABLE.values()} == set(command.BENCHES)
    assert set(FLOORS) <= set(TABLE)
    assert {QUICK.in_flight, FULL.in_flight} == {64}
    assert (min(FULL.sizes), max(FULL.sizes), FULL.verified_events) == (100, 100_000, 200_000)


def test_figure_is_the_median_and_its_ratio_that_of_the_rounds() -> None:
    """A round is compared with its own floor, so that a machine that slows down slows both."""
    one = figure("runs", [100.0, 10.0, 1_000.0], floors=[400.0, 20.0, 2_000.0])
    assert (one.value, one.floor, one.ratio_to_floor, one.low, one.high) == (100.0, 400.0, 0.5, 10.0, 1_000.0)
    assert missed("runs", one) == ["≥ 6000"]
    assert missed("runs", figure("runs", [7_000.0], floors=[70_000.0])) == ["≥ 0.25 of the floor"]
    assert missed("alone_start", figure("alone_start", [0.7])) == ["≤ 0.6"]


def test_result_is_read_back_and_shown_whole(tmp_path: Path) -> None:
    """JSON has the shape of the interface, and each figure reaches the terminal and the page."""
    result = result_of({name: figure(name, [12.5], floors=[25.0]) for name in TABLE})
    path = tmp_path / "result.json"
    path.write_bytes(report.as_json(result))
    assert report.read(path) == result
    assert report.text(result).count("12.5") == len(TABLE)
    page = report.page(result, f"before\n{report.BEGINS}stale\n{report.ENDS}after\n")
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    assert "stale" not in page
    assert all(f"`{name}`" in page for name in TABLE)
    with pytest.raises(ValueError, match="no marks"):
        report.page(result, "a page without marks")


def result_of(figures: dict[str, Figure]) -> Result:
    """Return a result of no machine in particular."""
    where = Machine(cores=1, architecture="any", system="Linux", python="3", sqlite="3", flush_ms=1.0)
    return Result(bench="all", machine=where, figures=figures)


def test_page_shows_every_figure_of_the_table() -> None:
    """docs/performance.md was written by the table as it is now."""
    page = text(report.PAGE)
    block = page.split(report.BEGINS)[1].split(report.ENDS)[0]
    assert re.findall(r"^\| `(\w+)` \| [\d ,.]+ \S", block, re.MULTILINE) == list(TABLE)


def test_commands_are_told() -> None:
    """Without a command everything is measured; each command says what it does."""
    listed = CliRunner().invoke(command.main, ["--help"])
    assert listed.exit_code == 0
    assert set(command.main.commands) == {*command.BENCHES, "all", "peers-install", "report"}
    assert "Measure everything." in CliRunner().invoke(command.main, ["--quick", "--help"]).output


@pytest.mark.parametrize("path", PROGRAMS, ids=name_of)
def test_peer_programs_tell_what_is_read_of_them(path: Path) -> None:
    """A peer's program knows nothing of ours, and prints the fields that are read."""
    assert not {name for name in imported(syntax(path)) if name.startswith(("handshake", "bench"))}
    told = [
        {key.value for key in node.keys if isinstance(key, ast.Constant)}
        for node in ast.walk(syntax(path))
        if isinstance(node, ast.Dict)
    ]
    assert set(PeerRuns.__struct_fields__) in told
    assert any(dotted(node.func) == "json.dumps" for node in ast.walk(syntax(path)) if isinstance(node, ast.Call))
