"""Sending: `session send` queues a turn, streams its answer as it comes, and tells how it ended."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from handshake.cli import place, shapes
from handshake.cli.border import Interrupted, report
from handshake.cli.command import Invocation, verb
from handshake.cli.rendering import is_terminal, note, print_object, print_text, spelled_out
from handshake.kernel.errors import (
    BudgetExceeded,
    Draining,
    InvalidRequest,
    InvalidTransition,
    ScopeOverlap,
    StateConflict,
    TooLarge,
    Unexpected,
    catalogue,
)
from handshake.kernel.settings import MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from handshake.cli.interruption import Interruption
    from handshake.kernel.errors import HandshakeError
    from handshake.kernel.lane import Lane
    from handshake.kernel.session import Session
    from handshake.workspace import Result, TurnHandle, Workspace

_HANDED_BACK = "the run had not ended in time and is queued again; go on with: handshake queue run"
EXIT_WAITS = 3
"""A call may not be made until a person approves it."""
STDIN = "-"
"""The text that means: read it from standard input."""


@verb(
    None,
    "send",
    example='handshake session send SESSION_ID "Say hello."\ngit diff | handshake session send SESSION_ID -',
)
@click.argument("session_id", metavar="ID")
@click.argument("text", metavar="TEXT")
@click.option("--lane", help="Another lane than the session's: PRIMARY, VALIDATION, SUBAGENT or BACKGROUND.")
@click.option("--priority", type=int, metavar="0-100", help="Lower goes first within its lane; 50 unless told.")
@click.option("--max-tokens", type=int, metavar="N", help="Most tokens of the answer.")
@click.option("--timeout-ms", type=int, metavar="MS", help="Longest time of one attempt.")
@click.option(
    "--idempotency-key", metavar="KEY", help="The same key and request give the same run, however often sent."
)
@click.option(
    "--from-session", metavar="ID", help="The session whose words TEXT is; what it did not say so is untrusted."
)
@click.option("--no-wait", is_flag=True, help="Only queue the turn and print its job; `queue run` carries it out.")
def send(
    invocation: Invocation,
    session_id: str,
    text: str,
    lane: str | None,
    priority: int | None,
    max_tokens: int | None,
    timeout_ms: int | None,
    idempotency_key: str | None,
    from_session: str | None,
    no_wait: bool,
) -> int:
    """Send TEXT (`-` reads standard input) to a session and print the answer as it comes.

    The turn is durable before anything is sent. Ctrl-C cancels its run; SIGTERM gives it some seconds to end, then
    it goes back to the queue; a second signal cuts. Other queued runs of the workspace go on while this command runs,
    and what is unfinished at its end goes back to the queue.
    """
    from handshake.cli.interruption import run_async
    from handshake.kernel.job import DEFAULT_PRIORITY
    from handshake.kernel.lane import Lane
    from handshake.operations import naming

    order = _Order(
        session_id,
        _read_stdin() if text == STDIN else text,
        None if lane is None else naming.choice(Lane, "lane", lane),
        DEFAULT_PRIORITY if priority is None else priority,
        max_tokens,
        timeout_ms,
        idempotency_key,
        from_session,
    )
    root = place.find(invocation).root
    if no_wait:
        return run_async(lambda interruption: _queue(invocation, root, order))
    return run_async(lambda interruption: _send(invocation, root, order, interruption))


class _Order:
    """What is asked for."""

    def __init__(
        self,
        session_id: str,
        text: str,
        lane: Lane | None,
        priority: int,
        max_tokens: int | None,
        timeout_ms: int | None,
        idempotency_key: str | None,
        from_session: str | None,
    ) -> None:
        self.session_id = session_id
        self.text = text
        self.lane = lane
        self.priority = priority
        self.max_tokens = max_tokens
        self.timeout_ms = timeout_ms
        self.idempotency_key = idempotency_key
        self.from_session = from_session

    async def place(self, workspace: Workspace) -> TurnHandle:
        """Queue the turn."""
        return await workspace.sessions.get(self.session_id).send(
            self.text,
            lane=self.lane,
            priority=self.priority,
            max_output_tokens=self.max_tokens,
            timeout_ms=self.timeout_ms,
            idempotency_key=self.idempotency_key,
            from_session=self.from_session,
        )


async def _queue(invocation: Invocation, root: Path, order: _Order) -> int:
    from handshake.workspace import open_workspace

    async with open_workspace(root, dispatch=False) as workspace:
        turn = await order.place(workspace)
        state = (await workspace.job(turn.job_id)).state
    if invocation.as_json:
        print_object(
            {
                "job_id": turn.job_id,
                "session_id": turn.session_id,
                "turn_id": turn.turn_id,
                "state": state,
                "repeated": turn.repeated,
            }
        )
    else:
        click.echo(turn.job_id)
    return 0


async def _send(invocation: Invocation, root: Path, order: _Order, interruption: Interruption) -> int:
    from handshake.workspace import DRAIN_S, open_workspace

    async with open_workspace(root) as workspace:
        _refuse_held(await workspace.sessions.get(order.session_id).show())
        turn = await order.place(workspace)
        interruption.drains(workspace.drain, DRAIN_S)
        try:
            async with interruption.scope():
                return _end(invocation, await _stream(invocation, workspace, turn))
        except (Interrupted, OSError):  # also: nobody reads the answer any more
            if interruption.is_draining:
                workspace.drain_s = 0
                raise Draining(job_id=turn.job_id, reason="drained", hint=_HANDED_BACK) from None
            await _cancel(turn)
            if interruption.happened:
                hint = f"The run is cancelled: handshake job show {turn.job_id}"
                raise Interrupted(turn.job_id, hint) from None
            raise


def _refuse_held(session: Session) -> None:
    """Refuse to wait for a session that only another command can set going: this one keeps all others out.

    Raises:
        StateConflict: the session is paused, or is BLOCKED.
    """
    from handshake.kernel.session import SessionState

    later = "or queue the turn with --no-wait"
    if session.paused:
        raise StateConflict(
            session_id=session.session_id,
            reason="session_paused",
            hint=f"resume it: handshake session resume {session.session_id}; {later}",
        )
    if session.state is SessionState.BLOCKED:
        step = (
            "answer what waits: handshake desk list"
            if session.waiting
            else "look at what holds it: " + (f"handshake session show {session.session_id}")
        )
        raise StateConflict(session_id=session.session_id, reason="session_blocked", hint=f"{step}; {later}")


async def _stream(invocation: Invocation, workspace: Workspace, turn: TurnHandle) -> Result:
    """Print the answer's text as it comes, and return how the turn ended."""
    from handshake.cli.status_line import StatusLine
    from handshake.operations.feed import AwaitingUser, Text, ToolEnded

    answer = _Answer(quiet=invocation.as_json)
    async with StatusLine(workspace, turn.job_id, quiet=invocation.as_json) as status:
        try:
            async for piece in turn:
                if not isinstance(piece, Text):
                    answer.end_line()
                status.take(piece)
                if isinstance(piece, Text):
                    answer.add(piece.text)
                elif isinstance(piece, ToolEnded) and piece.error_code == ScopeOverlap.code:
                    raise await _held_by_another(workspace, turn)
                elif isinstance(piece, AwaitingUser) and not await _asked(invocation, workspace, turn):
                    break
            result = await turn.so_far()
            if result.text and not answer.shown:  # an earlier turn's, found by its key
                answer.add(result.text)
        finally:
            answer.end_line()
        status.end(result)
    return result


