"""Border: where whatever a command raises becomes one line, a hint and an exit code; no traceback passes it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

import click

from handshake.kernel.errors import ClientGone, HandshakeError, InvalidRequest, Unexpected

EXIT_FAILED = 1
"""Work that was done and failed."""
EXIT_INTEGRITY = 6
"""Evidence that does not match."""
EXIT_INTERRUPTED = 130
"""Ended by Ctrl-C, SIGTERM or a terminal that closed."""
DEBUG_VARIABLE = "HANDSHAKE_LOG"
"""Set to `debug`, it shows where something unexpected came from."""


class Interrupted(Exception):
    """Ctrl-C or SIGTERM came, and what had to be put in order is.

    Args:
        job_id: the run that ended with it.
        hint: what to do next.
    """

    def __init__(self, job_id: str | None = None, hint: str = "What was committed stays.") -> None:
        super().__init__(job_id)
        self.job_id = job_id
        self.hint = hint


def run(command: click.Command, arguments: Sequence[str]) -> int:
    """Run `command` and return its exit code; whatever it raises is told on standard error."""
    _prepare_streams()
    for number in ending_signals():
        signal.signal(number, _interrupt)
    try:
        code = command.main(args=list(arguments), prog_name="handshake", standalone_mode=False)
        sys.stdout.flush()
    except SystemExit:  # click's own end, for a reader that left
        raise
    except BaseException as raised:  # noqa: BLE001  (this is the border)
        return _tell(raised, as_json="--json" in arguments)
    return int(code or 0)


def ending_signals() -> tuple[signal.Signals, ...]:
    """Return the signals besides Ctrl-C that end a command in order; a hang-up does not under `nohup`."""
    hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    return (signal.SIGTERM, signal.SIGHUP) if hangs_up else (signal.SIGTERM,)


def report(error: HandshakeError, *, as_json: bool) -> None:
    """Print an error on standard error: its line and hint, or one JSON object."""
    if as_json:
        import msgspec

        click.echo(msgspec.json.encode({"error": error.as_dict()}), err=True)
        return
    click.echo(str(error), err=True)
    if error.hint:
        click.echo(f"hint: {error.hint}", err=True)


def _tell(raised: BaseException, *, as_json: bool) -> int:
    """Print what was raised and return the exit code that it stands for."""
    if isinstance(raised, (Interrupted, click.Abort, KeyboardInterrupt)) or type(raised).__name__ == "CancelledError":
        report(_interruption(raised if isinstance(raised, Interrupted) else Interrupted()), as_json=as_json)
        return EXIT_INTERRUPTED
    if isinstance(raised, BrokenPipeError):
        return _reader_left()
    error = _coded(raised)
    report(error, as_json=as_json)
    return error.exit_code


def _interruption(raised: Interrupted) -> ClientGone:
    if raised.job_id is None:
        return ClientGone(reason="interrupted", hint=raised.hint)
    return ClientGone(reason="interrupted", job_id=raised.job_id, hint=raised.hint)


def _coded(raised: BaseException) -> HandshakeError:
    """Return the error of the table that stands for what was raised."""
    while isinstance(raised, BaseExceptionGroup):
        raised = raised.exceptions[0]
    if isinstance(raised, HandshakeError):
        return raised
    if isinstance(raised, click.UsageError):
        return _usage(raised)
    if isinstance(raised, click.ClickException):
        return InvalidRequest(reason="usage", hint=raised.format_message())
    if os.environ.get(DEBUG_VARIABLE, "").lower() == "debug":
        import traceback

        traceback.print_exception(raised)
    return Unexpected(kind=type(raised).__name__)


def _usage(error: click.UsageError) -> InvalidRequest:
    """Return click's complaint about the command line with its way to the help."""
    path = error.ctx.command_path if error.ctx else "handshake"
    see = f"see {path} --help"
    if isinstance(error, click.NoSuchOption):
        near = " or ".join(error.possibilities or ())
        return InvalidRequest(
            field=error.option_name, reason="unknown_option", hint=f"did you mean {near}? {see}" if near else see
        )
    parameter = getattr(error, "param", None)
    field = _spelling(parameter) if isinstance(parameter, click.Parameter) else None
    if isinstance(error, click.MissingParameter):
        return InvalidRequest(field=field, reason="missing", hint=see)
    said = error.format_message().rstrip(".")
    if field is not None:
        return InvalidRequest(field=field, reason="wrong_value", hint=f"{said}; {see}")
    return InvalidRequest(reason="usage", hint=f"{said}; {see}" if said else see)


def _spelling(parameter: click.Parameter) -> str:
    """Return a parameter as people type it."""
    if isinstance(parameter, click.Option):
        return max(parameter.opts, key=len)
    return parameter.human_readable_name


def _prepare_streams() -> None:
    """Let no character end a command, nor a closed stream: what an encoding lacks is shown as its number."""
    if sys.stdout is None or sys.stderr is None:
        nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (it lasts as long as the process)
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _reader_left() -> int:
    """Give up output that nobody reads any more, also what is still in buffers."""
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())
    return EXIT_FAILED


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Treat a signal like Ctrl-C."""
    raise KeyboardInterrupt
