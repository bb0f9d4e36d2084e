"""The border: whatever is raised becomes one coded line, a hint and an exit code."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable, Iterator

import click
import pytest

from handshake.cli import border
from handshake.cli.border import Interrupted, run
from handshake.kernel.errors import (
    ConsentRequired,
    HandshakeError,
    IntegrityBroken,
    NotFound,
    ProviderFailed,
    StateConflict,
)


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    kept = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, kept)


def raising(raised: BaseException) -> click.Command:
    """Return a command that raises."""

    def fail(as_json: bool) -> None:
        raise raised

    return click.Command("fail", callback=fail, params=[click.Option(["--json", "as_json"], is_flag=True)])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ProviderFailed(job_id="j"), 1),
        (ConsentRequired(plan_id="p"), 3),
        (NotFound(kind="job"), 4),
        (StateConflict(reason="held"), 5),
        (IntegrityBroken(subject="event"), 6),
    ],
)
def test_coded_errors_end_with_their_code(error: HandshakeError, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raising(error), []) == code
    assert capsys.readouterr() == ("", f"{error}\nhint: {error.hint}\n")
    assert run(raising(error), ["--json"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err) == {"error": error.as_dict()}


def test_an_error_in_a_group_of_tasks_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    inner = NotFound(kind="job")
    assert run(raising(ExceptionGroup("tasks", [ExceptionGroup("more", [inner])])), []) == 4
    assert capsys.readouterr().err.startswith(str(inner))


def test_what_nobody_expects_is_one_coded_line_without_its_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(border.DEBUG_VARIABLE, raising=False)
    assert run(raising(ValueError("the words of a prompt")), []) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first == "HSK-500-UNEXPECTED: something failed that should not have (kind=ValueError)"
    assert "HANDSHAKE_LOG=debug" in second


def test_debugging_shows_where_it_came_from(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(border.DEBUG_VARIABLE, "debug")
    assert run(raising(ValueError("x")), ["--json"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert json.loads(err.splitlines()[-1])["error"]["code"] == "HSK-500-UNEXPECTED"


@pytest.mark.parametrize("raised", [Interrupted(), KeyboardInterrupt(), asyncio.CancelledError()])
def test_interruption_has_its_own_code(raised: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raising(raised), []) == 130
    assert capsys.readouterr().err.strip().startswith("HSK-499-CLIENT-GONE: the caller went away (reason=interrupted")


def test_sigterm_ends_a_command_like_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    command = click.Command("wait", callback=lambda: signal.raise_signal(signal.SIGTERM))
    assert run(command, []) == 130
    assert "interrupted" in capsys.readouterr().err


@click.command()
@click.argument("number", type=int)
@click.option("--limit", type=click.IntRange(1, 3))
@click.option("--out", type=click.File("wb"))
def _picky(number: int, limit: int | None, out: object) -> int:
    return number


@pytest.mark.parametrize(
    ("arguments", "field", "reason"),
    [
        ([], "NUMBER", "missing"),
        (["x"], "NUMBER", "wrong_value"),
        (["1", "--limit", "9"], "--limit", "wrong_value"),
        (["1", "--limt", "1"], "--limt", "unknown_option"),
        (["1", "--limit"], None, "usage"),
        (["1", "2"], None, "usage"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error_that_names_the_field(
    arguments: list[str], field: str | None, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(_picky, arguments) == 2
    line, hint = capsys.readouterr().err.splitlines()
    named = f"field={field}, reason={reason}" if field else f"reason={reason}"
    assert line == f"HSK-400-INVALID-REQUEST: the request is malformed ({named})"
    assert hint.startswith("hint: ")
    assert "--help" in hint


@pytest.mark.parametrize(("returned", "code"), [(lambda: None, 0), (lambda: 0, 0), (lambda: 6, 6)])
def test_a_command_returns_its_exit_code(returned: Callable[[], int | None], code: int) -> None:
    assert run(click.Command("x", callback=returned), []) == code
