from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest

from handshake.kernel.errors import InvalidConfig, NotFound
from handshake.kernel.lane import Lane
from handshake.testing.simulator import load, shipped
from handshake.testing.simulator.scenario import FaultKind, Form
from handshake.testing.simulator.scenario_file import parse

SMALL = """
[run]
description = "Small."
[settings.providers.desk]
dialects = ["openai_chat"]
base_url = "http://127.0.0.1:1/v1"
[answers.normal]
[providers.desk.answers]
normal = 1
[sessions.people]
model = "desk/small"
[clients.people]
sessions = "people"
"""


def small() -> dict[str, Any]:
    return copy.deepcopy(tomllib.loads(SMALL))


def refused(values: dict[str, Any]) -> InvalidConfig:
    with pytest.raises(InvalidConfig) as error:
        parse("small", values)
    return error.value


def test_what_is_not_said_has_its_default() -> None:
    scenario = parse("small", small())
    assert scenario.sessions["people"].lane is Lane.PRIMARY
    assert scenario.answers["normal"].form is Form.STREAM
    assert (scenario.faults, scenario.weather) == ({}, {})
    assert scenario.settings.providers["desk"].base_url == "http://127.0.0.1:1/v1"


@pytest.mark.parametrize(
    ("path", "value", "reason", "hint"),
    [
        (("session",), {}, "unknown_key", "Did you mean sessions?"),
        (("run", "setle_ms"), 1, "unknown_key", "Did you mean run.settle_ms?"),
        (("run", "xyzzy"), 1, "unknown_key", "Known here: description,"),
        (("answers", "normal", "words"), -1, "wrong_value", ""),
        (("answers", "normal", "form"), "poem", "wrong_value", ""),
        (("answers", "normal"), 7, "wrong_value", ""),
        (("providers", "desk", "answers", "normal"), "much", "wrong_value", ""),
        (("providers", "desk", "answers", "normol"), 1, "unknown_name", "Did you mean normal?"),
        (("providers", "shed"), {"answers": {"normal": 1}}, "unknown_name", "Known here: desk."),
        (("sessions", "people", "model"), "dask/small", "unknown_name", "Did you mean desk?"),
        (("clients", "people", "sessions"), "peple", "unknown_name", "Did you mean people?"),
        (("clients", "others"), {}, "missing", ""),
        (("faults", "one"), {"kind": "quake"}, "wrong_value", ""),
        (("weather", "one"), {"provider": "desk", "answer": "storm"}, "unknown_name", ""),
        (("sessions",), {}, "missing", ""),
    ],
)
def test_what_is_wrong_is_refused_by_its_key(path: tuple[str, ...], value: object, reason: str, hint: str) -> None:
    values = small()
    table = values
    for part in path[:-1]:
        table = table.setdefault(part, {})
    table[path[-1]] = value
    error = refused(values)
    assert error.context["reason"] == reason
    assert str(error.context["key"]).startswith(".".join(path[:1]))
    assert hint in error.hint


def test_settings_are_as_strict_as_a_workspace_is() -> None:
    values = small()
    values["settings"]["scheduler"] = {"max_concurent_runs": 3}
    assert "scheduler.max_concurrent_runs" in refused(values).hint


def test_too_many_entries_are_refused() -> None:
    values = small()
    values["answers"] = {f"a{number}": {} for number in range(101)} | {"normal": {}}
    assert refused(values).context["reason"] == "too_many"


def test_shipped_scenarios_cover_every_fault() -> None:
    kinds = {fault.kind for name in shipped() for fault in load(name).faults.values()}
    assert kinds == set(FaultKind)
    forms = {answer.form for name in shipped() for answer in load(name).answers.values()}
    assert forms == set(Form)


def test_a_file_is_a_scenario_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SMALL, encoding="utf-8")
    assert load(str(path)).name == "mine"
    with pytest.raises(NotFound) as missing:
        load("standrd")
    assert missing.value.hint == "Did you mean standard?"
