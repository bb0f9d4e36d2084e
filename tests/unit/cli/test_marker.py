"""The status marker: one line that splits at spaces and equal signs, whatever names hold."""

from __future__ import annotations

import pytest

from handshake.cli.marker import KEYS, PREFIX, _phase, spell


def test_names_cannot_break_the_line_up() -> None:
    values = dict.fromkeys(KEYS, "-") | {"wp": "two words", "mt": "a=b\n", "model": "tiny/qwen2.5:7b", "role": "Über"}
    line = spell(values)
    prefix, *fields = line.split(" ")
    assert prefix == PREFIX
    assert [field.split("=")[0] for field in fields] == list(KEYS)
    assert all(field.count("=") == 1 for field in fields)
    assert "wp=two%20words" in fields
    assert "mt=a%3Db%0A" in fields
    assert "model=tiny/qwen2.5:7b" in fields


@pytest.mark.parametrize(
    ("sessions", "phase"),
    [
        ({}, "BOOTSTRAP"),
        ({"CREATED": 2, "COMPLETED": 1}, "BOOTSTRAP"),
        ({"IDLE": 1, "COMPLETED": 1}, "IMPLEMENTATION"),
        ({"ACTIVE": 1, "CREATED": 1}, "IMPLEMENTATION"),
        ({"PAUSED": 1}, "IMPLEMENTATION"),
        ({"BLOCKED": 1, "ACTIVE": 3}, "BLOCKED"),
        ({"FAILED": 1, "COMPLETED": 4}, "FAILSTATE"),
        ({"COMPLETED": 4, "CANCELLED": 1}, "DONE"),
    ],
)
def test_the_phase_follows_from_the_states_of_sessions(sessions: dict[str, int], phase: str) -> None:
    assert _phase(sessions) == phase
