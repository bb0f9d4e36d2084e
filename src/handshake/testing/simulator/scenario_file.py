"""Scenario file: reads a scenario from TOML, strictly: whatever is unknown is refused, with what was probably meant.

Source:
    face.config.strict (07 §1), for scenarios as for configurations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec
from msgspec.inspect import DictType, Type

from handshake.kernel.configuration import resolve
from handshake.kernel.errors import InvalidConfig, NotFound
from handshake.kernel.layer import Layer, LayerName, dotted
from handshake.kernel.schema import Unfit, expectation, fields_of, plain, read
from handshake.kernel.suggestion import suggest
from handshake.storage.config_file import read_layer
from handshake.testing.simulator.scenario import TABLES, Entry, RunPlan, Scenario
from handshake.testing.simulator.simulated_tools import DEFINITIONS

E = TypeVar("E", bound=Entry)

MAX_ENTRIES = 100
"""Entries of one table."""
SUFFIX = ".toml"
_NAMES = ("run", "settings", *TABLES)
_LAYER = LayerName.FLAG
"""A scenario is named by a flag, and so are its mistakes."""


def shipped() -> dict[str, Path]:
    """Return the scenarios of this package by name."""
    folder = Path(str(files("handshake.testing.simulator") / "scenarios"))
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}


def load(name: str) -> Scenario:
    """Return a shipped scenario by its name, or one from a file by its path.

    Raises:
        NotFound: there is neither.
        InvalidConfig: a key is unknown, or a value of the wrong type or out of range.
    """
    known = shipped()
    path = known.get(name) or Path(name)
    if not path.is_file():
        near = suggest(name, known)
        raise NotFound(
            kind="scenario", id=name, hint=f"Did you mean {near}?" if near else f"Known: {', '.join(known)}."
        )
    return parse(path.stem, read_layer(path, _LAYER).values)


def parse(name: str, values: Mapping[str, Any]) -> Scenario:
    """Return the scenario that TOML's tables describe.

    Raises:
        InvalidConfig: a key is unknown or missing, a value of the wrong type or out of range, or a name of nothing.
    """
    for key in values:
        if key not in _NAMES:
            _unknown((key,), _NAMES)
    given = {key: _table((key,), values.get(key, {})) for key in _NAMES}
    tables = {key: _entries(key, given[key], kind) for key, kind in TABLES.items()}
    scenario = Scenario(
        name=name,
        run=_entry(("run",), given["run"], RunPlan),
        settings=resolve([Layer(_LAYER, given["settings"])]).settings,
        **tables,
    )
    _check_names(scenario)
    return scenario


def _entries(key: str, table: Mapping[str, Any], kind: type[E]) -> dict[str, Any]:
    if len(table) > MAX_ENTRIES:
        _refuse((key,), "too_many", expected=f"at most {MAX_ENTRIES} entries")
    return {name: _entry((key, name), _table((key, name), value), kind) for name, value in table.items()}


def _entry(path: tuple[str, ...], table: Mapping[str, Any], kind: type[E]) -> E:
    known = {field.encode_name: field for field in fields_of(plain(kind))}
    for key in table:
        if key not in known:
            _unknown((*path, key), known)
    for key, field in known.items():
        if field.required and key not in table:
            _refuse((*path, key), "missing", expected=expectation(field.type))
    return msgspec.convert({key: _value((*path, key), value, known[key].type) for key, value in table.items()}, kind)


def _value(path: tuple[str, ...], value: object, kind: Type) -> object:
    inner = plain(kind)
    if isinstance(inner, DictType):
        return {key: _value((*path, key), one, inner.value_type) for key, one in _table(path, value).items()}
    try:
        return read(value, kind)
    except Unfit:
        _refuse(path, "wrong_value", expected=expectation(kind))


def _table(path: tuple[str, ...], value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        _refuse(path, "wrong_value", expected="a table")
    return value


def _check_names(scenario: Scenario) -> None:
    """Refuse an entry that names what the scenario does not have."""
    providers = scenario.settings.providers
    for needed in ("answers", "providers", "sessions", "clients"):
        if not getattr(scenario, needed):
            _refuse((needed,), "missing", expected="at least one entry")
    for name, provider in scenario.providers.items():
        _require(("providers", name), name, providers)
        for answer in provider.answers:
            _require(("providers", name, "answers", answer), answer, scenario.answers)
    _check_tools(scenario)
    for name, weather in scenario.weather.items():
        _require(("weather", name, "provider"), weather.provider, scenario.providers)
        _require(("weather", name, "answer"), weather.answer, scenario.answers)
    for name, session in scenario.sessions.items():
        _require(("sessions", name, "model"), session.model.partition("/")[0], scenario.providers)
    for name, client in scenario.clients.items():
        _require(("clients", name, "sessions"), client.sessions, scenario.sessions)


def _check_tools(scenario: Scenario) -> None:
    for name in scenario.tools:
        _require(("tools", name), name, DEFINITIONS)
    for name, plan in scenario.answers.items():
        for call in plan.calls:
            _require(("answers", name, "calls", call), call, scenario.calls)


def _require(path: tuple[str, ...], name: str, known: Iterable[str]) -> None:
    words = list(known)
    if name not in words:
        near = suggest(name, words)
        _refuse(path, "unknown_name", hint=f"Did you mean {near}?" if near else f"Known here: {', '.join(words)}.")


def _unknown(path: tuple[str, ...], known: Iterable[str]) -> NoReturn:
    words = list(known)
    near = suggest(path[-1], words)
    meant = dotted((*path[:-1], near)) if near else None
    _refuse(path, "unknown_key", hint=f"Did you mean {meant}?" if meant else f"Known here: {', '.join(words)}.")


def _refuse(path: tuple[str, ...], reason: str, *, hint: str | None = None, **allowed: str) -> NoReturn:
    raise InvalidConfig(key=dotted(path), layer="scenario", reason=reason, hint=hint, **allowed)
