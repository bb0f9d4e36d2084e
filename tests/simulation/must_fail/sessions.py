"""Sessions and jobs: rules of states, order and cancels, each forgotten in turn."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from handshake.kernel import queue, session
from handshake.kernel.session import SessionState
from handshake.operations import attempts, cancelling, outcomes, runs, turns
from handshake.scheduler import dispatcher
from handshake.storage.transaction import SqliteTx
from tests.simulation.must_fail.mutant import mutant, weaken


@mutant("standard", "session.state.active_iff_one_running")
def a_session_may_run_twice(patch: pytest.MonkeyPatch) -> None:
    """Nobody asks whether a run of the session is running."""

    def occupy(self: Any, session_id: Any, lane: Any, key: Any, *, connection: bool = True) -> None:
        original(self, session_id, lane, key, connection=connection)
        line = self._line(session_id)
        line.running = False
        self._offer(line)

    original = queue.RunQueue.occupy
    patch.setattr(queue.RunQueue, "occupy", occupy)
    weaken(patch, "session_started", " AND running = 0")


@mutant("standard", "scheduler.session.head_only")
def later_turns_go_first(patch: pytest.MonkeyPatch) -> None:
    """The youngest turn of a session is its head."""
    original = queue.RunQueue.add

    def add(self: Any, run: Any) -> None:
        original(self, msgspec.structs.replace(run, turn_seq=-run.turn_seq))

    patch.setattr(queue.RunQueue, "add", add)


@mutant("standard", "session.pause.keeps_queue")
def a_pause_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """The index does not hold a paused session."""
    patch.setattr(queue.RunQueue, "hold", lambda self, session_id: None)
    weaken(patch, "session_started", " AND paused = 0")
    weaken(patch, "session_held", "paused = 1 OR ")


@mutant("cancels", "session.state.terminal_is_sticky")
def an_answer_overwrites_a_cancel(patch: pytest.MonkeyPatch) -> None:
    """An answer counts although its run was cancelled, and nothing is cut."""
    patch.setattr(outcomes, "counts", lambda row, ticket, epoch: True)
    patch.setattr(outcomes, "require_one", lambda changed, session_id: None)
    patch.setattr(dispatcher.Dispatcher, "cut", lambda self, job_id, attempt: True)
    patch.setattr(dispatcher.Dispatcher, "is_running", lambda self, ticket: True)
    weaken(patch, "job_answered", " AND state = 'running'")


@mutant("drips", "scheduler.cancel.is_prompt")
def a_cancel_cuts_nothing(patch: pytest.MonkeyPatch) -> None:
    """The flag is set, and the call goes on."""
    patch.setattr(dispatcher.Dispatcher, "cut", lambda self, job_id, attempt: False)
    patch.setattr(dispatcher.Dispatcher, "is_running", lambda self, ticket: True)


@mutant("cancels", "session.state.terminal_is_sticky")
def an_ended_job_can_be_cancelled(patch: pytest.MonkeyPatch) -> None:
    """Nobody asks whether a job has ended before it is cancelled."""
    patch.setattr(cancelling, "TERMINAL", frozenset())
    patch.setattr(cancelling, "move", lambda job_id, before, after: after)


@mutant("standard", "recorder.atomic", "session.state.terminal_is_sticky", "session.state.active_iff_one_running")
def an_event_without_its_state(patch: pytest.MonkeyPatch) -> None:
    """An answer is told and its job is not moved."""
    original = SqliteTx.run

    def run(self: Any, query: str, parameters: Any) -> int:
        return 1 if query == "job_answered" else original(self, query, parameters)

    patch.setattr(SqliteTx, "run", run)


@mutant("standard", "recorder.atomic", "session.state.is_derived", "scheduler.events.on_every_step")
def a_state_without_its_event(patch: pytest.MonkeyPatch) -> None:
    """A cancel moves its job and tells nobody."""
    _forget(patch, "SchedulerCancelled")


@mutant("standard", "message.append.is_atomic")
def a_message_without_its_event(patch: pytest.MonkeyPatch) -> None:
    """Messages are stored, and not told."""
    _forget(patch, "SessionMessage")


@mutant("standard", "message.append.is_atomic")
def a_number_is_given_twice(patch: pytest.MonkeyPatch) -> None:
    """A message has the number of the one before it."""
    original = SqliteTx.add

    def add(self: Any, query: str, parameters: Any) -> None:
        original(self, query, {**parameters, "seq": max(1, parameters["seq"] - 1)})

    patch.setattr(SqliteTx, "add", add)


@mutant("standard", "scheduler.events.on_every_step", "recorder.atomic")
def a_dispatch_without_its_event(patch: pytest.MonkeyPatch) -> None:
    """Runs start, and nobody is told."""
    _forget(patch, "SchedulerDispatch")


@mutant("standard", "message.content.only_in_artifacts")
def content_in_a_row(patch: pytest.MonkeyPatch) -> None:
    """A job's row says why it was cancelled in the words of its turn."""
    original = SqliteTx.run

    def run(self: Any, query: str, parameters: Any) -> int:
        if query == "job_move":
            parameters = {**parameters, "reason": "it said qzx people-0-1 amber"}
        return original(self, query, parameters)

    patch.setattr(SqliteTx, "run", run)


