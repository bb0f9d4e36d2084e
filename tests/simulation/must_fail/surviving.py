"""Surviving: durability, rollback and recovery, each forgotten in turn."""

from __future__ import annotations

from typing import Any

import pytest

from handshake.kernel.errors import StoreFailed
from handshake.operations import desk, outcomes, turns
from handshake.providers import http_body
from handshake.scheduler import dispatcher, lease_watch, recovery
from handshake.storage import committer, event_log, schema
from handshake.testing import medium_files, virtual_clock
from tests.simulation.must_fail.mutant import mutant, weaken


@mutant("crashes", "recovery.power_loss.loses_nothing")
def commits_are_not_synced(patch: pytest.MonkeyPatch) -> None:
    """A commit is answered before it is on the disk."""
    original = schema._configure

    def configure(db: Any) -> None:
        original(db)
        db.execute("PRAGMA synchronous=OFF").fetchall()

    patch.setattr(schema, "_configure", configure)


@mutant("crashes", "message.append.is_atomic", "recovery.power_loss.loses_nothing", seeds=6)
def large_artifacts_are_not_synced(patch: pytest.MonkeyPatch) -> None:
    """The folder of a large artifact is not synced before a row refers to it."""
    patch.setattr(medium_files.MediumFiles, "sync_folder", lambda self, path: None)


@mutant(
    "disk",
    "recovery.batch.rollback_is_whole",
    "recorder.atomic",
    "session.state.terminal_is_sticky",
    "recovery.outcome.never_lost",
)
def a_commit_that_failed_is_answered(patch: pytest.MonkeyPatch) -> None:
    """When COMMIT fails, the units are reported done all the same."""
    original = committer.Committer.commit

    def commit(self: Any, units: Any) -> Any:
        values: list[Any] = []

        def kept(unit: Any) -> Any:
            def run(tx: Any) -> Any:
                values.append(unit(tx))
                return values[-1]

            return run

        found = original(self, [kept(unit) for unit in units])
        return [committer.Outcome(value=values[-1]) if one.failure and values else one for one in found]

    patch.setattr(committer.Committer, "commit", commit)


@mutant(
    "disk", "scheduler.queue.no_head_of_line_blocking", "scheduler.queue.never_drops",
    "recovery.batch.rollback_is_whole", "scheduler.limit.is_never_exceeded",
)  # fmt: skip
def the_index_is_not_read_again(patch: pytest.MonkeyPatch) -> None:
    """After a batch that was lost the index stays as the batch left it."""
    original = dispatcher.Dispatcher.reload
    read: set[int] = set()

    def reload(self: Any, tx: Any) -> None:
        if id(self) not in read:
            read.add(id(self))
            original(self, tx)

    patch.setattr(dispatcher.Dispatcher, "reload", reload)


@mutant("crashes", "scheduler.queue.never_drops", "recovery.start.stalls_orphans")
def orphans_are_left_running(patch: pytest.MonkeyPatch) -> None:
    """A start does not look for runs of a dead runtime."""
    patch.setattr(recovery, "take_over", lambda *given: 0)


@mutant("crashes", "scheduler.queue.no_head_of_line_blocking", "scheduler.queue.never_drops")
def the_queue_is_not_read_at_a_start(patch: pytest.MonkeyPatch) -> None:
    """What waited when a runtime died is not looked for."""
    weaken(patch, "job_queue", "state = 'queued'", "state = 'queued' AND attempt > 0")


@mutant("disk", "scheduler.queue.never_drops", "recovery.outcome.never_lost")
def an_outcome_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """An outcome that cannot be stored is tried once."""

    async def once(self: Any, keep: Any) -> Any:
        return await keep()

    patch.setattr(turns.Turns, "_until_kept", once)


@mutant("disk", "recovery.outcome.never_lost", seeds=6)
def runs_start_while_outcomes_wait(patch: pytest.MonkeyPatch) -> None:
    """The dispatcher goes on although an outcome could not be stored yet."""
    patch.setattr(dispatcher.Dispatcher, "is_held_back", False)


