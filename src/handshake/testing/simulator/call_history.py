"""Call history: judges the calls that reached providers: whose they are, how many at once, and when they end."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import msgspec

from handshake.kernel.errors import ProviderTimeout
from handshake.kernel.job import JobState
from handshake.kernel.message import MessageRole
from handshake.testing.simulator.journal import Journal, ToldEvent, ToldJob
from handshake.testing.simulator.scripted_provider import Call, Listener
from handshake.testing.simulator.slot_bounds import SlotBounds, SlotCount
from handshake.testing.simulator.spending_check import SpendingCheck
from handshake.testing.simulator.violation import Violation, require
from handshake.testing.virtual_clock import VirtualClock

PROMPT_US = 1_000_000
"""From a cancel to a closed connection (01 §6)."""
SOON_US = 200_000
"""From the end of a call to its stored outcome, if nothing is wrong with the disk."""
LEASE_LOOK_US = 12_000_000
"""How much longer than a lease an attempt may last before somebody looks."""
OVERTIME_US = 4_000_000
"""What a call may last beyond its limit: reading an error's body, and closing."""
_ANSWERED = frozenset({JobState.COMPLETED, JobState.COMPLETED_WITH_ISSUES})


class _Turn(msgspec.Struct):
    """What of a turn a request holds."""

    messages: int = 0
    """Each result stands in the place of its call, so only calls are counted."""
    is_answered: bool = False


