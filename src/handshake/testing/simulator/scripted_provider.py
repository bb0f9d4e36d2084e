"""Scripted provider: answers calls by its plan and the weather, and keeps a record of every call that reached it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from random import Random

import msgspec

from handshake.kernel.ids import ProviderId
from handshake.kernel.tool_message import CalledTool
from handshake.kernel.units import US_PER_MS, US_PER_S
from handshake.testing.replies import head
from handshake.testing.simulator.memory_transport import Wire
from handshake.testing.simulator.reply_bytes import RESET, Step, around, calls_of, drawn, reply
from handshake.testing.simulator.scenario import AnswerPlan, Form, Scenario
from handshake.testing.virtual_clock import VirtualClock

_NO_SUCH_PAGE = head(404, headers=[("content-length", "0")])


class _Said(msgspec.Struct, frozen=True):
    role: str
    content: str | None
    """None beside calls."""


class _Request(msgspec.Struct, frozen=True):
    messages: list[_Said]
    model: str
    max_tokens: int | None = None


class Call(msgspec.Struct, eq=False):
    """One call as the provider saw it; times in microseconds of the monotonic clock."""

    number: int
    provider_id: str
    model_id: str
    said: str
    """What its client said last."""
    messages: int
    body: bytes
    begun_us: int
    answer: str
    status: int = 200
    retry_after_us: int | None = None
    sent_bytes: int = 0
    ended_us: int | None = None
    """When its connection was closed, by whomever."""
    stuck: bool = False
    """Whether the adapter does not come back for a long time."""
    broken: bool = False
    """Whether the provider had broken the connection."""
    calls: tuple[CalledTool, ...] = ()
    """The tools that its answer asks for, if it comes whole."""


class Listener:
    """Who hears of calls; this one does not care."""

    def call_began(self, call: Call) -> None:
        """Hear that a call arrived."""

    def call_ended(self, call: Call) -> None:
        """Hear that its connection is closed."""


class ScriptedProvider:
    """One provider of a scenario.

    Args:
        provider_id: which.
        scenario: its answers, their weights, and the weather.
        chance: draws which answer a call gets, and all its lengths.
        clock: the time.
        listener: hears of every call.
    """

    def __init__(
        self, provider_id: ProviderId, scenario: Scenario, chance: Random, clock: VirtualClock, listener: Listener
    ) -> None:
        self._id = provider_id
        self._scenario = scenario
        self._weights = {name: weight for name, weight in scenario.providers[provider_id].answers.items() if weight}
        self._weather = [one for one in scenario.weather.values() if one.provider == provider_id]
        self._chance = chance
        self._clock = clock
        self._listener = listener
        self._open: dict[int, _Connection] = {}
        self._next: tuple[str, AnswerPlan] | None = None
        self.calls = 0

    def connect(self) -> bool:
        """Return whether a connection is taken: the answer of the next call is drawn now."""
        self._next = self._draw()
        return self._next[1].form is not Form.REFUSE

    def request(self, wire: Wire, method: str, path: str, body: bytes | None) -> object:
        """Take a request, and answer it as time goes on."""
        if method == "GET" or body is None:
            wire.feed(_NO_SUCH_PAGE)
            wire.end(reset=False)
            return None
        assert self._next is not None, "a connection comes first"
        name, plan = self._next
        asked = msgspec.json.decode(body, type=_Request)
        self.calls += 1
        now_us = self._clock.monotonic_us()
        said = next((one.content or "" for one in reversed(asked.messages) if one.role == "user"), "")
        call = Call(self.calls, self._id, asked.model, said, len(asked.messages), body, now_us, name)
        if plan.form is Form.STATUS:
            call.status = plan.status
            call.retry_after_us = None if plan.retry_after_s is None else plan.retry_after_s * US_PER_S
        if plan.form is Form.STUCK:
            call.stuck = True
            wire.stuck_until_s = asyncio.get_running_loop().time() + around(self._chance, plan.first_byte_ms) / 1_000
        chance = Random(self._chance.random())
        call.calls = calls_of(plan, self._scenario.calls, chance)
        self._listener.call_began(call)
        tokens = sum(1 + (one.content or "").count(" ") for one in asked.messages)
        steps = reply(plan, chance, tokens, call.calls)
        connection = _Connection(call, wire, steps, hangs=plan.form is Form.HANG)
        self._open[call.number] = connection
        connection.go_on()
        return connection

    def hang_up(self, call: object) -> None:
        """Note that the client closed the connection of a call."""
        if isinstance(call, _Connection) and self._open.pop(call.call.number, None) is not None:
            call.stop()
            call.call.ended_us = self._clock.monotonic_us()
            self._listener.call_ended(call.call)

    def lose_all(self) -> None:
        """Lose every connection, as when the client's machine dies."""
        for connection in list(self._open.values()):
            self.hang_up(connection)

    def break_all(self) -> None:
        """Break every connection, as a network does whose client slept."""
        for connection in list(self._open.values()):
            connection.break_off()

    def _draw(self) -> tuple[str, AnswerPlan]:
        now_ms = self._clock.monotonic_us() // US_PER_MS
        point = self._chance.random()
        for one in self._weather:
            if one.from_ms <= now_ms < one.from_ms + one.for_ms and point * 100 < one.percent:
                return one.answer, self._scenario.answers[one.answer]
        name = drawn(self._weights, self._chance)
        return name, self._scenario.answers[name]


class _Connection:
    """One answer on its way."""

    def __init__(self, call: Call, wire: Wire, steps: Iterator[Step], *, hangs: bool) -> None:
        self.call = call
        self._wire = wire
        self._steps = steps
        self._hangs = hangs
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.Handle | None = None
        self._send: Callable[[], None] | None = None

    def go_on(self) -> None:
        """Arrange the next step."""
        step = next(self._steps, None)
        if step is None:
            if not self._hangs:
                self._wire.end(reset=False)
            return
        wait_us, data = step

        def act() -> None:
            self._timer = None
            if data is RESET:
                self.call.broken = True
                self._wire.end(reset=True)
                return
            self.call.sent_bytes += len(data)
            self._wire.feed(data)
            if self._wire.is_full:
                self._wire.drained = self.go_on
            else:
                self.go_on()

        if wait_us:
            self._timer = self._loop.call_later(wait_us / US_PER_S, act)
        else:
            self._timer = self._loop.call_soon(act)

    def break_off(self) -> None:
        """Reset the connection now."""
        self.stop()
        self.call.broken = True
        self._wire.end(reset=True)

    def stop(self) -> None:
        """Send nothing more."""
        self._wire.drained = None
        self._wire.stuck_until_s = None
        if self._timer is not None:
            self._timer.cancel()
