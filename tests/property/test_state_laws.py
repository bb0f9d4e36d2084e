"""Laws of states: after any sequence of operations, crashes and races, everything stored follows from the jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from handshake.bootstrap import limits_of
from handshake.kernel.errors import Conflict, HandshakeError, NotFound
from handshake.kernel.ids import JobId, SessionId
from handshake.kernel.job import TERMINAL, Job, JobState, RunTicket
from handshake.kernel.lane import LANES
from handshake.kernel.retry import Fault, FaultKind
from handshake.kernel.session import TERMINAL as ENDED
from handshake.kernel.session import Session, SessionState
from handshake.kernel.settings import DESK_RECOVERY_EXPIRY_S, LocalRuns, ModelSettings
from handshake.kernel.waiting import WaitReason
from handshake.operations import sessions, views
from handshake.ports.store import Unit
from handshake.testing.invariants import Contents
from tests.requirement import requirement
from tests.running import MODEL, Stage, settings_of

FAULTS = [
    Fault(kind, status, None, sent=True, consumed=consumed)
    for kind, status in [*((one, None) for one in FaultKind), (FaultKind.STATUS, 429), (FaultKind.STATUS, 400)]
    for consumed in (False, True)
]
SECOND_US = 1_000_000
ALLOWED = (Conflict, NotFound)
"""Refusals that random moves may meet; any other failure is a fault."""


class Game:
    """Random moves on a stage; every ticket that was ever given out may come back at any time."""

    def __init__(self, stage: Stage, chance: Random) -> None:
        self.stage = stage
        self.chance = chance
        self.sessions: list[SessionId] = []
        self.tickets: list[tuple[RunTicket, int]] = []
        self.turns = 0
        self.before: Contents | None = None

    async def step(self) -> None:
        """Make one to four moves in one batch, or let the process die, and check everything."""
        stage = self.stage
        if self.chance.random() < 0.04:
            await stage.begin()
        elif self.chance.random() < 0.2:
            stage.clock.advance(self.chance.choice((1, SECOND_US, 70 * SECOND_US)))
            await stage.look()
        elif self.chance.random() < 0.02:
            stage.clock.advance(DESK_RECOVERY_EXPIRY_S * SECOND_US)
            await stage.batch(stage.expiring())
        else:
            units = [self.move() for _ in range(self.chance.randint(1, 4))]
            for result in await stage.batch(*units):
                assert not isinstance(result, BaseException) or isinstance(result, ALLOWED), repr(result)
        self.note(stage.check())

    def move(self) -> Unit[Any]:
        """Return a random move."""
        stage, chance = self.stage, self.chance
        if len(self.sessions) < 6 or chance.random() < 0.05:
            return self.create()
        session_id = chance.choice(self.sessions)
        moves: list[tuple[int, Callable[[], Unit[Any]]]] = [
            (40, lambda: self.send(session_id)),
            (5, lambda: stage.pausing(session_id)),
            (8, lambda: stage.resuming(session_id)),
            (1, lambda: stage.completing(session_id)),
            (1, lambda: stage.cancelling_session(session_id)),
        ]
        if self.tickets:
            ticket, epoch = chance.choice(self.tickets[-6:] if chance.random() < 0.8 else self.tickets)
            moves += [
                (25, lambda: stage.finishing(ticket, usage=None, epoch=epoch)),
                (
                    15,
                    lambda: stage.failing(ticket, chance.choice([*FAULTS, None]), partial=chance.choice(("", "half"))),
                ),
                (9, lambda: stage.cancelling(ticket.job_id)),
                (9, lambda: stage.releasing(ticket, chance.choice(("", "late")))),
                (3, lambda: stage.handing_back(ticket)),
                (6, lambda: self.give_up(ticket, epoch)),
            ]
        if asked := stage.desk(None):
            item = chance.choice(asked[-3:])
            moves += [(8, lambda: stage.approving(item)), (4, lambda: stage.denying(item))]
        weights, acts = zip(*moves, strict=True)
        act: Callable[[], Unit[Any]] = chance.choices(acts, weights)[0]
        return act()

    def give_up(self, ticket: RunTicket, epoch: int) -> Unit[Any]:
        chance = self.chance
        return self.stage.giving_up(
            ticket, told=chance.random() < 0.3, local_runs=chance.choice(list(LocalRuns)), epoch=epoch
        )

    def create(self) -> Unit[Any]:
        new = self.stage.new_session(lane=self.chance.choice(LANES), model_id=self.chance.choice((MODEL, "other")))
        self.sessions.append(new.session_id)
        return lambda tx: sessions.create(tx, new, max_open=100)

    def send(self, session_id: SessionId) -> Unit[Any]:
        self.turns += 1
        key = f"key-{self.chance.randrange(40)}" if self.chance.random() < 0.3 else None
        turn = self.stage.turn(
            session_id,
            f"turn {self.turns % 5}",
            idempotency_key=key,
            priority=self.chance.choice((10, 50, 90)),
            lane=self.chance.choice((None, *LANES)),
            max_retries=self.chance.randrange(3),
        )
        return self.stage.accepting(turn)

    def note(self, found: Contents) -> None:
        """Check what one step may have changed, and keep the tickets of what runs."""
        if self.before is not None:
            check_step(self.before, found)
        self.before = found
        known = {(ticket.job_id, ticket.attempt) for ticket, _ in self.tickets}
        for job in found.jobs:
            if job.state is JobState.RUNNING and (job.job_id, job.attempt) not in known:
                ticket = RunTicket(job.job_id, job.session_id, job.attempt, job.provider_id, job.model_id)
                self.tickets.append((ticket, job.runtime_epoch))
        self.check_limits(found)
        self.check_reasons(found)

    def check_limits(self, found: Contents) -> None:
        """No limit is exceeded, by what runs and by what may still be connected."""
        limits = limits_of(self.stage.settings)
        running = [job for job in found.jobs if job.state is JobState.RUNNING]
        holding = [
            (job.provider_id, job.model_id, job.concurrency_group) for job in found.jobs if job.holds_slot
        ] + self.stage.store.read_now(lambda reader: reader.rows("connections_open"))
        assert len(running) <= limits.total
        others = [job for job in running if job.lane is not LANES[0]]
        assert len(others) <= limits.total - limits.primary_reserved
        for count, limit in (
            (Counter(key[0] for key in holding), 5),
            (Counter(key[1] for key in holding), 3),
            (Counter(key[2] for key in holding if key[2]), 2),
        ):
            assert max(count.values(), default=0) <= limit

    def check_reasons(self, found: Contents) -> None:
        """What waits has a reason, and nothing waits that could start."""
        stage = self.stage
        now_us = stage.clock.now_us()
        view = stage.store.read_now(
            lambda reader: views.queue(reader, limits_of(stage.settings), dispatching=True, now_us=now_us, limit=1_000)
        )
        assert {item.job_id for item in view.items} == {
            job.job_id for job in found.jobs if job.state is JobState.QUEUED
        }
        assert not [item for item in view.items if item.wait_reason is WaitReason.READY]


def check_step(before: Contents, after: Contents) -> None:
    """Nothing that ended has changed, no job or message is gone, and no thread was overtaken."""
    jobs: dict[JobId, Job] = {job.job_id: job for job in after.jobs}
    for job in before.jobs:
        now = jobs[job.job_id]
        if job.state in TERMINAL:
            assert (now.state, now.reason, now.ended_at_us, now.answer_message_id, now.attempt) == (
                job.state, job.reason, job.ended_at_us, job.answer_message_id, job.attempt,
            )  # fmt: skip
        assert now.attempt >= job.attempt
        assert now.enqueue_seq == job.enqueue_seq
    now_sessions: dict[SessionId, Session] = {session.session_id: session for session in after.sessions}
    for session in before.sessions:
        assert session.state not in ENDED or now_sessions[session.session_id] == session
    assert len(after.messages) >= len(before.messages)
    assert {message.message_id for message in before.messages} <= {message.message_id for message in after.messages}
    for turns in answered_turns(after).values():
        assert turns == sorted(turns)


def answered_turns(found: Contents) -> dict[SessionId, list[int]]:
    """Return, per session, the turns of its answers in the order in which they were written."""
    answers: dict[SessionId, list[int]] = {}
    for message in sorted(found.messages, key=lambda one: one.seq):
        if message.role == "ASSISTANT":
            answers.setdefault(message.session_id, []).append(message.turn_seq)
    return answers


SETTINGS = settings_of(
    4, each=5, models={MODEL: ModelSettings(max_concurrent=3, group="g"), "other": ModelSettings(max_concurrent=3)}, g=2
)


@requirement(
    "session.state.is_derived", "session.state.active_iff_one_running", "session.state.terminal_is_sticky",
    "scheduler.job.transitions_closed", "scheduler.limit.is_never_exceeded", "scheduler.queue.never_drops",
    "scheduler.session.head_only", "scheduler.queue.shows_reason", "scheduler.events.on_every_step",
    "message.append.is_atomic", "recovery.lease.late_result_is_fenced", "recovery.actions.are_evented",
)  # fmt: skip
@pytest.mark.parametrize("seed", range(12))
async def test_everything_stored_follows_from_the_jobs_after_every_step(seed: int) -> None:
    game = Game(await Stage.open(SETTINGS, seed=seed), Random(seed))
    for _ in range(70):
        await game.step()
    found = game.stage.check()
    assert len(found.jobs) > 20
    assert len({job.state for job in found.jobs}) >= 4
    await drain(game)


async def drain(game: Game) -> None:
    """Let everything end that was accepted."""
    stage = game.stage
    await stage.batch(*(stage.resuming(one) for one in game.sessions))
    await stage.batch(*(stage.releasing(ticket) for ticket, _ in game.tickets))
    assert stage.store.read_now(lambda reader: reader.rows("connections_open")) == []
    for number, item in enumerate(stage.desk()):
        await stage.batch(stage.approving(item) if number % 2 else stage.denying(item))
    for _ in range(400):
        found = stage.check()
        open_jobs = [job for job in found.jobs if job.state not in TERMINAL]
        held = [job for job in found.jobs if job.holds_slot]
        if not open_jobs and not held:
            return
        stage.clock.advance(70 * SECOND_US)
        for job in held:
            ticket = stage.ticket(job.job_id)
            await stage.batch(stage.finishing(ticket) if job.state is JobState.RUNNING else stage.releasing(ticket))
        await stage.look()
    raise AssertionError("a job never ended")


@requirement("scheduler.order.is_deterministic", "scheduler.cancel.is_deterministic")
async def test_the_same_moves_give_the_same_log() -> None:
    async def log(seed: int) -> list[Any]:
        game = Game(await Stage.open(SETTINGS, seed=seed), Random(seed))
        for _ in range(60):
            await game.step()
        assert game.before is not None
        return [(event.type, event.payload) for event in game.before.events]

    for seed in (100, 101):
        assert await log(seed) == await log(seed)


# -- the checks bite --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "broken"),
    [
        ("kernel.queue.RunQueue.free_connection", lambda self, key: None),
        ("kernel.limit.Usage.full", lambda self, key, limits: None),
        ("kernel.limit.Usage.closed_to", lambda self, lane, limits: None),
        ("kernel.queue.RunQueue.hold", lambda self, session_id: None),
        ("operations.attempts.derive", lambda facts: SessionState.IDLE),
        ("operations.cancelling.derive", lambda facts: SessionState.IDLE),
        ("operations.cancelling.move", lambda job_id, before, after: JobState.FAILED),
        ("operations.outcomes.append_message", lambda *given, **named: None),
        ("operations.stalling.derive", lambda facts: SessionState.IDLE),
        ("operations.asking.withdraw", lambda tx, job_id, by: None),
    ],
)
async def test_a_broken_rule_is_noticed(rule: str, broken: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"handshake.{rule}", broken)
    noticed = False
    for seed in range(8):
        game = Game(await Stage.open(SETTINGS, seed=seed), Random(seed))
        try:
            for _ in range(60):
                await game.step()
        except (AssertionError, HandshakeError, KeyError):
            noticed = True
            break
    assert noticed