async def _held_by_another(workspace: Workspace, turn: TurnHandle) -> ScopeOverlap:
    """Return the error that names who writes what the turn would write; only another command can end that one."""
    from handshake.operations import write_scopes

    held = await workspace.runtime.store.read(lambda reader: write_scopes.held_by(reader, turn.session_id))
    return ScopeOverlap(
        session_id=turn.session_id,
        holder_session_id=held.waits_for,
        hint="the turn is queued; once the holder has ended, go on with: handshake queue run",
    )


async def _asked(invocation: Invocation, workspace: Workspace, turn: TurnHandle) -> bool:
    """Put the call that waits before whoever is here; return False if nobody is who could answer now."""
    import asyncio

    if invocation.as_json or not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        return False
    asked = False
    for question in await workspace.desk.waiting():
        item = question.item
        if item.session_id != turn.session_id or item.call_sha256 is None:
            continue
        asked = True
        note(f"{item.tool_id} wants to be called ({item.reason}); its arguments:")
        note(spelled_out(await question.arguments()))
        if await asyncio.to_thread(click.confirm, "Approve this call, once?", default=False, err=True):
            await question.approve(shown=question.sha256)
        else:
            await question.deny()
    return asked


class _Answer:
    """The answer on standard output, as it comes."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self.shown = ""
        """The last of it."""

    def add(self, text: str) -> None:
        """Print more of it."""
        self.shown = text
        if not self._quiet:
            print_text(text, nl=False)

    def end_line(self) -> None:
        """Let what comes next begin on a line of its own."""
        if self.shown and not self.shown.endswith("\n") and not self._quiet:
            click.echo()
            self.shown = "\n"


async def _cancel(turn: TurnHandle) -> None:
    try:
        await turn.cancel(reason="interrupted")
    except InvalidTransition:  # it had just ended
        note("the run had ended before it could be cancelled")


def _end(invocation: Invocation, result: Result) -> int:
    """Tell how the turn ended; return the exit code."""
    from handshake.kernel.job import JobState

    if invocation.as_json:
        print_object(shapes.result(result))
    if result.state is JobState.COMPLETED_WITH_ISSUES and not invocation.as_json:
        note(f"the answer has issues: {result.reason} (handshake job show {result.job_id})")
    if result.state in (JobState.COMPLETED, JobState.COMPLETED_WITH_ISSUES):
        return 0
    if result.state is JobState.STALLED:
        note("the run was lost and waits for a person: handshake desk list; then go on with: handshake queue run")
        return EXIT_WAITS
    if result.state is JobState.AWAITING_USER:
        note("a call waits for a person: handshake approval list; once it is answered, go on with: handshake queue run")
        return EXIT_WAITS
    failure = _failure(result)
    report(failure, as_json=invocation.as_json)
    return failure.exit_code


def _failure(result: Result) -> HandshakeError:
    """Return the error with which the run ended, with the next step."""
    from handshake.kernel.job import JobState

    known = {leaf.code: leaf for leaf in catalogue()}
    otherwise = StateConflict if result.state is JobState.CANCELLED else Unexpected
    leaf = known.get(result.error_code or "", otherwise)
    show, artifacts = f"handshake job show {result.job_id}", f"handshake job artifacts {result.job_id}"
    hint = f"look at it: {show}; what the provider left: {artifacts}"
    if leaf is BudgetExceeded:
        hint = f"look at the budgets that bind it: handshake session show {result.session_id}"
    return leaf(
        job_id=result.job_id,
        state=result.state.value,
        reason=result.reason,
        attempts=result.attempts,
        hint=hint,
    )


def _read_stdin() -> str:
    """Return what standard input holds, exactly.

    Raises:
        TooLarge: more than a message may have.
        InvalidRequest: not UTF-8, or there is no standard input.
    """
    if sys.stdin is None:
        raise InvalidRequest(field="text", reason="no_standard_input")
    data = sys.stdin.buffer.read(MAX_MESSAGE_BYTES + 1)
    if len(data) > MAX_MESSAGE_BYTES:
        raise TooLarge(field="text", limit_bytes=MAX_MESSAGE_BYTES)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as broken:
        raise InvalidRequest(field="text", reason="not_utf8", position_bytes=broken.start) from None