@mutant("standard", "session.state.is_derived", "recorder.atomic")
def a_state_that_does_not_follow(patch: pytest.MonkeyPatch) -> None:
    """An answered session is told to be CREATED."""
    patch.setattr(attempts, "derive", lambda facts: SessionState.CREATED)


@mutant("standard", "scheduler.session.head_only", "message.thread.rebuilds_same_bytes")
def unanswered_turns_are_sent(patch: pytest.MonkeyPatch) -> None:
    """A request holds every turn of its session, also later ones and those that failed."""
    original = turns.load_request

    def load(reader: Any, ticket: Any, *, max_bytes: int | None) -> Any:
        class Generous:
            def row(self, query: str, parameters: Any) -> Any:
                return reader.row(query, parameters)

            def rows(self, query: str, parameters: Any) -> Any:
                found = reader.rows(query, {**parameters, "turn_seq": 1_000_000})
                return [(row[0], "USER", row[2], row[3]) if row[1] == "USER" else row for row in found] + [
                    (row[0], "ASSISTANT", row[2], row[3]) for row in found[:1]
                ]

            def artifact(self, artifact_id: Any) -> Any:
                return reader.artifact(artifact_id)

        generous: Any = Generous()
        return original(generous, ticket, max_bytes=max_bytes)

    patch.setattr(turns, "load_request", load)


@mutant("standard", "scheduler.idempotency.same_key_same_job")
def an_idempotency_key_is_ignored(patch: pytest.MonkeyPatch) -> None:
    """A turn that is sent twice becomes two jobs."""
    original = runs.accept

    def accept(tx: Any, index: Any, turn: Any, *rest: Any) -> Any:
        return original(tx, index, msgspec.structs.replace(turn, idempotency_key=None), *rest)

    patch.setattr(runs, "accept", accept)


@mutant(
    "cancels", "session.state.is_derived", "recorder.atomic", "session.state.active_iff_one_running",
    "recovery.batch.rollback_is_whole", "recovery.outcome.never_lost",
)  # fmt: skip
def a_completed_session_keeps_its_work(patch: pytest.MonkeyPatch) -> None:
    """Cancelling a session does not cancel its runs."""
    from handshake.operations import sessions

    nothing = cancelling.CancelResult(True, False, None)
    patch.setattr(sessions, "cancel_run", lambda *given, **named: nothing)
    patch.setattr(session, "require_completable", lambda one, *, open_jobs: None)


def _forget(patch: pytest.MonkeyPatch, kind: str) -> None:
    original = SqliteTx.append

    def append(self: Any, payload: Any, context: Any) -> None:
        if type(payload).__name__ != kind:
            original(self, payload, context)

    patch.setattr(SqliteTx, "append", append)
