"""Interruption: Ctrl-C and SIGTERM as the end of a scope, so that a commit is never cut while it is told."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from handshake.bootstrap import new_event_loop
from handshake.cli.border import EXIT_INTERRUPTED, Interrupted, ending_signals

T = TypeVar("T")
_SHOW_CURSOR = "\x1b[?25h"


class Interruption:
    """Notes signals; the first ends the innermost `scope`, the second ends the process: the store survives that.

    A SIGTERM lets a scope that `drains` go on for a while: what runs may end, and nothing new begins.
    """

    def __init__(self) -> None:
        self.happened = False
        self.is_draining = False
        """Whether it was a SIGTERM, and the work knows how to drain."""
        self._scopes: list[asyncio.Timeout] = []
        self._drain: Callable[[], None] | None = None
        self._drain_s = 0

    def drains(self, drain: Callable[[], None], drain_s: int) -> None:
        """On SIGTERM, call `drain` and give the scope `drain_s` seconds more, instead of ending it at once."""
        self._drain, self._drain_s = drain, drain_s

    def note(self, number: int = signal.SIGINT) -> None:
        """Take note of a signal."""
        if self.happened:
            if sys.stderr.isatty():
                sys.stderr.write(_SHOW_CURSOR)
                sys.stderr.flush()
            os._exit(EXIT_INTERRUPTED)
        self.happened = True
        span_s = 0
        if number == signal.SIGTERM and self._drain is not None:
            self.is_draining, span_s = True, self._drain_s
            self._drain()
        if self._scopes:
            self._scopes[-1].reschedule(asyncio.get_running_loop().time() + span_s)

    @asynccontextmanager
    async def scope(self) -> AsyncIterator[None]:
        """Run the body until it ends or a signal comes; one that came before counts too, and leaves time to drain.

        Raises:
            Interrupted: a signal came.
        """
        if self.happened and not self.is_draining:
            raise Interrupted
        limit = asyncio.timeout(self._drain_s if self.is_draining else None)
        try:
            async with limit:
                self._scopes.append(limit)
                try:
                    yield
                finally:
                    self._scopes.remove(limit)
        except TimeoutError:
            if limit.expired():
                raise Interrupted from None
            raise


def run_async(main: Callable[[Interruption], Coroutine[Any, Any, T]]) -> T:
    """Run `main` on a new event loop whose signals go to the interruption that it is given."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(_with_signals(main))


async def _with_signals(main: Callable[[Interruption], Coroutine[Any, Any, T]]) -> T:
    interruption = Interruption()
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, *ending_signals())
    for number in numbers:
        loop.add_signal_handler(number, interruption.note, number)
    try:
        return await main(interruption)
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
