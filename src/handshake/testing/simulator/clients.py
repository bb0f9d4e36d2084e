"""Clients: who sends turns, waits, cancels, pauses and comes again after a crash, as the scenario says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from random import Random

from handshake.kernel.capability import Axis
from handshake.kernel.errors import Conflict, Integrity, InvalidTransition, Unavailable
from handshake.kernel.ids import JobId
from handshake.kernel.job import TERMINAL, JobState
from handshake.operations.feed import Over, Text
from handshake.testing.simulator.observer import MARK
from handshake.testing.simulator.reply_bytes import around, text_of
from handshake.testing.simulator.scenario import ClientPlan, SessionPlan
from handshake.testing.simulator.violation import Violation, require
from handshake.testing.simulator.world import Life, World
from handshake.workspace import SessionHandle, TurnHandle

RETRY_MS = 700
"""Wait before something that could not be stored is asked for again."""
MEMORY_POLICY = "EPHEMERAL"


class Told:
    """What clients were told; a set of it is part of the history."""

    def __init__(self) -> None:
        self.accepted: dict[str, str] = {}
        """Names of turns and their jobs."""
        self.ended: dict[str, JobState] = {}
        self.cancels = 0
        self.refused_cancels = 0
        self.retries = 0

    def over(self, job_id: str, state: JobState) -> None:
        """Take note of how a job ended."""
        before = self.ended.setdefault(job_id, state)
        require(before is state, "session.state.terminal_is_sticky", f"told {before.value}, then {state.value}", job_id)


class Conversation:
    """One client in one session.

    Args:
        world: where.
        told: what all clients were told.
        name: of the session, unique in the scenario.
        number: of the session, which its id is made from.
        session: what kind of session.
        client: what is done in it.
        chance: draws everything.
    """

    def __init__(
        self, world: World, told: Told, name: str, number: int, session: SessionPlan, client: ClientPlan, chance: Random
    ) -> None:
        self._world = world
        self._told = told
        self._name = name
        self._id = f"00000000-0000-7000-8000-{number:09x}000"
        self._session = session
        self._client = client
        self._chance = chance
        self._following: list[asyncio.Task[None]] = []

    async def act(self) -> None:
        """Do everything, and end the session."""
        await self._guarded(self._act())

    async def _act(self) -> None:
        client = self._client
        await self._sleep(around(self._chance, client.start_ms) if client.gap_ms else client.start_ms)
        await self._create()
        for number in range(client.turns):
            name = f"{self._name}-{number}"
            job_id = await self._send(name)
            following = self._world.keep(self._guarded(self._follow(job_id)))
            self._following.append(following)
            if self._chance.random() * 100 < client.cancel_percent:
                self._following.append(self._world.keep(self._guarded(self._cancel(job_id))))
            if self._chance.random() * 100 < client.pause_percent:
                self._following.append(self._world.keep(self._guarded(self._pause())))
            if self._chance_of(client.revoke_percent):
                self._following.append(self._world.keep(self._guarded(self._revoke())))
            if client.waits:
                await following
            await self._sleep(around(self._chance, client.gap_ms))
        ends_early = self._chance.random() * 100 < client.end_percent
        if not ends_early:
            for one in self._following:
                await one
        await self._end(cancel=ends_early)
        for one in self._following:
            await one

    async def _guarded(self, work: Awaitable[None]) -> None:
        """Do something, and report what it was told that nobody should be told."""
        try:
            await work
        except Violation as broken:
            self._world.report(broken)
        except Integrity as told:
            self._world.report(Violation("recovery.batch.rollback_is_whole", f"a client was told {told}"))

    async def _sleep(self, span_ms: int) -> None:
        if span_ms:
            await asyncio.sleep(span_ms / 1_000)

    async def _again(self, life: Life) -> None:
        """Wait after a refusal that may pass: the disk is full, or the runtime is gone."""
        del life
        self._told.retries += 1
        await self._sleep(RETRY_MS)

    def _handle(self, life: Life) -> SessionHandle:
        return life.workspace.sessions.get(self._id)

    async def _create(self) -> None:
        plan = self._session
        self._world.spending.limit_session(self._id, tokens=plan.budget_tokens, calls=plan.budget_calls)
        while True:
            life = await self._world.up()
            try:
                await life.workspace.sessions.create(
                    role=plan.role, model=plan.model, memory_policy=MEMORY_POLICY, lane=plan.lane.value, wp=plan.wp,
                    session_id=self._id, budget_tokens=plan.budget_tokens, budget_calls=plan.budget_calls,
                    grants=plan.grants,
                )  # fmt: skip
                return
            except Conflict:  # it was stored, and the runtime died before it said so
                return
            except Unavailable:
                await self._again(life)

    async def _send(self, name: str) -> str:
        text = f"{MARK} {name} {text_of(self._chance, self._client.words)}"
        twice = self._chance.random() * 100 < self._client.repeat_percent
        while True:
            life = await self._world.up()
            was_known = self._world.history.knows(text)
            try:
                turn = await self._turn(life, name, text)
                known = self._told.accepted.setdefault(name, turn.job_id)
                same = known == turn.job_id
                require(same, "scheduler.idempotency.same_key_same_job", "one key, two jobs", turn.job_id)
                if not twice:
                    return turn.job_id
                twice = False
            except Unavailable as refused:
                died = refused.context.get("reason") == "closed"
                whole = died or was_known or not self._world.history.knows(text)
                require(whole, "recorder.disk_full.fails_whole", "a turn was refused and stored all the same", name)
                await self._again(life)

    async def _turn(self, life: Life, name: str, text: str) -> TurnHandle:
        client = self._client
        return await self._handle(life).send(
            text, priority=client.priority, timeout_ms=client.timeout_ms, idempotency_key=name,
            max_output_tokens=client.max_output_tokens,
        )  # fmt: skip

    async def _follow(self, job_id: str) -> None:
        """Listen to a turn until it is over, in as many lives as that takes."""
        while True:
            life = await self._world.up()
            listening = life.runtime.feeds.listen(_job(job_id))
            try:
                state = (await life.workspace.job(job_id)).state
                if state in TERMINAL:
                    self._told.over(job_id, state)
                    return
                async for piece in listening:
                    if isinstance(piece, Text):
                        self._hear(job_id)
                    elif isinstance(piece, Over):
                        if not self._went_on(job_id):  # else it is a later run of the turn that ended so
                            self._told.over(job_id, piece.state)
                        return
            except Unavailable:
                await self._again(life)
            finally:
                life.runtime.feeds.leave(_job(job_id), listening)

    def _hear(self, job_id: str) -> None:
        job = self._world.journal.running_of_turn(self._world.journal.jobs[job_id])
        if job.state is JobState.RUNNING and not job.at_tools:
            job.handed_on = True

    def _went_on(self, job_id: str) -> bool:
        """Return whether the turn that a run began has gone on with another."""
        job = self._world.journal.jobs.get(job_id)
        return job is not None and job.at_tools

    async def _cancel(self, job_id: str) -> None:
        """Cancel a turn at some moment of its life, and perhaps once more."""
        await self._sleep(around(self._chance, 2 * self._client.gap_ms + 1_000))
        again = self._chance.random() * 100 < self._client.cancel_again_percent
        while True:
            life = await self._world.up()
            try:
                state = (await life.workspace.job(job_id)).state
                await life.workspace.cancel_job(job_id)
            except InvalidTransition:
                self._told.refused_cancels += 1
            except Conflict:  # something else moved it in the same moment
                await self._again(life)
                continue
            except Unavailable:
                await self._again(life)
                continue
            else:
                self._told.cancels += 1
                if not self._went_on(job_id):
                    self._told.over(job_id, JobState.CANCELLED)
                    fits = state not in TERMINAL or state is JobState.CANCELLED
                    require(fits, "session.state.terminal_is_sticky", f"a {state.value} job was cancelled", job_id)
            if not again:
                return
            again = False
            await self._sleep(around(self._chance, 1_000))

    async def _pause(self) -> None:
        """Pause the session for a while."""
        for verb in ("pause", "resume"):
            while True:
                life = await self._world.up()
                try:
                    await getattr(self._handle(life), verb)()
                    break
                except Conflict:  # it has ended
                    return
                except Unavailable:
                    await self._again(life)
            if verb == "pause":
                await self._sleep(around(self._chance, self._client.pause_ms))

    def _chance_of(self, percent: int) -> bool:
        """Draw, but only where there is something to be drawn: other scenarios keep their history."""
        return percent > 0 and self._chance.random() * 100 < percent

    async def _revoke(self) -> None:
        """Take back all that the session was given but its model, at some moment."""
        await self._sleep(around(self._chance, self._client.gap_ms))
        while True:
            life = await self._world.up()
            try:
                held = await life.workspace.grants.list(self._id)
                for one in (view.grant for view in held if view.grant.capability.axis != Axis.MODEL_LOCAL):
                    self._world.tools.names[one.grant_id] = str(one.capability)
                    await life.workspace.grants.revoke(one.grant_id)
                return
            except Conflict:  # somebody else took it back
                return
            except Unavailable:
                await self._again(life)

    async def _end(self, *, cancel: bool) -> None:
        while True:
            life = await self._world.up()
            try:
                handle = self._handle(life)
                await (handle.cancel() if cancel else handle.complete())
                return
            except InvalidTransition:  # it was stored, and the runtime died before it said so
                return
            except (Conflict, Unavailable):
                await self._again(life)


def _job(job_id: str) -> JobId:
    return JobId(job_id)
