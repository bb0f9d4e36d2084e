"""Virtual loop: an event loop on virtual time; when nothing is ready, time jumps to whatever is due next.

It has no selector, no thread and no way to the outside: the same work takes the same steps in every process.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from contextvars import Context
from math import ceil
from typing import Any, TypeVar

from handshake.testing.virtual_clock import VirtualClock

T = TypeVar("T")

MAX_VIRTUAL_US = 100 * 86_400 * 1_000_000
"""Virtual time after which a simulation is taken to wait for what never comes."""
MAX_ENDING_STEPS = 100_000
"""Turns in which the tasks that are left must end."""
MAX_STEPS = 20_000_000
"""Turns of the loop after which a simulation is taken to go round in circles."""
_US_PER_S = 1_000_000


class Stuck(Exception):
    """Nothing is ready, nothing is due, and whoever runs the loop still waits; or it has turned too often."""


class _Idle:
    """Stands where a loop waits for the outside: it moves time instead."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        """Let `timeout` seconds pass, or less if a sleeper of the clock is due before."""
        self._loop.turn(timeout)
        return []

    def close(self) -> None:
        """Nothing is open."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs tasks and timers in one order, whatever the machine does.

    Args:
        clock: whose monotonic time is the loop's; nobody else advances it, but to let a process stand still.
        max_steps: most turns.
    """

    def __init__(self, clock: VirtualClock, *, max_steps: int = MAX_STEPS) -> None:
        super().__init__()
        self._clock = clock
        self._selector = _Idle(self)
        self._clock_resolution = 1 / _US_PER_S
        self._max_steps = max_steps
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._fatal: BaseException | None = None
        self.steps = 0
        """Turns so far."""
        self.set_task_factory(_numbered)  # type: ignore[arg-type]

    def time(self) -> float:
        """Return virtual seconds since the loop was made."""
        return self._clock.monotonic_us() / _US_PER_S

    def allow(self, steps: int) -> None:
        """Let the loop turn `steps` times more, whatever it did before, and forget what should stop it."""
        self._max_steps = self.steps + steps
        self._fatal = None

    def stop_with(self, failure: BaseException) -> None:
        """Let whoever runs the loop fail at its next turn."""
        self._fatal = failure

    def turn(self, timeout: float | None) -> None:
        """Count a turn, and let time pass until something is due, `timeout` seconds at most.

        Raises:
            Stuck: nothing will ever be due, or there were too many turns.
        """
        if self._fatal is not None:
            fatal, self._fatal = self._fatal, None
            raise fatal
        self.steps += 1
        if self.steps > self._max_steps:
            raise Stuck(f"more than {self._max_steps} turns of the loop")
        if timeout is not None and timeout <= 0:
            return
        if self._clock.monotonic_us() > MAX_VIRTUAL_US:
            raise Stuck("more virtual time than any scenario takes")
        due = self._clock.next_due_us()
        waits = [] if timeout is None else [ceil(timeout * _US_PER_S)]
        if due is not None:
            waits.append(max(0, due))
        if not waits:
            raise Stuck("nothing is ready and nothing is due")
        self._clock.advance(min(waits))

    def remember(self, task: asyncio.Task[Any]) -> None:
        """Keep a task in order of its making until it is done; a weak set would forget the order."""
        self._tasks[task] = None
        task.add_done_callback(self._forget)

    def unfinished(self) -> list[asyncio.Task[Any]]:
        """Return the tasks that are not done, in order of their making."""
        return [task for task in self._tasks if not task.done()]

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Call the function at once: there is no other thread."""
        answer: asyncio.Future[T] = self.create_future()
        try:
            answer.set_result(func(*args))
        except Exception as failure:  # noqa: BLE001  (it is handed on to whoever awaits the answer)
            answer.set_exception(failure)
        return answer

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)

    def _process_events(self, event_list: list[Any]) -> None:
        """Nothing comes from the outside."""

    def _write_to_self(self) -> None:
        """Nobody waits for the outside, so nobody has to be woken."""


def _numbered(
    loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, T], *, context: Context | None = None, **rest: Any
) -> asyncio.Task[T]:
    task = asyncio.Task(coro, loop=loop, context=context, **rest)
    assert isinstance(loop, VirtualLoop), "only virtual loops make tasks here"
    loop.remember(task)
    return task


def run_virtually(main: Coroutine[Any, Any, T], loop: VirtualLoop) -> T:
    """Run `main` to its end and close the loop; whatever still runs then is cancelled, in order.

    Objects are not collected meanwhile: when a cycle is found depends on what the process did before, and what
    its members do at their end would come at another step.

    Raises:
        Stuck: it cannot end.
    """
    was_collecting = gc.isenabled()
    gc.disable()
    try:
        return loop.run_until_complete(main)
    finally:
        try:
            _end_rest(loop)
        finally:
            loop.close()
            if was_collecting:
                gc.enable()


def _end_rest(loop: VirtualLoop) -> None:
    """Cancel what still runs, and let it end."""
    loop.allow(MAX_ENDING_STEPS)
    rest = loop.unfinished()
    for task in rest:
        task.cancel()
    if rest:
        loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