@mutant("standard", "recorder.log.verifies")
def events_do_not_chain(patch: pytest.MonkeyPatch) -> None:
    """Events say of the one before them what they like."""
    original = event_log.EventLog.extend

    def extend(self: Any, db: Any, sealed: Any, at_us: int) -> Any:
        class Alone:
            def __init__(self, one: Any) -> None:
                self._one = one

            def __getattr__(self, name: str) -> Any:
                return getattr(self._one, name)

            def body(self, seq: int, prev: str) -> bytes:
                return bytes(self._one.body(seq, "0" * 64))

        alone: Any = [Alone(one) for one in sealed]
        return original(self, db, alone, at_us)

    patch.setattr(event_log.EventLog, "extend", extend)


@mutant("crashes", "recovery.lease.late_result_is_fenced", "session.state.terminal_is_sticky", "recorder.atomic")
def late_results_count(patch: pytest.MonkeyPatch) -> None:
    """A result counts for whatever attempt is running, also when its runtime was stopped."""
    original = outcomes.inference

    def inference(ticket: Any, *rest: Any, **named: Any) -> Any:
        import msgspec

        return original(msgspec.structs.replace(ticket, attempt=max(0, ticket.attempt - 1)), *rest, **named)

    patch.setattr(outcomes, "inference", inference)


@mutant("standard", "recorder.disk_full.fails_whole")
def what_is_refused_is_stored(patch: pytest.MonkeyPatch) -> None:
    """Now and then a batch is stored, and reported to have failed."""
    original = committer.Committer.commit

    def commit(self: Any, units: Any) -> Any:
        found = original(self, units)
        return found if self.batches % 7 else [committer.Outcome(failure=StoreFailed(reason="broken")) for _ in found]

    patch.setattr(committer.Committer, "commit", commit)


@mutant("standard", "recorder.schema.enforced")
def events_have_fields_of_their_own(patch: pytest.MonkeyPatch) -> None:
    """Events are written with a field that their type does not have."""
    original = event_log.EventLog.extend

    def extend(self: Any, db: Any, sealed: Any, at_us: int) -> Any:
        class Wider:
            def __init__(self, one: Any) -> None:
                self._one = one

            def __getattr__(self, name: str) -> Any:
                return getattr(self._one, name)

            def body(self, seq: int, prev: str) -> bytes:
                return bytes(self._one.body(seq, prev)).replace(b'"payload":{', b'"payload":{"a":1,')

        wider: Any = [Wider(one) for one in sealed]
        return original(self, db, wider, at_us)

    patch.setattr(event_log.EventLog, "extend", extend)


@mutant("clocks", "recovery.clock.jumps_are_harmless")
def timeouts_follow_the_wall_clock(patch: pytest.MonkeyPatch) -> None:
    """An hour that the wall clock jumps is an hour that a provider was late."""

    class WallTime:
        def __init__(self, loop: Any) -> None:
            self._loop = loop

        def time(self) -> float:
            return float(self._loop._clock._wall_us - virtual_clock.START_US) / 1_000_000

        def call_at(self, when: float, call: Any) -> Any:
            return self._loop.call_later(max(0.0, when - self.time()), call)

    original = http_body.Deadlines.__init__

    def init(self: Any, limits: Any) -> None:
        original(self, limits)
        self._loop = WallTime(self._loop)
        begun = self._loop.time()
        self._total_at = begun + limits.total_ms / 1_000
        self._first_byte_at = begun + limits.first_byte_ms / 1_000

    patch.setattr(http_body.Deadlines, "__init__", init)


@mutant("lost", "recovery.lease.late_result_is_fenced")
def leases_are_not_watched(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks whether a worker came back in time."""
    patch.setattr(lease_watch.LeaseWatch, "begin", lambda self: None)


@mutant("lost", "recovery.actions.are_evented")
def an_approval_is_bound_to_nothing(patch: pytest.MonkeyPatch) -> None:
    """Whatever hash an approval names, it counts."""
    patch.setattr(desk, "require_shown", lambda item, shown: None)
