"""Rendering: what goes to pipes is exact and aligned, what goes to terminals is harmless."""

from __future__ import annotations

import json

import pytest

from handshake.cli.rendering import (
    MAX_CELL_CHARS,
    cell,
    one_line,
    print_object,
    print_objects,
    print_record,
    print_table,
    print_text,
    spelled_out,
)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (True, "yes"),
        (False, "no"),
        (0, "0"),
        ({"idle": 2, "failed": None}, "idle 2, failed -"),
        ({}, "-"),
        ("a\n b\x1b[0m\u202ec", "a b?[0m?c"),
        ("x" * 100, "x" * (MAX_CELL_CHARS - 1) + "…"),
    ],
)
def test_a_cell_is_one_short_harmless_line(value: object, shown: str) -> None:
    assert cell(value) == shown


def test_one_line_keeps_words_of_any_script() -> None:
    assert one_line("Übung\tmacht\r\n den 匠") == "Übung macht den 匠"


def test_a_table_on_a_pipe_is_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("ID", "STATE", "TITLE"), [("a", "IDLE", None), ("bcd", "ACTIVE", "two words")])
    assert capsys.readouterr().out == ("ID   STATE   TITLE\na    IDLE    -\nbcd  ACTIVE  two words\n")


def test_a_table_without_rows_shows_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("ID", "STATE"), [])
    assert capsys.readouterr().out == "ID  STATE\n"


def test_a_record_leaves_out_what_is_not_set(capsys: pytest.CaptureFixture[str]) -> None:
    print_record({"job_id": "j", "ended_at": None, "attempt": 0})
    assert capsys.readouterr().out == "job id   j\nattempt  0\n"


def test_json_is_utf8_on_lines_of_its_own(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    print_objects([{"text": "über\n"}, {"n": 1}])
    print_object([])
    lines = capsysbinary.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [{"text": "über\n"}, {"n": 1}, []]
    assert "über".encode() in lines[0]


def test_text_on_a_pipe_is_exact(capsys: pytest.CaptureFixture[str]) -> None:
    print_text("a\x1b[31mb\x07", nl=False)
    assert capsys.readouterr().out == "a\x1b[31mb\x07"


def test_text_on_a_terminal_is_harmless(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    print_text("a\x1b[31mb\x07\n\tc")
    assert capsys.readouterr().out == "a?[31mb?\n\tc\n"


def test_a_table_on_a_terminal_shows_markup_as_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    print_table(("ID", "TITLE"), [("0" * 36, "[red]not red[/red] but a title of many words")])
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:2] == ["0" * 36, "[red]not"] for line in lines)


def test_a_terminal_that_is_too_narrow_for_ids_gets_them_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    print_table(("A", "B"), [("0" * 36, "1" * 36)])
    assert capsys.readouterr().out.splitlines()[1] == f"{'0' * 36}  {'1' * 36}"


def test_what_cannot_be_seen_in_the_arguments_of_a_call_is_spelled_out_and_says_the_same() -> None:
    arguments = '{"a":"two  words \u202e\u009b\U000e0041\x7f","ü":"匠\\n"}'
    assert spelled_out(arguments) == '{"a":"two  words \\u202e\\u009b\\udb40\\udc41\\u007f","ü":"匠\\n"}'
    assert json.loads(spelled_out(arguments)) == json.loads(arguments)