class CallHistory(Listener):
    """Every call of all providers.

    Args:
        journal: sessions and jobs as the log tells them.
        bounds: the limits of the settings.
        spending: counts what calls take.
        clock: the time.
        report: takes what does not hold; a provider cannot raise into the client that calls it.
    """

    def __init__(
        self,
        journal: Journal,
        bounds: SlotBounds,
        spending: SpendingCheck,
        clock: VirtualClock,
        report: Callable[[Violation], None],
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._report = report
        self._by_content: dict[str, str] = {}
        self._open: dict[int, tuple[Call, ToldJob, int]] = {}
        self._slots = SlotCount(bounds)
        self._spending = spending
        self._said: list[tuple[str, MessageRole]] = []
        """Messages that were not counted yet; the log tells a turn's input before its job."""
        self._turns: defaultdict[str, dict[int, _Turn]] = defaultdict(dict)
        """What was said in each turn of each session."""
        self._attempts: set[tuple[str, int]] = set()
        self._bodies: dict[str, str] = {}
        self._cancelled_us: dict[str, int] = {}
        self._begun_us: dict[str, int] = {}
        self._unsettled: dict[str, tuple[int, int]] = {}
        """Attempts whose calls ended, by job, and when."""
        self._grace_ms = bounds.lease_grace_ms
        self._shortest_ms = min(bounds.calls.first_byte_ms, bounds.calls.idle_ms)
        self.digest = hashlib.sha256()
        """Over all calls, as they ended."""
        self.calls = 0
        self.most_at_once = 0
        self.stood_us = 0
        """How long the process stood still in all: time that it cannot have used."""

    @property
    def open_calls(self) -> int:
        """How many connections are open."""
        return len(self._open)

    def hear(self, event: ToldEvent) -> None:
        """Take note of an event that was committed."""
        if event.type == "session.message" and event.job_id is not None:
            if event.payload["role"] == MessageRole.USER:
                self._by_content[event.payload["content_hash"]] = event.job_id
            self._said.append((event.job_id, MessageRole(event.payload["role"])))
        elif event.type == "session_scheduler.dispatch":
            waiting = self.waiting_outcome()
            require(waiting is None, "recovery.outcome.never_lost", "a run started while an outcome waits", waiting)
        elif event.type == "llm_inference" and event.payload.get("error_code") == ProviderTimeout.code:
            self._require_late(event.job_id)
        elif event.type == "session_scheduler.cancelled" and event.job_id is not None:
            self._cancelled_us[event.job_id] = self._clock.monotonic_us() + self.stood_us

    def waiting_outcome(self) -> str | None:
        """Return a job whose call is over and whose outcome has not been stored for a while, or None."""
        now_us = self._clock.monotonic_us() - self.stood_us
        for job_id, (attempt, ended_us) in list(self._unsettled.items()):
            job = self._journal.jobs[job_id]
            if job.state is not JobState.RUNNING or job.attempt != attempt or job.failing or job.at_tools:
                del self._unsettled[job_id]
            elif now_us - ended_us > SOON_US:
                return job_id
        return None

    def restarted(self) -> None:
        """Take note of a new life: what the last one knew of ended calls is gone with it."""
        self._unsettled.clear()

    def knows(self, text: str) -> bool:
        """Return whether a turn of this text was accepted."""
        return hashlib.sha256(text.encode()).hexdigest() in self._by_content

    def _require_late(self, job_id: str | None) -> None:
        """A call that was cut as too slow has lasted as long as the shortest of its limits, on a clock nobody sets."""
        begun_us = self._begun_us.get(job_id or "")
        job = self._journal.jobs.get(job_id or "")
        if begun_us is None or job is None:
            return
        lasted_ms = (self._clock.monotonic_us() - begun_us) // 1_000
        late = lasted_ms >= min(job.timeout_ms, self._shortest_ms)
        require(late, "recovery.clock.jumps_are_harmless", f"cut as too slow after {lasted_ms} ms", job_id)

    def call_began(self, call: Call) -> None:
        """Judge a call that arrived."""
        try:
            self._began(call)
        except Violation as broken:
            self._report(broken)

    def call_ended(self, call: Call) -> None:
        """Judge a call whose connection is closed."""
        try:
            self._ended(call)
        except Violation as broken:
            self._report(broken)

    def _began(self, call: Call) -> None:
        known = "scheduler.path.is_single"
        content = hashlib.sha256(call.said.encode()).hexdigest()
        first = self._journal.jobs.get(self._by_content.get(content, ""))
        if first is None:
            raise Violation(known, "a call that belongs to no job", call.number)
        job = self._journal.running_of_turn(first)
        require(job.state is JobState.RUNNING, known, f"a call for a job that is {job.state.value}", job.job_id)
        again = job.at_tools
        require(not again, "scheduler.tools.resume_without_second_call", "a run at its tools called", job.job_id)
        named = (job.key.provider_id, job.key.model_id) == (call.provider_id, call.model_id)
        require(named, known, "a call to another model than the session's", job.job_id)
        attempt = (job.job_id, job.attempt)
        require(attempt not in self._attempts, known, "a second call of one attempt", job.job_id)
        self._attempts.add(attempt)
        self._require_thread(call, job)
        self._spending.called(job, call)
        self._open[id(call)] = (call, job, job.attempt)
        self._begun_us[job.job_id] = call.begun_us
        self.calls += 1
        self.most_at_once = max(self.most_at_once, len(self._open))
        self._slots.add(job.key, 1)
        over = self._slots.over(job.key)
        require(over is None, "scheduler.limit.is_never_exceeded", f"too many calls at once at {over}", job.job_id)

    def _require_thread(self, call: Call, job: ToldJob) -> None:
        """The request holds the session's answered turns and its own, and is the same for every attempt."""
        self._count_said()
        turns = self._turns[job.session_id]
        own = turns.get(job.turn_seq, _Turn())
        earlier = [one.messages for turn_seq, one in turns.items() if turn_seq < job.turn_seq and one.is_answered]
        expected = own.messages + sum(earlier)
        known = "scheduler.session.head_only"
        require(call.messages == expected, known, f"{call.messages} messages instead of {expected}", job.job_id)
        digest = hashlib.sha256(_thread_of(call.body)).hexdigest()
        same = self._bodies.setdefault(job.job_id, digest) == digest
        require(same, "message.thread.rebuilds_same_bytes", "another attempt sent another request", job.job_id)

    def _count_said(self) -> None:
        for job_id, role in self._said:
            job = self._journal.jobs[job_id]
            turn = self._turns[job.session_id].setdefault(job.turn_seq, _Turn())
            turn.messages += role is not MessageRole.TOOL_RESULT
            turn.is_answered = role is MessageRole.ASSISTANT
        self._said.clear()

    def _ended(self, call: Call) -> None:
        opened = self._open.pop(id(call), None)
        if opened is None or call.ended_us is None:
            return
        _, job, attempt = opened
        self._slots.add(job.key, -1)
        self._unsettled[job.job_id] = (attempt, call.ended_us - self.stood_us)
        seen = (call.provider_id, call.number, job.job_id, attempt, call.begun_us, call.ended_us, call.sent_bytes)
        self.digest.update(repr((seen, self._bodies[job.job_id])).encode())
        lasted_us = call.ended_us - call.begun_us
        if call.stuck:  # nobody could cut it, so its run is given up
            late_us = lasted_us - self.stood_us - (job.timeout_ms + self._grace_ms) * 1_000
            its_own = job.state is JobState.RUNNING and job.attempt == attempt
            fenced = late_us <= LEASE_LOOK_US or not its_own
            require(fenced, "recovery.lease.late_result_is_fenced", "a worker kept its run past its lease", job.job_id)
            return
        in_time = lasted_us <= job.timeout_ms * 1_000 + OVERTIME_US + self.stood_us
        require(in_time, "scheduler.timeout.is_enforced", f"a call lasted {lasted_us // 1_000} ms", job.job_id)
        cancelled_us = self._cancelled_us.get(job.job_id)
        if cancelled_us is not None:
            late_us = call.ended_us + self.stood_us - cancelled_us
            prompt = late_us <= PROMPT_US + self.stood_us
            require(prompt, "scheduler.cancel.is_prompt", f"closed {late_us // 1_000} ms after a cancel", job.job_id)


def _thread_of(body: bytes) -> bytes:
    """Return a request without the tools that it offers, which may be others after a grant was taken back."""
    told: dict[str, Any] = msgspec.json.decode(body)
    return body if told.pop("tools", None) is None else msgspec.json.encode(told, order="sorted")
